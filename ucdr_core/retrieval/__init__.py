"""Ranking and metrics."""

from ucdr_core.retrieval.metrics import METRICS, Scores, evaluate

__all__ = ["METRICS", "Scores", "evaluate"]
