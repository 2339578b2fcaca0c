"""STL (AAAI 2023)."""

from ucdr_core.chapters.stl.figures import FIGURES, figure_runs
from ucdr_core.chapters.stl.rows import CLAIMS, TABLES

__all__ = ["CLAIMS", "FIGURES", "TABLES", "figure_runs"]
