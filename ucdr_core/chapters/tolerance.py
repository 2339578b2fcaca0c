"""How far each system moves when nothing that matters has moved: the committed measurement as a table."""

from __future__ import annotations

from ucdr_core.chapters.systems import SYSTEMS
from ucdr_core.chapters.tiers import TITLES, Tier
from ucdr_core.evidence import tolerance
from ucdr_core.evidence.rows import Listing
from ucdr_core.training.spec import TrainSpec

VIEWS = ("sketchy", "tuberlin", "quickdraw", "domainnet")


def systems(_: Tier) -> Listing:
    """Each system on each data set: the largest change of a score, and what `ucdr verify` allows."""
    lines = tolerance.measured()
    rows = []
    for label, system in SYSTEMS.items():
        cells = []
        for view in VIEWS:
            changes = [line["scores"] for line in lines if line["system"] == label and line["view"] == view]
            cells.append(_size(max(changes)) if changes else "—")
        own_lines = [line for line in lines if line["system"] == label]
        first = max((line["first"] for line in own_lines), default=0.0)
        allowed = tolerance.tolerance_of(system.method)
        kind = "spread of moved runs" if allowed.chaotic else "each score"
        rows.append((label, *cells, _size(first), kind, _size(allowed.scores)))
    runs = len(lines)
    return Listing(
        "tolerance",
        "systems",
        "Largest change of any score between a run and the same run with its initial weights multiplied by 1 + e u "
        "(e of 1e-15, 1e-14, 1e-13), or made with another processor's instruction set; the largest change of "
        "a loss term of the first "
        "epoch; and what a proof allows.",
        ("System", *(TITLES[view] for view in VIEWS), "First epoch", "Compared by", "Allowed"),
        tuple(rows),
        f"{runs} comparisons of runs (`ucdr bench tolerance`). A dash: not measured, since the league leaves "
        f"the system out there.",
    )


def _size(value: float) -> str:
    """Orders of magnitude for small changes, digits for large ones."""
    return "0" if value == 0 else f"{value:.3f}" if value >= 1e-3 else f"{value:.0e}"


TABLES = {"systems": systems}
CLAIMS: dict = {}
FIGURES: dict = {}


def figure_runs(_: Tier) -> list[TrainSpec]:
    return []
