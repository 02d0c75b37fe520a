"""Does a learning curve overfit robustly, since when, how certainly: the detector, its input files, and its use in training."""

from ro_fast.overfitting.detector import Verdict, Watch, watch

__all__ = ["Verdict", "Watch", "watch"]
