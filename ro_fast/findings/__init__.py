"""From numbers to a verdict: what a run and an arm come to, statistics over seeds, judgements by rules, and their words."""
