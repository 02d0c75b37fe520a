"""Mitigations that are each among the best are tried together, in twos and threes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ro_fast.config import ArmConfig, RankingConfig
from ro_fast.errors import InputError
from ro_fast.findings.overfitting import BASELINE
from ro_fast.findings.ranking import COMBINED, FIRST, HELPS, Ranked
from ro_fast.methods import build_method

Changes = Mapping[str, Any]


def combinations(arms: Sequence[ArmConfig], ranking: Sequence[Ranked], rules: RankingConfig) -> list[ArmConfig]:
    """Arms that join the best ``rules.combine`` mitigations that help, in twos and threes.

    Taken in the order of the lower bound of their gain over their cost, leaving out any that can't be joined with those taken
    before: two methods, or two values of one key. Those that are compared with another arm than the baseline aren't taken.

    Args:
        arms: of the suite; if there are combinations among them, none is added.
        ranking: of what was trained.
        rules: of the ranking.
    """
    if any(arm.role == COMBINED for arm in arms):
        return []
    changes = {arm.name: arm.set for arm in arms}
    helping = [entry for entry in ranking if entry.verdict in (FIRST, HELPS) and entry.against == BASELINE]
    taken: list[Ranked] = []
    for entry in sorted(helping, key=lambda entry: -(entry.score or 0.0)):
        if len(taken) < rules.combine and joined([changes[one.name] for one in (*taken, entry)]) is not None:
            taken.append(entry)
    added = []
    for several in (each for size in (2, 3) for each in itertools.combinations(taken, size)):
        name = "_and_".join(entry.name for entry in several)
        factor = " + ".join(entry.factor or entry.name for entry in several)
        added.append(ArmConfig(name=name, role=COMBINED, factor=factor, set=joined([changes[one.name] for one in several]) or {}))
    return added


def joined(several: Sequence[Changes]) -> dict[str, Any] | None:
    """What arms change together; None if they can't be joined.

    >>> joined([{"method": {"name": "baseline", "inputs": "cutmix"}}, {"method": {"name": "mail"}, "trainer.lr": 0.1}])
    >>> joined([{"method": {"name": "baseline", "inputs": "idbh"}}, {"method": {"name": "mail"}, "trainer.lr": 0.1}])
    {'method': {'name': 'mail', 'inputs': 'idbh'}, 'trainer.lr': 0.1}
    """
    whole: dict[str, Any] = {}
    method: dict[str, Any] = {"name": "baseline"}
    for changes in several:
        for own, into in ((changes, whole), (changes.get("method", {}), method)):
            for key, value in own.items():
                if key == "method" or (key == "name" and value == "baseline"):
                    continue
                if into.get(key, value) != value and (key, into[key]) != ("name", "baseline"):
                    return None
                into[key] = value
    try:
        build_method(method)
    except InputError:
        return None
    return {"method": method, **whole} if any("method" in changes for changes in several) else whole
