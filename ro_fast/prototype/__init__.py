"""From a data set to a decision within a budget of time: will adversarial training overfit here, what helps, at what cost."""

from ro_fast.prototype.run import prototype

__all__ = ["prototype"]
