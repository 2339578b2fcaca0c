"""Doodle to Search (CVPR 2019)."""

from ucdr_core.chapters.doodle.figures import FIGURES, figure_runs
from ucdr_core.chapters.doodle.rows import CLAIMS, TABLES

__all__ = ["CLAIMS", "FIGURES", "TABLES", "figure_runs"]
