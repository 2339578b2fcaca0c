"""Where the field went."""

from ucdr_core.chapters.modern.figures import FIGURES, figure_runs
from ucdr_core.chapters.modern.rows import CLAIMS, TABLES

__all__ = ["CLAIMS", "FIGURES", "TABLES", "figure_runs"]
