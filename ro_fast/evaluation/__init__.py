"""How robust is a finished model? Evaluation under attack, reading checkpoints and foreign models, and export."""

from ro_fast.evaluation.evaluate import evaluate_model
from ro_fast.evaluation.load import load_model

__all__ = ["evaluate_model", "load_model"]
