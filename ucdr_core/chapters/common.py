"""What the papers' tables share: the reference rows, cells beside printed numbers, and headers by tier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ucdr_core.chapters.reported import printed
from ucdr_core.chapters.systems import DEFAULTS, MARKS, REFERENCES
from ucdr_core.chapters.tiers import Tier
from ucdr_core.data import DataError
from ucdr_core.evidence.record import RunRecord
from ucdr_core.evidence.rows import METRIC_TITLES, Cell, Row, Runs, Terms
from ucdr_core.evidence.store import Store
from ucdr_core.training.spec import TrainSpec

MakeRuns = Callable[[str], Runs]  # method -> its trainings
MakeCells = Callable[[Runs], tuple[Cell, ...]]

ZERO_SHOT = "zs_sbir:sketch:unseen"


def reference_rows(runs_of: MakeRuns, cells_of: MakeCells, group: str = "") -> list[Row]:
    """Chance, frozen features, and frozen features with the means removed."""
    return [
        Row(DEFAULTS[method].label, cells_of(runs_of(method)), group, MARKS.get(method, "")) for method in REFERENCES
    ]


def beside(
    tier: Tier,
    runs: Runs,
    evaluation: str,
    metric: str,
    paper: str,
    small: str = "",
    terms_of_table: Terms | None = None,
    **where: str,
) -> Cell:
    """A cell whose printed number has these columns in the paper's file; `metric` is the printed one.  No columns:
    nothing printed, and our number is by the definition of the table's own rows."""
    value, deviation, terms = printed(paper, metric=metric, **where) if where else (None, None, None)
    return Cell(runs, evaluation, tier.metric(metric, terms or terms_of_table, small), value, deviation, terms)


def headers(
    tier: Tier, metric: str, title: str = "", small: str = "", before: str = "", terms: Terms | None = None
) -> tuple[str, str]:
    """(header of the paper's number, header of ours).

    title   what the paper calls the metric; `before` says of what
    small   the metric of ours on small galleries where it is not the tier's; terms: of the paper's own row
    """
    paper, ours = title or METRIC_TITLES[metric], METRIC_TITLES[tier.metric(metric, terms, small)]
    return (f"{before}: paper {paper}", f"{before}: ours {ours}") if before else (f"Paper, {paper}", f"Ours, {ours}")


Switches = dict[str, dict[str, Any]]  # what a row is called: what makes it that row, as `Tier.runs` takes it


def switched(
    tier: Tier, method: str, view: str, switches: Switches, other_way: dict[str, tuple[str, dict[str, Any]]]
) -> Switches:
    """The switches, each away from the method's own runs on this tier: where these have the reading already, the other
    one of `other_way`, {label of the switch: (label, values)}.

    Raises KeyError where the runs have the reading and there is no other.
    """
    own = tier.spec(method, view)
    changed = {}
    for label, values in switches.items():
        has_it = own is not None and tier.spec(method, view, **values) == own
        label, values = other_way[label] if has_it else (label, values)
        changed[label] = values
    return changed


class Absent(RuntimeError):
    """The tier has no data for what a figure draws."""


def first_run(runs: Runs, store: Store) -> RunRecord:
    """The record of the first of these runs.  Raises Absent where there are none, MissingRun where it is not there
    yet."""
    return store.need(one_of(runs))


def one_of(runs: Runs) -> TrainSpec:
    """The first of these runs, which must have its pictures on this machine.  Raises Absent where not."""
    if not runs:
        raise Absent("this tier has no data for it")
    try:
        runs[0].manifest()
    except DataError as error:
        raise Absent(f"the pictures are not on this machine ({error})") from error
    return runs[0]
