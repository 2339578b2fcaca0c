"""One file per paper: each table and figure as rows of (label, training, evaluations), beside the numbers that the paper prints."""
from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from .. import paths
from ..methods import METHODS
from ..runs import Store, TrainSpec

SEEDS = (0, 1, 2)
FOLDS = 5


@dataclass(frozen=True)
class Terms:
    """On what terms a printed number stands.

    split        of the classes; "random_..." is a draw that only those who made it have
    variant      the metric's definition by its name in `retrieval.metrics`; "place_200": the relevance of rank 201; "?": not stated
    quoted_from  whose number it is, where the paper's authors did not run it themselves
    """

    split: str
    variant: str
    quoted_from: str = ""


@dataclass(frozen=True)
class Cell:
    """One number of ours beside one of the paper's.

    specs       our trainings, one per seed; none: a row that is only quoted, or that this edition has not run
    evaluation  how they are asked: the name of an `Evaluation`, with @space for one of several spaces
    metric      how that is scored
    reported    what the paper prints (None: nothing), its standard deviation, and its terms
    """

    specs: tuple[TrainSpec, ...]
    evaluation: str
    metric: str
    reported: float | None = None
    reported_deviation: float | None = None
    terms: Terms | None = None  # of the printed number


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
    own: str = ""  # label of the paper's own row, with which the others of its group are compared

    @property
    def specs(self) -> list[TrainSpec]:
        return [spec for row in self.rows for spec in row.specs]


def not_comparable(cell: Cell, own: Cell) -> tuple[list[str], list[str]]:
    """Why the printed number of a cell, and why ours, cannot be compared with the paper's own row: two lists of reasons."""
    theirs, ours = [], []
    if cell.reported is not None and cell.terms and own.terms and cell is not own:
        a, b = cell.terms, own.terms
        if a.split != b.split:
            theirs.append(f"split {a.split} instead of {b.split}")
        elif a.split.startswith("random") and a.quoted_from != b.quoted_from:
            theirs.append(f"another draw of {a.split}")
        if "?" in (a.variant, b.variant):
            theirs.append("which definition of the metric is not stated")
        elif a.variant != b.variant:
            theirs.append(f"{a.variant} instead of {b.variant}")
    if cell.specs and own.specs:
        def asked(one: Cell) -> dict[str, str]:
            spec = one.specs[0]
            return {"data": spec.dataset, "split": spec.split or "drawn", "trained on": "+".join(spec.train_domains), "asked": one.evaluation.partition("@")[0],
                    "classes left out": f"{spec.classes_left_out:g}", "metric": one.metric}
        ours = [f"{name} {value} instead of {asked(own)[name]}" for name, value in asked(cell).items() if value != asked(own)[name]]
    return theirs, ours


@dataclass(frozen=True, eq=False)
class Listing:
    """A table whose cells are text as they stand."""

    paper: str
    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footer: str

    specs: tuple[TrainSpec, ...] = ()


@dataclass(frozen=True, eq=False)
class Computed:
    """A listing that is computed from runs: what it needs, and how."""

    specs: tuple[TrainSpec, ...]
    listing: Callable[[Store], Listing]


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
    if not METHODS[spec.method].trained and spec.method != "chance" or METHODS[spec.method].closed_form and not spec.features:
        return (replace(spec, seed=0),)
    return tuple(replace(spec, seed=seed) for seed in seeds)


def folds_of(spec: TrainSpec) -> tuple[tuple[TrainSpec, ...], ...]:
    """One training per class fold: its seed differs less from another than its classes do from another fold's."""
    return tuple(seeds_of(replace(spec, split=f"{spec.split}_fold{fold}"), SEEDS[:1]) for fold in range(FOLDS))


@lru_cache
def reported(paper: str) -> pd.DataFrame:
    """Every number that the paper prints, one a line."""
    return pd.read_csv(paths.PACKAGE / "papers" / "reported" / f"{paper}.csv")


def printed(paper: str, **where: str) -> tuple[float | None, float | None, Terms | None]:
    """The one printed number with these columns, its standard deviation and its terms; None where the paper prints none.

    Raises LookupError where several fit.
    """
    rows = reported(paper)
    for column, value in where.items():
        rows = rows[rows[column] == value]
    if len(rows) > 1:
        raise LookupError(f"{paper}: {len(rows)} printed numbers fit {where}")
    if rows.empty:
        return None, None, None
    row = rows.iloc[0]
    value, deviation = (None if pd.isna(number) else float(number) for number in (row["value"], row["std"]))
    return value, deviation, Terms(row["split"], row["variant"], "" if pd.isna(row["quoted_from"]) else row["quoted_from"])


def reported_value(paper: str, **where: str) -> float | None:
    """The number alone."""
    return printed(paper, **where)[0]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Methods ranked on one question by one metric, with intervals; rows have one cell each."""

    paper: str
    name: str
    caption: str
    rows: tuple[Row, ...]
    metric: str

    @property
    def specs(self) -> list[TrainSpec]:
        return [spec for row in self.rows for spec in row.specs]


@dataclass(frozen=True, eq=False)
class Difference:
    """A point in which a paper and its public code, or two readings of it, part company.

    measured  the switch less the book's reading (None: it cannot be measured here), and why it cannot be, or what the reader must know
    """

    paper: str
    point: str
    in_paper: str
    in_code: str
    measured: Claim | None = None
    remark: str = ""


@dataclass(frozen=True, eq=False)
class Differences:
    """A table of differences."""

    paper: str
    name: str
    caption: str
    rows: tuple[Difference, ...]

    @property
    def specs(self) -> list[TrainSpec]:
        return [spec for row in self.rows if row.measured for spec in row.measured.specs]


PAPERS = ("snmpnet", "doodle", "stl", "strad")
ACROSS = ("league", "audit", "search", "modern")  # across the papers, on the embedded data
COUNTED = ("cost",)  # estimates of what tier P takes; no runs
REAL = ("sketchy25", "pacs", "frozen25")  # on pictures that are not embedded


def load(paper: str):
    """The module of a paper.  Raises KeyError naming those there are."""
    known = (*PAPERS, *ACROSS, *REAL, *COUNTED)
    if paper not in known:
        raise KeyError(f"unknown paper {paper!r}; known: {', '.join(known)}")
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


def write_records(path: Path, content: dict[str, Any], first: str) -> None:
    """A committed file of records, by rename, one record a line: `first` is the key that a record begins with."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, separators=(",", ":")).replace(f'{{"{first}":', f'\n{{"{first}":') + "\n")
    partial.replace(path)
    print(f"wrote {path}")
