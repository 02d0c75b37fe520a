"""How robust a finished model is: evaluation under attack, checkpoints and foreign models read for it, and their export."""

from ro_fast.evaluation.evaluate import evaluate_model
from ro_fast.evaluation.load import load_model

__all__ = ["evaluate_model", "load_model"]
