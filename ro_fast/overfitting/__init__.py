"""Is a learning curve overfitting robustly, since when, how sure: the detector, the files it reads, and its use in training."""

from ro_fast.overfitting.detector import Verdict, Watch, watch

__all__ = ["Verdict", "Watch", "watch"]
