"""Tables as MyST Markdown: the paper's number, ours, and what is behind it.

What is printed depends on the runs alone, not on the machine: means and deviations to three digits.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from ucdr_core.data import DataError
from ucdr_core.evidence import statistics, verdicts
from ucdr_core.evidence.record import MissingRun, RecordError, RunRecord
from ucdr_core.evidence.rows import (
    AnyTable,
    Cell,
    Claim,
    Computed,
    Differences,
    Listing,
    Ranking,
    Row,
    Table,
    not_comparable,
)
from ucdr_core.evidence.store import Store
from ucdr_core.training.spec import TrainSpec

SYMBOLS = {"": "", "switch": "", "transductive": " †", "names": " ◊", "control": " ‡", "oracle": " ¶", "spirit": " §"}
LEGENDS = {
    "transductive": "† Transductive: sees all test queries or the test gallery at once.",
    "names": "◊ Knows the names of the unseen classes, and none of their pictures.",
    "control": "‡ Control: class names permuted.",
    "oracle": "¶ Chosen on the test classes: not a result, but the cost of choosing so.",
    "spirit": "§ In the spirit of a paper of which an abstract is public, or less.",
}
QUOTED_ONLY = "—"  # a row that is only quoted, or that the tier cannot ask
NOT_COMPARABLE = " ≠"  # with the paper's own row


@dataclass(frozen=True)
class Rendered:
    """Markdown text that a notebook shows as a numbered table."""

    text: str

    def _repr_markdown_(self) -> str:
        return self.text


def render(table: AnyTable, store: Store, tier: str, groups: list[str] | None = None) -> Rendered:
    """Any table.  `groups` picks some of its groups (query domains, data sets).  A missing run is an empty cell with a
    count."""
    if isinstance(table, Ranking):
        return render_ranking(table, store, tier)
    if isinstance(table, Differences):
        return render_differences(table, store, tier)
    if isinstance(table, Computed):
        return render_computed(table, store, tier)
    if isinstance(table, Listing):
        return render_listing(table, tier)
    return render_rows(table, store, tier, groups)


def render_listing(table: Listing, tier: str = "embedded") -> Rendered:
    """A listing as it stands."""
    lines = ["|".join(["", *row, ""]) for row in table.rows]
    label = _label(f"{table.paper}-{table.name}", tier)
    return Rendered(_markdown(label, table.caption, list(table.header), lines, table.footer, table.text_columns))


def render_computed(table: Computed, store: Store, tier: str = "embedded") -> Rendered:
    """A listing that is computed from runs; where one is missing, its title and how many are there."""
    try:
        return render_listing(table.listing(store), tier)
    except MissingRun:
        return Rendered(f"*{table.title}: {_count(table.runs, store)}.*\n")


def digest_of_runs(keys: list[str]) -> str:
    """Names many runs: 12 hex digits of their sorted keys."""
    return hashlib.sha256("".join(sorted(keys)).encode()).hexdigest()[:12]


class _Records:
    """Records of a table's runs, each read (and checked) once, however many cells it has."""

    def __init__(self, rows: list[Row], store: Store):
        specs = {id(spec): spec for row in rows for part in (row, *row.parts) for spec in part.runs}
        self.by_spec = {key: store.get(spec) for key, spec in specs.items()}

    def of(self, cell: Cell) -> list[RunRecord]:
        """The records of a cell's runs that are there and were asked its question."""
        records = [self.by_spec[id(spec)] for spec in cell.runs]
        return [record for record in records if record is not None and cell.evaluation in record.evaluations]

    def cannot_ask(self, cell: Cell) -> bool:
        """True where a run is there, but this tier's data do not answer the cell's question."""
        records = [record for spec in cell.runs if (record := self.by_spec[id(spec)]) is not None]
        return bool(records) and cell.evaluation not in records[0].evaluations


