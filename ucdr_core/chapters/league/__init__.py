"""All methods, one question at a time."""

from ucdr_core.chapters.league.figures import FIGURES, figure_runs
from ucdr_core.chapters.league.rows import CLAIMS, TABLES

__all__ = ["CLAIMS", "FIGURES", "TABLES", "figure_runs"]
