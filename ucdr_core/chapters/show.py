"""What notebooks and the command line ask for by name: a table, a claim, a figure of a chapter on a tier."""

from __future__ import annotations

from dataclasses import replace

from ucdr_core import chapters
from ucdr_core.chapters.common import Absent
from ucdr_core.chapters.reported import rows_where
from ucdr_core.chapters.strad import rows as strad
from ucdr_core.chapters.strad.figures import fusion_weight
from ucdr_core.chapters.systems import DEFAULTS, REFERENCES
from ucdr_core.chapters.tiers import Tier, tier_of
from ucdr_core.data import DataError
from ucdr_core.evidence import statistics, verdicts
from ucdr_core.evidence.record import MissingRun, RunRecord
from ucdr_core.evidence.rows import METRIC_TITLES, Claim, Pair, Ranking, Row, Runs, Table
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


def findings(paper: str, tier: str | Tier = "embedded", containing: str = "") -> Rendered:
    """What came of the differences that a paper's tables print, by verdict; of the audit, of every switch measured.

    containing   the claims whose text has this instead, printed by the paper or not
    """
    tier = tier_of(tier)
    if paper == "audit":
        rows = _named("TABLES", paper, "differences")(tier).rows
        claims = [replace(row.measured, text=f"{row.paper}: {row.point}") for row in rows if row.measured]
    else:
        claims = [claim for build in chapters.load(paper).CLAIMS.values() for claim in build(tier)]
        claims = [one for one in claims if (containing in one.text if containing else one.reported is not None)]
    return _by_verdict(claims, tier)


def compared(
    paper: str,
    name: str,
    pairs: list[tuple[str, str]],
    tier: str | Tier = "embedded",
    groups: list[str] | None = None,
) -> Rendered:
    """Rows of a table less others, paired over classes and queries, by verdict: in each group and each column of
    average precision that both rows have.  Labels are as printed; of the marks only that of a control is needed.

    groups   some of the table's groups.  Raises DataError for a row that no group has, and for a table without rows.
    """
    tier = tier_of(tier)
    table = _named("TABLES", paper, name)(tier)
    if not isinstance(table, Table | Ranking):
        raise DataError(f"{paper} {name} has no rows of runs that could be compared")
    claims: list[Claim] = []
    for ours, other in pairs:
        found = [
            claim
            for group in dict.fromkeys(row.group for row in table.rows)
            if groups is None or group in groups
            for claim in _differences(table, group, ours, other)
        ]
        if not found:
            labels = ", ".join(dict.fromkeys(map(_label, table.rows)))
            raise DataError(f"{paper} {name} has no group with the rows {ours!r} and {other!r}; it has {labels}")
        claims += found
    return _by_verdict(claims, tier)


def _label(row: Row) -> str:
    return row.label + (tables.SYMBOLS[row.mark] if row.mark == "control" else "")


def _differences(table: Table | Ranking, group: str, ours: str, other: str) -> list[Claim]:
    """A row of a group less another, for each column of average precision; none where the group lacks one."""
    rows = {_label(row): row for row in table.rows if row.group == group}
    if not {ours, other} <= set(rows):
        return []
    titles = [title for _, title in table.columns] if isinstance(table, Table) else [METRIC_TITLES[table.metric]]
    cells = rows[ours].cells
    columns = [column for column, title in enumerate(titles) if title and cells[column].metric.startswith("map")]
    claims = []
    for column in columns:
        title = titles[column].partition(": ours")[0] if len(columns) > 1 else ""
        where = ", ".join(part for part in (group, title) if part)
        sides = [[part.cells[column] for part in row.parts or (row,)] for row in (rows[ours], rows[other])]
        pairs = tuple(
            Pair((_of_seeds(a.runs, b.runs),), (_of_seeds(b.runs, a.runs),), a.evaluation) for a, b in zip(*sides)
        )
        text = f"{where}: {ours} − {other}" if where else f"{ours} − {other}"
        claims.append(Claim(text, None, pairs, cells[column].metric))
    return claims


def _of_seeds(runs: Runs, other: Runs) -> Runs:
    """The runs whose seed the other row has too; a row of one run is compared with every seed of the other."""
    seeds = {spec.seed for spec in other}
    return runs if 1 in (len(runs), len(other)) else tuple(spec for spec in runs if spec.seed in seeds)


def _by_verdict(claims: list[Claim], tier: Tier) -> Rendered:
    """Differences as a list: how many got each verdict, and which, with their intervals; how many were not run."""
    store, setting = Store(), verdicts.setting([spec for claim in claims for spec in claim.runs], tier.name)
    by_kind: dict[str, list[str]] = {kind: [] for kind in (*verdicts.OF_CLAIMS, *verdicts.WITHOUT_PRINTED)}
    for claim in claims:
        try:
            difference = statistics.difference_of(claim, store)
        except MissingRun:
            continue
        found = verdicts.verdict(difference, claim.reported, setting)
        numbers = [f"{difference.mean:+.3f}, {difference.low:+.3f} to {difference.high:+.3f}"]
        numbers += [f"printed {claim.reported:+.3f}"] if claim.reported is not None else []
        numbers += [found.detail] if found.kind == "cannot tell" else []
        by_kind[found.kind].append(f"{claim.text} ({'; '.join(numbers)})")
    lines = [f"- **{kind}**, {len(of)} of {len(claims)}: {'; '.join(of)}" for kind, of in by_kind.items() if of]
    if missing := len(claims) - sum(map(len, by_kind.values())):
        lines.append(f"- **not run**, {missing} of {len(claims)}")
    metrics = " and ".join(dict.fromkeys(METRIC_TITLES[claim.metric] for claim in claims))
    return Rendered(f"Differences in {metrics} with their 95% intervals, {setting}:\n\n" + "\n".join(lines) + "\n")


def printed(paper: str, table: str, metric: str, **columns: str) -> dict[str, float]:
    """What a paper's table prints by one metric, by the key of the method; `columns` picks its rows (dataset, gallery).

    Raises LookupError where a method has several numbers.
    """
    rows = rows_where(paper, table=table, metric=metric, **columns).dropna(subset=["value"])
    if rows.method.duplicated().any():
        twice = ", ".join(sorted(set(rows.method[rows.method.duplicated()])))
        raise LookupError(f"{paper} {table} prints several numbers of {twice}; name more columns")
    return dict(zip(rows.method, rows.value.astype(float)))


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
