"""From numbers to a verdict: the outcome of a run and of an arm, statistics over seeds, judgements by rules, and their words."""
