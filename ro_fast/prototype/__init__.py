"""From a data set to a decision within a time budget: will adversarial training overfit here, what helps, and at what cost."""

from ro_fast.prototype.run import prototype

__all__ = ["prototype"]
