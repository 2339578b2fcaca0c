"""The nouns of a table: a cell is runs of ours, how they are asked, and the printed number beside them.

Chapters build these for a tier; statistics and rendering take them as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ucdr_core.evidence.store import Store
from ucdr_core.training.spec import TrainSpec

Runs = tuple[TrainSpec, ...]  # one training per seed, or per choice of classes


@dataclass(frozen=True)
class Terms:
    """On what terms a printed number stands.

    split        of the classes; "random_..." is a draw that only those who made it have
    variant      the metric's definition by its name in `retrieval.metrics`; "place_200": the relevance of rank 201;
                 "?": not stated
    quoted_from  whose number it is, where the paper's authors did not run it themselves
    """

    split: str
    variant: str
    quoted_from: str = ""


@dataclass(frozen=True)
class Cell:
    """One number of ours beside one of the paper's.

    runs        our trainings; none: a row that is only quoted, or that the tier cannot ask
    evaluation  how they are asked: the name of an `Evaluation`, with @space for one of several spaces
    metric      how that is scored
    reported    what the paper prints (None: nothing), its standard deviation, and its terms
    """

    runs: Runs
    evaluation: str
    metric: str
    reported: float | None = None
    reported_deviation: float | None = None
    terms: Terms | None = None


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
    def runs(self) -> list[TrainSpec]:
        """The trainings behind the row, each once."""
        return list({id(spec): spec for cell in self.cells for spec in cell.runs}.values())


@dataclass(frozen=True, eq=False)
class Table:
    """A table of a paper on a tier.

    columns          name the cells: (header of the paper's number, header of ours), either "" for no such column
    reference_row    label of the paper's own row, with which the others of its group are compared
    same_terms       True where our numbers are on the paper's data by its metric, so that each can be judged against
                     the printed one
    """

    paper: str
    name: str
    caption: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    group_header: str = ""
    reference_row: str = ""
    same_terms: bool = False

    @property
    def runs(self) -> list[TrainSpec]:
        return [spec for row in self.rows for spec in row.runs]


@dataclass(frozen=True, eq=False)
class Listing:
    """A table whose cells are text as they stand; the columns after the first `text_columns` are set as numbers."""

    paper: str
    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footer: str
    runs: Runs = ()
    text_columns: int = 1


@dataclass(frozen=True, eq=False)
class Computed:
    """A listing that is computed from runs: what it needs, and how.  `title` stands where a run is missing."""

    title: str
    runs: Runs
    listing: Callable[[Store], Listing]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two rows that are asked the same: runs as [fold][seed]; one fold where there is one split."""

    ours: tuple[Runs, ...]
    other: tuple[Runs, ...]
    evaluation: str


@dataclass(frozen=True, eq=False)
class Claim:
    """A difference between two rows, paired over folds and seeds and averaged over the pairs; `reported` is the
    paper's."""

    text: str
    reported: float | None
    pairs: tuple[Pair, ...]
    metric: str = "map_all"
    reported_metric: str = "mAP@200"

    @property
    def runs(self) -> list[TrainSpec]:
        return [spec for pair in self.pairs for side in (pair.ours, pair.other) for fold in side for spec in fold]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Methods ranked on one question by one metric, with intervals; rows have one cell each."""

    paper: str
    name: str
    caption: str
    rows: tuple[Row, ...]
    metric: str

    @property
    def runs(self) -> list[TrainSpec]:
        return [spec for row in self.rows for spec in row.runs]


@dataclass(frozen=True, eq=False)
class Difference:
    """A point in which a paper and its public code, or two readings of it, part company.

    measured  the switch less the book's reading (None: it cannot be measured here), and why it cannot be, or what the
              reader must know
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
    def runs(self) -> list[TrainSpec]:
        return [spec for row in self.rows if row.measured for spec in row.measured.runs]


AnyTable = Table | Listing | Computed | Ranking | Differences

METRIC_TITLES = {
    "map_all": "mAP@all",
    "map_all_voc": "mAP@all (interpolated)",
    "map_200": "mAP@200",
    "map_200_k": "mAP@200 (by 200)",
    "map_200_min": "mAP@200 (by min(200, R))",
    "map_200_voc": "mAP@200 (interpolated)",
    "prec_5": "P@5",
    "prec_10": "P@10",
    "prec_100": "P@100",
    "prec_200": "P@200",
}


def not_comparable(cell: Cell, reference: Cell) -> tuple[list[str], list[str]]:
    """Why the printed number of a cell, and why ours, cannot be compared with the paper's own row: two lists of
    reasons."""
    printed, ours = [], []
    if cell.reported is not None and cell.terms and reference.terms and cell is not reference:
        a, b = cell.terms, reference.terms
        if a.split != b.split:
            printed.append(f"split {a.split} instead of {b.split}")
        elif a.split.startswith("random") and a.quoted_from != b.quoted_from:
            printed.append(f"another draw of {a.split}")
        if "?" in (a.variant, b.variant):
            printed.append("which definition of the metric is not stated")
        elif a.variant != b.variant:
            printed.append(f"{a.variant} instead of {b.variant}")
    if cell.runs and reference.runs:
        expected = _question(reference)
        ours = [
            f"{name} {value} instead of {expected[name]}"
            for name, value in _question(cell).items()
            if value != expected[name]
        ]
    return printed, ours


def _question(cell: Cell) -> dict[str, str]:
    spec = cell.runs[0]
    return {
        "data": spec.dataset,
        "split": spec.split or "drawn",
        "trained on": "+".join(spec.train_domains),
        "evaluation": cell.evaluation.partition("@")[0],
        "classes left out": f"{spec.classes_left_out:g}",
        "samples left out": f"{spec.samples_left_out:g}",
        "metric": cell.metric,
    }