def render_rows(table: Table, store: Store, tier: str, groups: list[str] | None = None) -> Rendered:
    """A table of rows beside the paper's."""
    rows = [row for row in table.rows if groups is None or row.group in groups]
    quoted = any(cell.terms and cell.terms.quoted_from for row in rows for cell in row.cells)
    judged = [table.same_terms and bool(theirs and ours) for theirs, ours in table.columns]
    header = [*([table.group_header] if table.group_header else []), "Method", *(["Quoted from"] if quoted else [])]
    for (theirs, ours), with_verdict in zip(table.columns, judged):
        header += [title for title in (theirs, ours) if title] + (["Verdict"] if with_verdict else [])
    records = _Records(rows, store)
    lines, last_group, reasons = [], None, {}
    for row in rows:
        parts = [part.cells for part in row.parts] or [row.cells]
        reference = next(
            (
                other
                for other in rows
                if other.label == table.reference_row and other.group == row.group and other.mark != "control"
            ),
            None,
        )
        cells = []
        for column, (cell, (theirs, ours)) in enumerate(zip(row.cells, table.columns)):
            why_theirs, why_ours = not_comparable(cell, reference.cells[column]) if reference else ([], [])
            for what, why in (("paper's", why_theirs), ("ours", why_ours)):
                for reason in why:
                    reasons.setdefault(f"{row.label}, {what}", {})[reason] = None
            if theirs:
                cells.append(_number(cell.reported, cell.reported_deviation) + (NOT_COMPARABLE if why_theirs else ""))
            text, spread = _ours([part[column] for part in parts], records)
            if ours:
                cells.append(text + (NOT_COMPARABLE if why_ours and spread else ""))
            if judged[column]:
                cells.append(_verdict_beside(cell, spread))
        sources = {cell.terms.quoted_from: None for cell in row.cells if cell.terms and cell.terms.quoted_from}
        group = [row.group if row.group != last_group else ""] if table.group_header else []
        last_group = row.group
        lines.append(
            "|".join(["", *group, row.label + SYMBOLS[row.mark], *([", ".join(sources)] if quoted else []), *cells, ""])
        )
    legend = " ".join(text for mark, text in LEGENDS.items() if any(row.mark == mark for row in rows))
    if reasons:
        legend += f" ≠ Not comparable with the row {table.reference_row}, for the reasons below the table."
    if any(judged):
        legend += (
            f" Verdict: 'as printed' within {statistics.MARGIN} or two deviations of the seeds of either; "
            f"none where the printed "
            "number is by another definition."
        )
    notes = [f"≠ {what}: {', '.join(why)}." for what, why in reasons.items()]
    if quoted and (terms := _terms(table, rows)):
        notes.insert(
            0, f"Printed numbers that are not marked stand on the same terms as the row {table.reference_row}: {terms}."
        )
    footer = "  \n".join(notes) + "\n\n" if notes else ""
    footer += provenance(
        table.runs if groups is None else [spec for row in rows for spec in row.runs],
        store,
        tier,
        f"ucdr table {table.paper} {table.name}{_option(tier)} --runs",
    )
    return Rendered(
        _markdown(
            _label(f"{table.paper}-{table.name}", tier),
            f"{table.caption} {legend}".strip(),
            header,
            lines,
            footer,
            numbers_from=(2 if table.group_header else 1) + quoted,
        )
    )


def _ours(cells: list[Cell], records: _Records) -> tuple[str, statistics.Spread | None]:
    """The text of a number of ours, the mean over cells, and its spread where all runs that it needs are there."""
    if not cells[0].runs or all(records.cannot_ask(cell) for cell in cells):
        return QUOTED_ONLY, None
    by_cell = [(records.of(cell), cell) for cell in cells]
    there, needed = sum(len(records_of_cell) for records_of_cell, _ in by_cell), sum(len(cell.runs) for cell in cells)
    if any(len(records_of_cell) < len(cell.runs) for records_of_cell, cell in by_cell):
        if len(cells) > 1 or not there:
            return f"{there} of {needed} runs", None
        partial = statistics.spread([(by_cell[0][0], cells[0].evaluation)], cells[0].metric)
        return f"{_spread_text(partial)} ({there} of {needed} runs)", partial
    spread = statistics.spread(
        [(records_of_cell, cell.evaluation) for records_of_cell, cell in by_cell], cells[0].metric
    )
    return _spread_text(spread), spread


def _verdict_beside(cell: Cell, spread: statistics.Spread | None) -> str:
    if spread is None or cell.reported is None or cell.terms is None or cell.terms.variant != cell.metric:
        return ""
    return statistics.agreement(spread, cell.reported, cell.reported_deviation)


def _terms(table: Table, rows: list[Row]) -> str:
    """Definitions and split of the paper's own rows, each once."""
    stated = {}
    for row in rows:
        terms = [cell.terms for cell in row.cells if cell.terms and cell.reported is not None]
        if row.label == table.reference_row and terms:
            group = f"{row.group}: " if row.group else ""
            stated[f"{group}{', '.join(dict.fromkeys(one.variant for one in terms))} on {terms[0].split}"] = None
    return "; ".join(stated)


