"""The effect of one change on the baseline's gap, by a suite's rules: does taking something away cure robust overfitting?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ro_fast.config import RulesConfig
from ro_fast.findings.amounts import arm_name, with_interval
from ro_fast.findings.outcomes import Arm
from ro_fast.findings.simultaneous import Comparison
from ro_fast.said import Said

# The effect of a change on the gap, in words that follow "taking away X"; {share} of the baseline's gap went.
WORDS = {
    "carries": "eliminates {share} of the gap",
    "worsens": "makes it worse",
    "eases": "eliminates only {share} of the gap",
    "no gain": "shrinks the gap only by lowering robustness",
    "no effect": "has no effect",
    "unclear": "has no clear effect",
    "not judged": "is not judged",
}
OPEN = ("unclear", "not judged")
EITHER = ", and so does its control"


@dataclass(frozen=True)
class Judged:
    """The effect of one change on the baseline's gap."""

    name: str  # the arm's name
    effect: str  # a key of WORDS
    words: str
    text: str  # the words, with the change of the gap in numbers


def words_of(effect: str, share: float) -> Said:
    """An effect in words; ``share`` of the baseline's gap went."""
    percent = Said("percent", "{value} %", value=f"{100 * share:.0f}")
    return Said(f"removal.{effect.replace(' ', '_')}", WORDS[effect], share=percent)


def effect_of(gap: Comparison, robust: Comparison, baseline_gap: float, rules: RulesConfig) -> str:
    """A change's effect, a key of ``WORDS``, from its differences to the baseline in the gap and in the last robust accuracy."""
    if gap.ci95 is None or robust.ci95 is None:
        return "not judged"
    lo, hi = gap.ci95
    if lo > 0:
        return "worsens"
    if hi < 0 and -gap.difference >= rules.min_reduction * baseline_gap:
        if robust.ci95[0] >= -rules.max_robust_loss:
            return "carries"
        return "no gain" if robust.ci95[1] < 0 else "unclear"
    if max(-lo, hi) <= rules.irrelevant * baseline_gap:
        return "no effect"
    return "eases" if hi < 0 else "unclear"


def beyond_control(
    arm: Arm, arms: Mapping[str, Arm], plain: Mapping[str, str], compared: Mapping[tuple[str, str, str], Comparison]
) -> tuple[str, str]:
    """Whether a factor whose removal cures does more than its matched control, and what follows, in words."""
    control = arms.get(arm.control or "")
    if control is None:
        return "unclear", Said("beyond.none", ", but no matched control ran, so any change of that size might do the same")
    against = compared.get((arm.name, control.name, "ro_gap"))
    if against and against.ci95 and against.ci95[1] < 0:
        return "carries", ""
    if plain[control.name] == "carries":
        return "unclear", Said("beyond.either", EITHER + ", {control}", control=factor_of(control))
    return "unclear", Said("beyond.unclear", ", but not clearly more than its control, {control}", control=factor_of(control))


def factor_of(arm: Arm) -> str:
    """What an arm changes, in words."""
    return arm.factor or arm_name(arm.name)


def change_of(gap: Comparison, level: float) -> str:
    """The change of the gap, reported as a positive number if it is a reduction."""
    change, ci95 = gap.difference, gap.ci95
    if change > 0:
        return Said("change.larger", "gap larger by {amount}", amount=with_interval(change, ci95, level))
    amount = with_interval(-change, None if ci95 is None else (-ci95[1], -ci95[0]), level)
    return Said("change.smaller", "gap smaller by {amount}", amount=amount)
