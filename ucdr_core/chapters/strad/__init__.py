"""STRAD (arXiv 1911.13251)."""

from ucdr_core.chapters.strad.figures import FIGURES, figure_runs
from ucdr_core.chapters.strad.rows import CLAIMS, TABLES

__all__ = ["CLAIMS", "FIGURES", "TABLES", "figure_runs"]
