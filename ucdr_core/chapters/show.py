"""What notebooks and the command line ask for by name: a table, a claim, a figure of a chapter on a tier."""

from __future__ import annotations

from dataclasses import replace

from ucdr_core import chapters
from ucdr_core.chapters.common import Absent
from ucdr_core.chapters.stl import rows as stl
from ucdr_core.chapters.strad import rows as strad
from ucdr_core.chapters.strad.figures import fusion_weight
from ucdr_core.chapters.systems import DEFAULTS, REFERENCES
from ucdr_core.chapters.tiers import TITLES, Tier, tier_of
from ucdr_core.data import DataError
from ucdr_core.evidence import statistics, verdicts
from ucdr_core.evidence.record import MissingRun, RunRecord
from ucdr_core.evidence.rows import Claim, Pair
from ucdr_core.evidence.store import Store
from ucdr_core.render import drawing, tables
from ucdr_core.render.drawing import Drawing
from ucdr_core.render.tables import Rendered
from ucdr_core.training.spec import TrainSpec


def _named(kind: str, paper: str, name: str):
    every = getattr(chapters.load(paper), kind)
    if name not in every:
        raise DataError(f"{paper} has no {name!r} among its {kind.lower()}; it has {', '.join(every) or 'none'}")
    return every[name]


def table(paper: str, name: str, tier: str | Tier = "embedded", groups: list[str] | None = None) -> Rendered:
    """A paper's table beside ours.  `groups` picks some of its groups (query domains, data sets).

    A run that is not there is an empty cell with a count.  Raises DataError for an unknown table or tier.
    """
    tier = tier_of(tier)
    return tables.render(_named("TABLES", paper, name)(tier), Store(), tier.name, groups)


def claims(paper: str, name: str, tier: str | Tier = "embedded") -> Rendered:
    """The order that a table claims, as paired differences beside the paper's.  Raises DataError for unknown names."""
    tier = tier_of(tier)
    return tables.render_claims(paper, name, _named("CLAIMS", paper, name)(tier), Store(), tier.name)


def against_reference(
    paper: str, name: str, tier: str | Tier = "embedded", reference: str = "Frozen, means removed"
) -> Rendered:
    """Each trained row of a table less a reference row of its group."""
    tier = tier_of(tier)
    references = [DEFAULTS[method].label for method in REFERENCES]
    return tables.render_against(_named("TABLES", paper, name)(tier), reference, references, Store(), tier.name)


def claim_lines(paper: str, name: str, tier: str | Tier = "embedded", containing: str = "") -> list[str]:
    """The claims of a table whose text contains this, a line each: the difference with its interval, and what it
    says."""
    tier, store = tier_of(tier), Store()
    lines = []
    for claim in _named("CLAIMS", paper, name)(tier):
        if containing in claim.text:
            lines.append(_line(claim, store, tier))
    return lines


def _line(claim: Claim, store: Store, tier: Tier) -> str:
    try:
        difference = statistics.difference_of(claim, store)
    except MissingRun as missing:
        return f"{claim.text}: {missing}"
    found = verdicts.verdict(difference, claim.reported, verdicts.setting(claim.runs, tier.name))
    return f"{claim.text}: {difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f}), {found}"


def reading_lines(tier: str | Tier = "embedded") -> list[str]:
    """STL less STL, inductive, under both readings of the generalised protocol, a line each."""
    tier, store = tier_of(tier), Store()
    lines = []
    for view in stl.VIEWS:
        for reading in stl.READINGS:
            ours, other = (stl.runs_of(tier, view, options, reading=reading) for options in ({}, stl.INDUCTIVE))
            pair = Pair((ours,), (other,), stl.generalised(reading))
            lines.append(
                _line(Claim(f"{TITLES[view]}, reading '{reading}'", None, (pair,), tier.metric("map_all")), store, tier)
            )
    return lines


def fusion_lines(tier: str | Tier = "embedded") -> list[str]:
    """The weight of STRAD's structure space as each seed chose it on validation classes, a line for each backbone."""
    tier, store = tier_of(tier), Store()
    lines = []
    for backbone in strad.BACKBONES:
        records = [record for spec in strad.strad(tier, "sketchy", backbone) if (record := store.get(spec)) is not None]
        try:
            weights = " ".join(f"{fusion_weight(record):.1f}" for record in records)
        except MissingRun:
            weights = "not kept in the evidence"
        lines.append(f"STRAD ({backbone[0].upper()}): {weights or 'no run yet'}")
    return lines


def figure(paper: str, name: str, tier: str | Tier = "embedded") -> Drawing:
    """A paper's figure on our runs; where a run or its pictures are missing, a figure that says so.

    Raises DataError for an unknown figure or tier.
    """
    tier, store = tier_of(tier), NotingStore()
    try:
        drawn = _named("FIGURES", paper, name)(tier, store)
    except (MissingRun, Absent) as missing:
        return drawing.message(f"{paper} {name} on tier {tier.name}: {missing}")
    if not store.noted:
        return drawn
    keys = sorted(store.noted)
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    digest = tables.digest_of_runs(keys)
    return replace(
        drawn,
        fingerprint=f"{drawn.fingerprint}\nfrom {len(keys)} run{'s' if len(keys) > 1 else ''}: {', '.join(keys[:3])}"
        f"{more} (digest of all {digest})",
    )


class NotingStore(Store):
    """A store that remembers which runs a figure needed."""

    def __init__(self):
        super().__init__()
        self.noted: set[str] = set()

    def need(self, spec: TrainSpec) -> RunRecord:
        record = super().need(spec)
        self.noted.add(record.key)
        return record
