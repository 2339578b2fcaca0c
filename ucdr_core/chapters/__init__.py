"""One folder a paper, and one a question across papers: printed numbers, rows of tables, claims, figures.

A chapter's module has, for a tier,
    TABLES   {name: (tier) -> a table of `evidence.rows`}
    CLAIMS   {name: (tier) -> list of claims}
    FIGURES  {name: (tier, store) -> Drawing}
    figure_runs(tier)  trainings that its figures need beyond those of its tables
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ucdr_core.chapters.tiers import Tier, tier_of
from ucdr_core.data import DataError
from ucdr_core.training.spec import TrainSpec

PAPERS = ("snmpnet", "doodle", "stl", "strad")
ACROSS = ("league", "audit", "search", "modern")  # questions across the papers
PAGES = ("story", "metrics", "cost", "tolerance")  # figures and estimates that need no runs of their own
CHAPTERS = (*PAPERS, *ACROSS, *PAGES)


def load(chapter: str) -> ModuleType:
    """The module of a chapter.  Raises DataError naming those there are."""
    if chapter not in CHAPTERS:
        raise DataError(f"unknown paper {chapter!r}; known: {', '.join(CHAPTERS)}")
    return import_module(f"{__name__}.{chapter}")


def runs_of(tier: str | Tier, *chapters: str) -> list[TrainSpec]:
    """Every training that the chapters' tables, claims and figures need on a tier, each once, those that feed others
    first."""
    tier = tier_of(tier)
    every: list[TrainSpec] = []
    for module in map(load, chapters or (*PAPERS, *ACROSS)):
        every += [spec for build in module.TABLES.values() for spec in build(tier).runs]
        every += [spec for claims in module.CLAIMS.values() for claim in claims(tier) for spec in claim.runs]
        every += module.figure_runs(tier)
    first_stages = [first for spec in every if (first := spec.features_spec()) is not None]
    return list({name_of(spec): spec for spec in (*first_stages, *every)}.values())


def name_of(spec: TrainSpec) -> str:
    """The run's key; where its data are not on this machine, its values."""
    try:
        return spec.key
    except (DataError, FileNotFoundError):
        return str(spec.mapping())
