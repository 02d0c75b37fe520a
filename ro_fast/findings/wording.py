"""A suite's finding in two sentences: what drives robust overfitting here, and how certain that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ro_fast.config import RulesConfig
from ro_fast.findings.amounts import from_to, listed, points, with_interval
from ro_fast.findings.effects import EITHER, OPEN, Judged, factor_of
from ro_fast.findings.outcomes import Arm
from ro_fast.findings.overfitting import BASELINE, IN_LOSS, NONE, ONE_SEED, RISING, Overfitting
from ro_fast.said import SEMICOLON, Said, together


def what_was_found(
    data: str, rules: RulesConfig, found: Overfitting, arms: Mapping[str, Arm], judged: Mapping[str, Judged], level: float
) -> str:
    """That training overfits, what drives it and what mitigates it, and whether this agrees with the paper."""
    helps = [name for name in arms if judged[name].effect == "carries"]
    either = [name for name in arms if EITHER in judged[name].words]
    remedies = [name for name in helps if arms[name].role == "mitigation"]
    carriers = [name for name in helps if name not in remedies]
    if carriers:
        left = listed([with_interval(arms[name].ro_gap.mean, arms[name].ro_gap.ci95) for name in carriers])
        factors = listed([factor_of(arms[name]) for name in carriers])
        text = "; it is driven by {factors}, whose removal leaves {left}"
        if len(carriers) == 1:
            carried = Said("carried.by", text, factors=factors, left=left)
        else:
            carried = Said("carried.by_several", text + ", respectively", factors=factors, left=left)
    elif either:
        pairs = [(arms[name], arms[arms[name].control or name]) for name in either]
        both = [Said("carried.or", "{factor} or {control}", factor=factor_of(a), control=factor_of(b)) for a, b in pairs]
        text = "; training on fewer samples per step cures it, whichever are left out: {factors}"
        carried = Said("carried.either", text, factors=listed(both))
    elif arms:
        carried = Said("carried.none", "; no single removal is shown to cure it")
    else:
        carried = Said("carried.alone", "; no other arm ran that could show what drives it")
    remedied = ""
    if remedies:
        text = ", and {factors} mitigates it" if len(remedies) == 1 else ", and {factors} mitigate it"
        remedied = Said("carried.remedied", text, factors=listed([factor_of(arms[name]) for name in remedies]))
    return Said(
        "finding.overfits",
        "Training on {data} overfits robustly, losing {gap} of robust test accuracy after its best "
        "epoch{carried}{remedied}{paper}.",
        data=data,
        gap=with_interval(found.gap.difference, found.gap.ci95, level),
        carried=carried,
        remedied=remedied,
        paper=_paper(rules, arms, judged, carriers),
    )


def _paper(
    rules: RulesConfig, arms: Mapping[str, Arm], judged: Mapping[str, Judged], carriers: Sequence[str]
) -> str:
    """Where this agrees with the paper and where it does not, as a clause."""
    effect = {name: entry.effect for name, entry in judged.items()}
    published = {name: cures for name, cures in rules.published.items() if name in arms}
    contradicted = [
        name
        for name, cures in published.items()
        if effect[name] in (("worsens", "no effect", "no gain") if cures else ("carries",))
    ]
    if contradicted:
        told = []
        for name in contradicted:
            factor, words = factor_of(arms[name]), judged[name].words
            if published[name]:
                text = "in the paper, removing {factor} cures robust overfitting, but here it {words}"
                told.append(Said("paper.cures", text, factor=factor, words=words))
            else:
                text = "in the paper, removing {factor} does not cure robust overfitting, but here it {words}"
                told.append(Said("paper.does_not", text, factor=factor, words=words))
        return Said("paper.contradicted", "; {told}", told=together(told, SEMICOLON))
    if not published:
        return ""
    if not all(effect[name] == "carries" if cures else effect[name] not in OPEN for name, cures in published.items()):
        return Said("paper.open", "; whether the paper's claim holds here is open")
    if beyond := [factor_of(arms[name]) for name in carriers if name not in published]:
        return Said("paper.beyond", "; this agrees with the paper, which does not examine {factors}", factors=listed(beyond))
    return Said("paper.agrees", "; this agrees with the paper")


def how_sure(found: Overfitting, arms: Sequence[Arm], judged: Mapping[str, Judged], level: float) -> str:
    """On what the judgement rests, and what stays open."""
    factors = {arm.name: factor_of(arm) for arm in arms}
    open_cases = [factors[name] for name, entry in judged.items() if entry.effect in OPEN]
    wider = next(arm.ro_gap_new_images for arm in arms if arm.name == BASELINE)
    images = still_open = ""
    if wider and level == 0.95:
        text = "; with other test images of the same kind too, baseline's would be {span}"
        images = Said("sure.images", text, span=from_to(wider))
    elif wider:  # an arm holds intervals of 95 %, at any level
        text = "; with other test images of the same kind too, baseline's 95 % interval would be {span}"
        images = Said("sure.images_95", text, span=from_to(wider))
    if open_cases:
        still_open = Said("sure.open", "; still unclear is the role of {factors}", factors=listed(open_cases))
    return Said(
        "sure.overfits",
        "How sure: {seeds} training seeds, paired by seed and judged by rules fixed in the suite beforehand; the {level} % "
        "intervals{looks} hold for all arms at once and cover the randomness of training on one fixed draw of the data, not new "
        "data{images}{open}.",
        seeds=found.seeds,
        level=f"{100 * level:.0f}",
        looks=Said("sure.looks", ", since seeds were added until it was settled,") if level != 0.95 else "",
        images=images,
        open=still_open,
    )


def nothing_to_explain(data: str, rules: RulesConfig, found: Overfitting, level: float) -> list[str]:
    """Both sentences where no arm is judged, because the baseline does not overfit or it isn't settled."""
    gap = with_interval(found.gap.difference, found.gap.ci95, level) if found.gap.ci95 else points(found.gap.difference)
    loses = Said("finding.loses", "the baseline loses {gap} of robust test accuracy after its best epoch", gap=gap)
    text = "the interval covers {seeds} training seeds on one fixed draw of the data, not new data"
    covers = Said("sure.covers", text, seeds=found.seeds)
    if found.code == ONE_SEED:
        text = "With one seed, {loses} on {data}, which is not enough to judge any arm."
        return [
            Said("finding.one_seed", text, loses=loses, data=data),
            Said("sure.one_seed", "How sure: not at all; one seed has no interval: run seeds=3."),
        ]
    if found.code == RISING:
        text = (
            "Training on {data} ends while robust accuracy is still rising, so overfitting can't be judged yet: train longer "
            "(trainer.epochs=)."
        )
        sure = "How sure: in {rising} of {seeds} baseline runs the best epoch is in the last tenth of training."
        return [
            Said("finding.rising", text, data=data),
            Said("sure.rising", sure, rising=found.rising, seeds=found.seeds),
        ]
    if found.code == IN_LOSS:
        assert found.loss is not None and found.loss.ci95 is not None
        text = (
            "Training on {data} overfits robustly in loss only: robust test loss rises by {rise} nats ({level} % interval {low} "
            "to {high}) after its best epoch, while {loses}."
        )
        rise, low, high = (f"{value:.2f}" for value in (found.loss.difference, *found.loss.ci95))
        percent = f"{100 * level:.0f}"
        sure = "How sure: arms are judged by accuracy, so none is judged here; {covers}."
        return [
            Said("finding.in_loss", text, data=data, rise=rise, level=percent, low=low, high=high, loses=loses),
            Said("sure.in_loss", sure, covers=covers),
        ]
    least = points(rules.min_gap)
    if found.code == NONE:
        text = (
            "No robust overfitting to explain: on {data} {loses}, less than the {least} from which this suite speaks of "
            "overfitting."
        )
        return [
            Said("finding.none", text, data=data, loses=loses, least=least),
            Said("sure.none", "How sure: the whole interval lies below that limit; {covers}.", covers=covers),
        ]
    text = (
        "Whether training on {data} overfits robustly is not settled: {loses}, and this suite speaks of overfitting only from "
        "{least} and if 0 is ruled out."
    )
    return [
        Said("finding.unsettled", text, data=data, loses=loses, least=least),
        Said("sure.unsettled", "How sure: not enough to judge an arm, so run more seeds; {covers}.", covers=covers),
    ]
