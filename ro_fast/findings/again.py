"""What a suite's results state in English, said again from the same numbers, so that a page can tell it in another language."""

from __future__ import annotations

from pathlib import Path

from ro_fast.config import ClaimConfig, ConditionConfig
from ro_fast.findings.claims import Claim, finding_of_claims, finding_of_study, judge
from ro_fast.findings.harms import finding_of_harms
from ro_fast.findings.ranking import finding_of_ranking
from ro_fast.findings.study import Results, questions
from ro_fast.findings.verdict import LOOK_LEVEL, Finding, write_finding
from ro_fast.storage.epochs import FILE, read_epochs


def said_again(run_dir: Path, results: Results) -> dict[str, str]:
    """English sentence -> the same, said; a sentence that comes out otherwise now, as of an older version, is not among them.

    Args:
        run_dir: the suite's folder.
        results: its results.json.
    """
    runs = {
        arm.name: {seed.seed: read_epochs(run_dir / "runs" / arm.name / f"seed{seed.seed}" / FILE) for seed in arm.seeds}
        for arm in results.arms
    }
    asked = {question.suite: question for question in questions(results)}
    said: list[str] = []
    for level in (0.95, LOOK_LEVEL):  # which one depends on how the seeds were chosen
        findings = {
            name: write_finding(results.named, question.arms, question.rules, results.arms, level)
            for name, question in asked.items()
            if question.rules
        }
        claims = judge(
            {name: [_configured(claim) for claim in question.claims] for name, question in asked.items()},
            results.arms,
            runs,
            findings,
            {name: [arm.name for arm in question.arms] for name, question in asked.items()},
        )
        every = [claim for of_part in claims.values() for claim in of_part]
        told: list[Finding] = [*findings.values(), *map(finding_of_claims, claims.values())]
        told.append(finding_of_study(every, list(findings.values()), results.named))
        for question in asked.values():
            if question.ranking and question.ranking_rules:
                told.append(finding_of_ranking(question.ranking, results.named, question.ranking_rules.cost))
            if question.harms:
                share = results.config.get("data.bias_share")
                told.append(finding_of_harms(question.harms, results.named, float(str(share or 0))))
        said += [sentence for finding in told for sentence in finding.sentences]
        said += [judged.text for finding in told for judged in finding.arms]
        said += [condition.text for claim in every for condition in claim.conditions]
    return {str(sentence): sentence for sentence in said}


def _configured(claim: Claim) -> ClaimConfig:
    """A claim as its suite states it."""
    conditions = [
        ConditionConfig(**{name: getattr(condition, name) for name in ConditionConfig.__dataclass_fields__})
        for condition in claim.conditions
    ]
    return ClaimConfig(name=claim.name, claim=claim.claim, number=claim.number, all=conditions)
