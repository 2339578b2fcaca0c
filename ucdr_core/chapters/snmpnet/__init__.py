"""SnMpNet (ICCV 2021)."""

from ucdr_core.chapters.snmpnet.figures import FIGURES, figure_runs
from ucdr_core.chapters.snmpnet.rows import CLAIMS, TABLES

__all__ = ["CLAIMS", "FIGURES", "TABLES", "figure_runs"]
