"""Statistics that compare representations, reading features from a network, and how well they generalise."""

from ro_fast.features.generalisation import feature_gap
from ro_fast.features.statistics import LinearCKA, effective_rank, linear_cka

__all__ = ["LinearCKA", "effective_rank", "feature_gap", "linear_cka"]
