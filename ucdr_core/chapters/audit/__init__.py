"""Paper versus code."""

from ucdr_core.chapters.audit.figures import FIGURES, figure_runs
from ucdr_core.chapters.audit.rows import CLAIMS, TABLES

__all__ = ["CLAIMS", "FIGURES", "TABLES", "figure_runs"]
