"""Bad command lines drawn from a grammar, and a tiny workspace to run them in.

A line is a command with settings under which it takes a moment, and one or two keys of its configuration with hostile values.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from ro_fast.cli import COMMANDS
from ro_fast.cli.help import GROUPS, descriptions
from ro_fast.errors import InputError

from .trial import Line, ended

NUMBERS = (
    *("nan", "inf", "-inf", "-1", "0", "0.5", "2.5", "1e400", "-1e400", "1e-400", "0x10"),
    *(str(10**12), str(10**30), str(-(10**30))),
)
TEXTS = (
    *("", "null", "true", "none", "~", "auto", "x" * 300, "画像", "é\u202e", "../..", "\x01\x07", "a\tb", "a b"),
    *("'", '"', "\\", "%s", "a=b", "a,b", "(a)", "a#b;c&d"),
)
YAML = (
    *("[]", "{}", "[1,2,3]", "[nan]", "['']", "{a: 1}", "{name: 2}", "[[1]]", "[1", "{a"),
    *("${x}", "${out}", "${", "!!python/object:x", "*x", "&x 1"),
)
VALUES = (*NUMBERS, *TEXTS, *YAML)
ODD = (
    *("foo=1", "trainer.foo=1", "+foo=1", "++foo=1", "~out", "~trainer.lr", "x", "=", "=1", "a.b.c=1", "trainer=x"),
    *("data=", "model=[]", "@x=1", "suite.rules=1", "suite.rules.min_gap=x", "method.kappa=1", "--fly", "--cfg", "--cfg=x"),
)
DATA = ("data.train_size=40", "data.val_size=20", "data.test_size=20")
RUN = (
    *(*DATA, "model.width=2", "attack.steps=1", "trainer.epochs=1", "trainer.eval_steps=1", "threads=1", "device=cpu"),
    *("out=out", "teachers=teachers"),
)
TINY: dict[str, tuple[str, ...]] = {
    "train": RUN,
    "ablate": (*RUN, "jobs=1", "seeds=1", "trainer.epochs=2", "prefixes=prefixes"),
    "prototype": (*RUN, "jobs=1", "seeds=1", "trainer.epochs=2", "prefixes=prefixes"),
    "check": (*DATA, "threads=1", "out=out"),
    "evaluate": (
        *("checkpoint=run/last.pt", "out=out", "samples=10", "steps=1", "apgd_steps=1", "targets=1", "queries=1", "threads=1"),
    ),
    "export": ("checkpoint=run", "out=out"),
    "watch": ("curve=run",),
    "report": ("run=run",),
    "bench": ("groups=[mlps]", "out=out"),
}


def lines(count: int, seed: int) -> Iterator[Line]:
    """Command lines, the same ones for the same seed."""
    draw = random.Random(seed)
    for _ in range(count):
        command = draw.choices(list(TINY), [4, 4, 3, 1, 2, 1, 1, 1, 1])[0]
        schema = COMMANDS[command].schema
        assert schema is not None
        names = {field.name for field in dataclasses.fields(schema)}
        keys = [*descriptions(schema), *(group for group in GROUPS if group in names)]
        bad = [draw.choice(ODD) if draw.random() < 0.1 else f"{draw.choice(keys)}={draw.choice(VALUES)}"]
        if "suite" in names and draw.random() < 0.15:
            change = f"{{{draw.choice(keys)}: {draw.choice(VALUES)}}}"
            bad = [f"suite.arms=[{{name: baseline, role: baseline}},{{name: b, set: {change}}}]", "suite.claims=[]"]
        if draw.random() < 0.2:
            bad.append(f"{draw.choice(keys)}={draw.choice(VALUES)}")
        given = {argument.partition("=")[0] for argument in bad}
        yield (command, *(a for a in TINY[command] if a.partition("=")[0] not in given), *bad)


@contextlib.contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """Moves into a folder deep enough for ../.., with a finished run; suites end where their work would begin."""
    place, before = folder / "a" / "b" / "c", Path.cwd()
    place.mkdir(parents=True)

    def begun(*_: object, **__: object) -> None:
        raise InputError("the work would begin")

    with contextlib.ExitStack() as patched:
        patched.callback(os.chdir, before)
        os.chdir(place)
        made = ended(("train", *(a for a in RUN if not a.startswith("out=")), "out=run"), place)
        assert made.code == 0, made.stderr
        for name in ("suite.run.ablate", "prototype.run.check"):
            patched.enter_context(mock.patch(f"ro_fast.{name}", begun))
        patched.enter_context(mock.patch("ro_fast.benchmarks.run.GROUPS", {"mlps": lambda: iter(())}))
        patched.enter_context(mock.patch.dict(os.environ, {"HYDRA_FULL_ERROR": os.environ.get("HYDRA_FULL_ERROR", "")}))
        yield place
