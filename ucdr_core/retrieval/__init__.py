"""Ranking and metrics."""
from .metrics import METRICS, Scores, evaluate

__all__ = ["METRICS", "Scores", "evaluate"]