def render_ranking(table: Ranking, store: Store, tier: str) -> Rendered:
    """Methods from best to worst."""
    answers = statistics.ranking_answers(table, store)
    if not answers:
        return Rendered(f"*{table.caption} {_count(table.runs, store)}.*\n")
    marks = {row.label: row.mark for row in table.rows}
    standings = statistics.standings(answers)
    lines = [
        f"|{place}|{one.name}{SYMBOLS[marks[one.name]]}|{_number(one.mean, one.deviation)}|{one.low:.3f} to "
        f"{one.high:.3f}|{_ranges(one.ranks)}|"
        for place, one in enumerate(standings.methods, 1)
    ]
    legend = " ".join(text for mark, text in LEGENDS.items() if mark in [marks[name] for name in answers])
    classes = next(iter(answers.values())).classes
    missing = [row.label for row in table.rows if row.label not in answers]
    if missing:
        legend += f" Runs are missing of {', '.join(missing)}."
    caption = (
        f"{table.caption} Two methods differ where their means are {standings.critical:.2f} standard errors of their "
        f"difference apart, {standings.typical:.3f} for the median pair (95% for all pairs at once; bootstrap over "
        f"seeds, {len(set(classes.tolist()))} classes, and their {len(classes)} queries, paired over queries). {legend}"
    )
    footer = provenance(table.runs, store, tier, f"ucdr table {table.paper} {table.name}{_option(tier)} --runs")
    return Rendered(
        _markdown(
            _label(f"{table.paper}-{table.name}", tier),
            caption.strip(),
            ["Rank", "Method", "Mean ± seeds", "95% interval", "Not told apart from ranks"],
            lines,
            footer,
            numbers_from=2,
        )
    )


def _ranges(ranks: tuple[int, ...]) -> str:
    """(1, 2, 3, 7) -> 1–3, 7"""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def render_differences(table: Differences, store: Store, tier: str) -> Rendered:
    """Each difference between paper and code, with its effect where it can be measured."""
    lines, setting = [], verdicts.setting(table.runs, tier)
    for row in table.rows:
        effect = "not measured"
        if row.measured:
            try:
                difference = statistics.difference_of(row.measured, store)
                found = verdicts.verdict(difference, None, setting)
                effect = f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f}), {found.short}"
            except MissingRun as missing:
                effect = _short(missing)
        lines.append(f"|{row.paper}|{row.point}|{row.in_paper}|{row.in_code}|{effect}|{row.remark}|")
    header = ["Of", "Point", "Paper", "Code, or another reading", f"Effect on mAP@all (95%) {setting}", "Remark"]
    footer = provenance(table.runs, store, tier, f"ucdr table {table.paper} {table.name}{_option(tier)} --runs")
    return Rendered(
        _markdown(
            _label(f"{table.paper}-{table.name}", tier),
            f"{table.caption} {verdicts.LEGEND_WITHOUT_PRINTED}",
            header,
            lines,
            footer,
            numbers_from=9,
        )
    )


def render_claims(paper: str, name: str, claims: list[Claim], store: Store, tier: str) -> Rendered:
    """The order that a table claims, as paired differences beside the paper's: over class folds and seeds, or over
    seeds, classes and their queries."""
    runs = [spec for claim in claims for spec in claim.runs]
    lines, over, setting = [], [], verdicts.setting(runs, tier)
    for claim in claims:
        try:
            difference = statistics.difference_of(claim, store)
        except MissingRun as missing:
            cells = [_short(missing), "", ""]
        else:
            over += [difference.over] if difference.over not in over else []
            cells = [
                f"{difference.mean:+.3f} ({difference.standard_error:.3f})",
                f"{difference.low:+.3f} to {difference.high:+.3f}",
                verdicts.verdict(difference, claim.reported, setting).short,
            ]
        lines.append("|".join(["", claim.text, _signed(claim.reported), *cells, ""]))
    metric = "mAP@all" if claims[0].metric == "map_all" else claims[0].metric
    header = ["Difference", f"Paper, {claims[0].reported_metric}", f"Ours, {metric} (s.e.)", "95% interval"]
    header.append(f"Verdict {setting}")
    caption = (
        f"What {name.replace('table', 'Table ')} claims, paired over "
        f"{' or '.join(over) or 'runs that are not there yet'}. {verdicts.LEGEND}"
    )
    footer = provenance(runs, store, tier, f"ucdr claims {paper} {name}{_option(tier)}")
    return Rendered(_markdown(_label(f"{paper}-{name}-claims", tier), caption, header, lines, footer, numbers_from=1))


