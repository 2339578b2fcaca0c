"""One file per paper: each table and figure as rows of (label, training, evaluations), beside the numbers that the paper prints."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import pandas as pd

from .. import paths
from ..runs import TrainSpec

SEEDS = (0, 1, 2)
FOLDS = 5


@dataclass(frozen=True)
class Cell:
    """One number: which evaluation and metric of ours stands beside which of the paper's (None: the paper has none)."""

    evaluation: str
    metric: str
    reported: float | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """A line of a table.  `mark` says what the reader must know of the row; `specs` has one spec per seed.

    A row that averages others has these as `parts` and no specs; its cells carry only the paper's averages.
    """

    label: str
    specs: tuple[TrainSpec, ...]
    cells: tuple[Cell, ...]
    group: str = ""
    mark: str = ""
    parts: tuple[Row, ...] = ()


@dataclass(frozen=True, eq=False)
class Table:
    """A table of a paper.  `columns` name the cells: (header of the paper's number, header of ours)."""

    paper: str
    name: str
    caption: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    group_header: str = ""

    @property
    def specs(self) -> list[TrainSpec]:
        return [spec for row in self.rows for spec in row.specs]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two rows asked the same: specs as [fold][seed]."""

    ours: tuple[tuple[TrainSpec, ...], ...]
    other: tuple[tuple[TrainSpec, ...], ...]
    evaluation: str


@dataclass(frozen=True, eq=False)
class Claim:
    """A difference between two rows, paired over folds and seeds and averaged over the pairs; `reported` is the paper's."""

    text: str
    reported: float | None
    pairs: tuple[Pair, ...]
    metric: str = "map_all"


def seeds_of(spec: TrainSpec) -> tuple[TrainSpec, ...]:
    """One spec per seed; a row that no seed can change has one."""
    if spec.method in ("frozen", "frozen_centred"):
        return (spec,)
    return tuple(replace(spec, seed=seed) for seed in SEEDS)


def folds_of(spec: TrainSpec) -> tuple[tuple[TrainSpec, ...], ...]:
    return tuple(seeds_of(replace(spec, split=f"{spec.split}_fold{fold}")) for fold in range(FOLDS))


@lru_cache
def reported(paper: str) -> pd.DataFrame:
    """Every number that the paper prints, one a line."""
    return pd.read_csv(paths.PACKAGE / "papers" / "reported" / f"{paper}.csv")


def reported_value(paper: str, **where: str) -> float | None:
    """The one printed number with these columns; None where the paper prints none.  Raises LookupError where several fit."""
    rows = reported(paper)
    for column, value in where.items():
        rows = rows[rows[column] == value]
    if len(rows) > 1:
        raise LookupError(f"{paper}: {len(rows)} printed numbers fit {where}")
    return float(rows.value.iloc[0]) if len(rows) else None


def load(paper: str):
    """The module of a paper.  Raises KeyError naming those there are."""
    from . import snmpnet

    modules: dict[str, object] = {"snmpnet": snmpnet}
    if paper not in modules:
        raise KeyError(f"unknown paper {paper!r}; known: {', '.join(modules)}")
    return modules[paper]


def specs_of(paper: str) -> list[TrainSpec]:
    """Every training that the paper's tables, claims and figures need, each once."""
    module = load(paper)
    found: dict[str, TrainSpec] = {}
    builders: dict[str, Callable[[], Table]] = module.TABLES
    every = [spec for build in builders.values() for spec in build().specs]
    every += [spec for claims in module.CLAIMS.values() for claim in claims()
              for pair in claim.pairs for side in (pair.ours, pair.other) for fold in side for spec in fold]
    every += module.figure_specs()
    for spec in every:
        found.setdefault(spec.key, spec)
    return list(found.values())
