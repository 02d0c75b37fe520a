"""What a model returns: logits, or something that holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

Output = str | int | Callable[[Any], Tensor] | None  # a key or attribute, an index, a function; None: the usual places


def logits_of(answer: Any, output: Output = None) -> Tensor:
    """The logits [N, C] in a model's answer.

    Args:
        answer: what the model returned.
        output: where they are in it: a key or an attribute's name, an index, or a function of it. None accepts a tensor itself,
            an entry called "logits", or the only item.

    Raises:
        TypeError: if they are not there; names what is there instead.

    >>> import torch
    >>> logits = torch.zeros(1, 2)
    >>> all(logits_of(answer) is logits for answer in (logits, (logits,), {"logits": logits, "loss": None}))
    True
    >>> logits_of((None, logits), 1) is logits
    True
    """
    found = answer
    if callable(output):
        found = output(answer)
    elif output is not None:
        found = _item(answer, output)
    elif not isinstance(answer, Tensor):
        found = _item(answer, "logits")
        if found is None and isinstance(answer, (Mapping, Sequence)) and len(answer) == 1:
            found = next(iter(answer.values())) if isinstance(answer, Mapping) else answer[0]
    if isinstance(found, Tensor):
        return found
    asked = "" if output is None else f", whose output {output!r} is {'missing' if found is None else type(found).__name__}"
    raise TypeError(
        f"the model returns {_told(answer)}{asked}; logits [N, C] are needed: give output= as their key, index or a function"
    )


def _item(answer: Any, where: str | int) -> Any:
    try:
        return answer[where]
    except (KeyError, IndexError, TypeError):
        return getattr(answer, where, None) if isinstance(where, str) else None


def _told(answer: Any) -> str:
    kind = type(answer).__name__
    if isinstance(answer, Mapping):
        return f"{kind} with the keys {', '.join(map(repr, answer))}"
    if isinstance(answer, Sequence) and not isinstance(answer, str):
        return f"{kind} of {len(answer)}"
    return f"a tensor {list(answer.shape)}" if isinstance(answer, Tensor) else kind


class Answering(nn.Module):
    """Wraps a model so that it returns its logits: see :func:`logits_of`."""

    def __init__(self, model: nn.Module, output: Output) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, x: Tensor) -> Tensor:  # [N, ...] -> [N, C]
        return logits_of(self.model(x), self.output)


def answering(model: Callable[[Tensor], Any], output: Output = None) -> Callable[[Tensor], Tensor]:
    """The model, or function, wrapped to return its logits."""
    if isinstance(model, nn.Module):
        return Answering(model, output)
    return lambda x: logits_of(model(x), output)