def render_against(table: Table, reference: str, references: list[str], store: Store, tier: str) -> Rendered:
    """Each trained row of a table less a reference row of its group: bootstrap over seeds, the classes of the fixed
    split, and their queries."""
    lines, setting = [], verdicts.setting(table.runs, tier)
    for row in table.rows:
        if not row.runs or row.mark in ("control", "oracle") or row.label in references:
            continue
        other = next(r for r in table.rows if r.group == row.group and r.label == reference)
        cell = next((cell for cell in row.cells if cell.metric.startswith("map")), row.cells[0])
        try:
            sides = [[store.need(spec) for spec in runs] for runs in (cell.runs, other.runs)]
            difference = statistics.over_classes([(sides[0], sides[1], cell.evaluation)], cell.metric)
            found = verdicts.verdict(difference, None, setting)
            cells = [f"{difference.mean:+.3f}", f"{difference.low:+.3f} to {difference.high:+.3f}", found.short]
        except MissingRun:
            cells = [_count([*cell.runs, *other.runs], store), "", ""]
        group = [row.group] if table.group_header else []
        lines.append("|".join(["", *group, row.label, *cells, ""]))
    header = [
        *([table.group_header] if table.group_header else []),
        "Method",
        "Difference, mAP@all",
        "95% interval",
        f"Verdict {setting}",
    ]
    caption = (
        f"{table.name.replace('table', 'Table ')}: each method less the reference row '{reference}'; bootstrap over "
        f"seeds, classes and their queries. {verdicts.LEGEND_WITHOUT_PRINTED}"
    )
    footer = provenance(table.runs, store, tier, f"ucdr table {table.paper} {table.name}{_option(tier)} --runs")
    return Rendered(
        _markdown(
            _label(f"{table.paper}-{table.name}-reference", tier),
            caption,
            header,
            lines,
            footer,
            numbers_from=2 if table.group_header else 1,
        )
    )


def _spread_text(spread: statistics.Spread) -> str:
    return _number(spread.mean, spread.deviation)


def _number(value: float | None, deviation: float | None = None) -> str:
    return "" if value is None else f"{value:.3f}" + (f" ± {deviation:.3f}" if deviation is not None else "")


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _short(missing: RecordError) -> str:
    text = str(missing)
    return text if text.endswith(" runs") else "a run is missing"


def _label(name: str, tier: str) -> str:
    """The label of a table in the book: a page may show the same table on two tiers."""
    return name if tier == "embedded" else f"{name}-{tier}"


def _option(tier: str) -> str:
    return "" if tier == "embedded" else f" --tier {tier}"


def _count(runs, store: Store) -> str:
    unique = {id(spec): spec for spec in runs}.values()
    return f"{sum(store.get(spec) is not None for spec in unique)} of {len(unique)} runs"


def provenance(specs: list[TrainSpec], store: Store, tier: str, how: str) -> str:
    """One line: tier, data, split, trunk, regime, precision, seeds, and the runs behind the table."""
    keys, data, unnamed = set(), set(), 0
    for spec in {id(spec): spec for spec in specs}.values():
        try:
            keys.add(spec.key)
            data.add(f"{spec.dataset} ({spec.fingerprint})")
        except (DataError, FileNotFoundError):
            unnamed += 1
            data.add(f"{spec.dataset} (not on this machine)")
    if not specs:
        return f"Tier {tier}: no run of ours."

    def joined(values) -> str:
        return ", ".join(map(str, sorted(set(values))))

    trial = os.environ.get("UCDR_TRIAL", "")
    splits = {spec.split or "drawn" for spec in specs}
    folds = sum("_fold" in split for split in splits)
    stated = "5 class folds" if folds else joined(splits) if len(splits) < 5 else f"{len(splits)} choices of classes"
    ordered = sorted(keys)
    named = ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")
    there = sum(store.get(spec) is not None for spec in {spec.key: spec for spec in specs if _has_key(spec)}.values())
    count = (
        f"{len(ordered)} runs"
        if there == len(ordered) + unnamed
        else f"{there} of {len(ordered) + unnamed} runs are there"
    )
    return (
        f"Tier {tier}: {', '.join(sorted(data))}; split {stated}; {joined(spec.backbone for spec in specs)}, "
        f"regime {joined(spec.regime for spec in specs)}, {joined(spec.precision for spec in specs)}; "
        f"seeds {joined(spec.seed for spec in specs)}. {count}"
        + (f": {named} (digest of all {digest_of_runs(ordered)}; `{how}`)." if ordered else ".")
        + (f" Made with trial values: {trial}." if tier == "paper" and trial else "")
    )


def _has_key(spec: TrainSpec) -> bool:
    try:
        return bool(spec.key)
    except (DataError, FileNotFoundError):
        return False


def _markdown(name: str, caption: str, header: list[str], lines: list[str], footer: str, numbers_from: int) -> str:
    ruler = "|" + "|".join("---" if column < numbers_from else "--:" for column in range(len(header))) + "|"
    return (
        f":::{{table}} {caption}\n:name: {name}\n\n|{'|'.join(header)}|\n{ruler}\n"
        + "\n".join(lines)
        + f"\n:::\n\n{footer}\n"
    )
