"""One file per paper: each table and figure as rows of (label, training, evaluations), beside the numbers that the paper prints."""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module

import pandas as pd

from .. import paths
from ..runs import TrainSpec

SEEDS = (0, 1, 2)
FOLDS = 5


@dataclass(frozen=True)
class Cell:
    """One number of ours beside one of the paper's.

    specs       our trainings, one per seed; none: a row that is only quoted, or that this edition has not run
    evaluation  how they are asked: the name of an `Evaluation`, with @space for one of several spaces
    metric      how that is scored
    reported    what the paper prints (None: nothing), and its standard deviation
    """

    specs: tuple[TrainSpec, ...]
    evaluation: str
    metric: str
    reported: float | None = None
    reported_deviation: float | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """A line of a table.  `mark` says what the reader must know of the row.

    A row that averages others has these as `parts`; its cells carry only the paper's averages.
    """

    label: str
    cells: tuple[Cell, ...]
    group: str = ""
    mark: str = ""
    parts: tuple[Row, ...] = ()

    @property
    def specs(self) -> list[TrainSpec]:
        """The trainings behind the row, each once."""
        return list({id(spec): spec for cell in self.cells for spec in cell.specs}.values())


@dataclass(frozen=True, eq=False)
class Table:
    """A table of a paper.  `columns` name the cells: (header of the paper's number, header of ours), either "" for no such column."""

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
class Listing:
    """A table without runs behind it: statistics of data sets."""

    paper: str
    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footer: str

    specs: tuple[TrainSpec, ...] = ()


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
    reported_metric: str = "mAP@200"

    @property
    def specs(self) -> list[TrainSpec]:
        return [spec for pair in self.pairs for side in (pair.ours, pair.other) for fold in side for spec in fold]


def seeds_of(spec: TrainSpec, seeds: tuple[int, ...] = SEEDS) -> tuple[TrainSpec, ...]:
    """One spec per seed; a row that no seed can change has one."""
    if spec.method in ("frozen", "frozen_centred"):
        return (spec,)
    return tuple(replace(spec, seed=seed) for seed in seeds)


def folds_of(spec: TrainSpec) -> tuple[tuple[TrainSpec, ...], ...]:
    return tuple(seeds_of(replace(spec, split=f"{spec.split}_fold{fold}")) for fold in range(FOLDS))


@lru_cache
def reported(paper: str) -> pd.DataFrame:
    """Every number that the paper prints, one a line."""
    return pd.read_csv(paths.PACKAGE / "papers" / "reported" / f"{paper}.csv")


def reported_value(paper: str, **where: str) -> float | None:
    """The one printed number with these columns; None where the paper prints none.  Raises LookupError where several fit."""
    return reported_pair(paper, **where)[0]


def reported_pair(paper: str, **where: str) -> tuple[float | None, float | None]:
    """The same, and the standard deviation that the paper prints with it."""
    rows = reported(paper)
    for column, value in where.items():
        rows = rows[rows[column] == value]
    if len(rows) > 1:
        raise LookupError(f"{paper}: {len(rows)} printed numbers fit {where}")
    if rows.empty:
        return None, None
    return tuple(None if pd.isna(value) else float(value) for value in rows[["value", "std"]].iloc[0])


PAPERS = ("snmpnet", "doodle", "stl", "strad")
REAL = ("sketchy25",)  # on pictures that are not embedded


def load(paper: str):
    """The module of a paper.  Raises KeyError naming those there are."""
    if paper not in (*PAPERS, *REAL):
        raise KeyError(f"unknown paper {paper!r}; known: {', '.join((*PAPERS, *REAL))}")
    return import_module(f"{__name__}.{paper}")


def specs_of(*papers: str) -> list[TrainSpec]:
    """Every training that the papers' tables, claims and figures need, each once, those that others are fed from first."""
    every: list[TrainSpec] = []
    for module in map(load, papers):
        if module.__name__.endswith(REAL):  # its tables are made from committed records
            every += module.figure_specs()
            continue
        every += [spec for build in module.TABLES.values() for spec in build().specs]
        every += [spec for claims in module.CLAIMS.values() for claim in claims() for spec in claim.specs]
        every += module.figure_specs()
    first = [own for spec in every if (own := spec.features_spec()) is not None]
    return list({spec.key: spec for spec in (*first, *every)}.values())
