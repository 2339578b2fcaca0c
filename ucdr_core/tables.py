"""Tables: the paper's number, ours, and what is behind it, as MyST Markdown that nbval can compare.

Everything printed here is the same on every machine: means and deviations to three digits (see the book's page on numerics for the
measurement), and run names that are hashes of what was run.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from . import papers, statistics
from .papers import Claim, Computed, Differences, Listing, Ranking, Row, Table, not_comparable
from .papers.embedded import DEFAULTS, REFERENCES
from .runs import RunRecord, Store, TrainSpec

SYMBOLS = {"": "", "switch": "", "transductive": " †", "control": " ‡", "oracle": " ¶", "spirit": " §"}
LEGENDS = {
    "transductive": "† Transductive: sees all test queries or the test gallery at once.",
    "control": "‡ Control: class names permuted.",
    "oracle": "¶ Chosen on the test classes: not a result, but the cost of choosing so.",
    "spirit": "§ In the spirit of the paper, of which little more than the abstract is public.",
}
NOT_RUN = "—"  # only quoted, or not run in this edition
APART = " ≠"  # not comparable with the paper's own row


@dataclass(frozen=True)
class Rendered:
    """Markdown text that a notebook shows as a numbered table."""

    text: str

    def _repr_markdown_(self) -> str:
        return self.text


def table(paper: str, name: str, groups: list[str] | None = None) -> Rendered:
    """A paper's table beside ours.  `groups` picks some of its groups (query domains, data sets).

    Raises KeyError for an unknown table, RecordError where a run is missing, naming it.
    """
    built = papers.load(paper).TABLES[name]()
    if isinstance(built, Ranking):
        return ranked(built, Store())
    if isinstance(built, Differences):
        return differences(built, Store())
    if isinstance(built, Computed):
        built = built.listing(Store())
    if isinstance(built, Listing):
        return shown(built)
    return render(built, Store(), groups)


def shown(built: Listing) -> Rendered:
    lines = ["|".join(["", *row, ""]) for row in built.rows]
    return Rendered(_markdown(f"{built.paper}-{built.name}", built.caption, list(built.header), lines, built.footer, numbers_from=1))


def together(keys: list[str]) -> str:
    """Names many runs: 12 hex digits of their sorted keys."""
    return hashlib.sha256("".join(sorted(keys)).encode()).hexdigest()[:12]


def render(built: Table, store: Store, groups: list[str] | None = None) -> Rendered:
    rows = [row for row in built.rows if groups is None or row.group in groups]
    quoted = any(cell.terms and cell.terms.quoted_from for row in rows for cell in row.cells)
    header = [*([built.group_header] if built.group_header else []), "Method", *(["Quoted from"] if quoted else []),
              *(title for pair in built.columns for title in pair if title)]
    # A record is checked against its digests when it is read, so each is read once, however many cells it has.
    held = {id(spec): store.need(spec) for row in rows for part in (row, *row.parts) for spec in part.specs}
    lines, last, apart = [], None, {}
    for row in rows:
        parts = [part.cells for part in row.parts] or [row.cells]
        own_row = next((other for other in rows if other.label == built.own and other.group == row.group and other.mark != "control"), None)
        cells = []
        for column, (cell, (theirs, ours)) in enumerate(zip(row.cells, built.columns)):
            own = [(part[column].specs, part[column].evaluation) for part in parts]
            why_theirs, why_ours = not_comparable(cell, own_row.cells[column]) if own_row else ([], [])
            for what, reasons in (("paper's", why_theirs), ("ours", why_ours)):
                for reason in reasons:
                    apart.setdefault(f"{row.label}, {what}", {})[reason] = None
            if theirs:
                cells.append(_number(cell.reported, cell.reported_deviation) + (APART if why_theirs else ""))
            if ours:
                value = _spread([([held[id(spec)] for spec in specs], asked) for specs, asked in own], cell.metric) if own[0][0] else NOT_RUN
                cells.append(value + (APART if why_ours else ""))
        sources = {cell.terms.quoted_from: None for cell in row.cells if cell.terms and cell.terms.quoted_from}
        group = [row.group if row.group != last else ""] if built.group_header else []
        last = row.group
        lines.append("|".join(["", *group, row.label + SYMBOLS[row.mark], *([", ".join(sources)] if quoted else []), *cells, ""]))
    legend = " ".join(text for mark, text in LEGENDS.items() if any(row.mark == mark for row in rows))
    if apart:
        legend += f" ≠ Not comparable with the row {built.own}, for the reasons below the table."
    notes = [f"≠ {what}: {', '.join(reasons)}." for what, reasons in apart.items()]
    if quoted and (terms := _terms(built, rows)):
        notes.insert(0, f"Printed numbers that are not marked stand on the terms of the row {built.own}: {terms}.")
    footer = "  \n".join(notes) + "\n\n" if notes else ""
    return Rendered(_markdown(f"{built.paper}-{built.name}", f"{built.caption} {legend}".strip(), header, lines,
                              footer + _provenance([spec for row in rows for spec in row.specs], f"ucdr table {built.paper} {built.name} --runs"),
                              numbers_from=(2 if built.group_header else 1) + quoted))


def _terms(built: Table, rows: list[Row]) -> str:
    """Definitions and split of the paper's own rows, each once."""
    own = [(row.group, [cell.terms for cell in row.cells if cell.terms and cell.reported is not None]) for row in rows if row.label == built.own]
    said = {f"{f'{group}: ' if group else ''}{', '.join(dict.fromkeys(terms.variant for terms in found))} on {found[0].split}": None for group, found in own if found}
    return "; ".join(said)


def values_of(built: Ranking, store: Store) -> dict[str, np.ndarray]:
    """{label: (seeds, queries)} of a ranking."""
    return {row.label: np.stack([store.need(spec).per_query(row.cells[0].evaluation, built.metric).astype(np.float64) for spec in row.specs])
            for row in built.rows}


def ranked(built: Ranking, store: Store) -> Rendered:
    """Methods from best to worst."""
    marks = {row.label: row.mark for row in built.rows}
    return _ranked(f"{built.paper}-{built.name}", built.caption, values_of(built, store), marks,
                   _provenance(built.specs, f"ucdr table {built.paper} {built.name} --runs"))


def ranked_real(metric: str) -> Rendered:
    """The same on real pictures, from the committed records."""
    from .papers import league, sketchy25
    from .papers.embedded import mark_of_system

    values = sketchy25.values_of(metric)
    return _ranked(f"league-sketchy25-{metric}", f"Unseen classes from sketches, real pictures (sketchy25), by {league.METRICS[metric]}.", values,
                   {label: mark_of_system(label) for label in values}, sketchy25.provenance())


def _ranked(name: str, caption: str, values: dict[str, np.ndarray], marks: dict[str, str], footer: str) -> Rendered:
    found = statistics.standings(values)
    lines = [f"|{rank}|{own.name}{SYMBOLS[marks[own.name]]}|{_number(own.mean, own.deviation)}|{own.low:.3f} to {own.high:.3f}|{_ranges(own.ranks)}|"
             for rank, own in enumerate(found.methods, 1)]
    legend = " ".join(text for mark, text in LEGENDS.items() if mark in marks.values())
    queries = next(iter(values.values())).shape[1]
    caption = (f"{caption} Two methods differ where their means are {found.critical:.2f} standard errors of their difference apart, {found.typical:.3f} for the "
               f"median pair (95% for all pairs together; bootstrap over seeds and {queries} queries, paired over queries). {legend}")
    return Rendered(_markdown(name, caption.strip(), ["Rank", "Method", "Mean ± seeds", "95% interval", "Not told apart from ranks"], lines, footer, numbers_from=2))


def _ranges(ranks: tuple[int, ...]) -> str:
    """(1, 2, 3, 7) -> 1–3, 7"""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def differences(built: Differences, store: Store) -> Rendered:
    """Each difference between paper and code, with its effect where it can be measured."""
    lines = []
    for row in built.rows:
        effect = "not measured"
        if row.measured:
            found = difference_of(row.measured, store)
            effect = f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f}), {found.verdict}"
        lines.append(f"|{row.paper}|{row.point}|{row.in_paper}|{row.in_code}|{effect}|{row.remark}|")
    header = ["Of", "Point", "Paper", "Code, or another reading", "Effect on mAP@all (95%)", "Remark"]
    return Rendered(_markdown(f"{built.paper}-{built.name}", built.caption, header, lines,
                              _provenance(built.specs, f"ucdr table {built.paper} {built.name} --runs"), numbers_from=9))


def claims(paper: str, name: str) -> Rendered:
    """The order that a table claims, as paired differences beside the paper's: over class folds and seeds, or over seeds and queries."""
    store = Store()
    lines, over, built = [], [], papers.load(paper).CLAIMS[name]()
    for claim in built:
        difference = difference_of(claim, store)
        over += [difference.over] if difference.over not in over else []
        lines.append("|".join(["", claim.text, _signed(claim.reported), f"{difference.mean:+.3f} ({difference.standard_error:.3f})",
                               f"{difference.low:+.3f} to {difference.high:+.3f}", verdict(claim, difference), ""]))
    header = ["Difference", f"Paper, {built[0].reported_metric}", "Ours, mAP@all (s.e.)", "95% interval", "Verdict"]
    caption = f"What {name.replace('table', 'Table ')} claims, paired over {' or '.join(over)}."
    footer = _provenance([spec for claim in built for spec in claim.specs], "ucdr reproduce --paper " + paper)
    return Rendered(_markdown(f"{paper}-{name}-claims", caption, header, lines, footer, numbers_from=1))


def difference_of(claim: Claim, store: Store) -> statistics.Difference:
    def records(side) -> list[list[RunRecord]]:
        return [[store.need(spec) for spec in fold] for fold in side]

    pairs = [(records(pair.ours), records(pair.other), pair.evaluation) for pair in claim.pairs]
    if len(pairs[0][0]) > 1:
        return statistics.over_folds(pairs, claim.metric)
    ours, other, evaluation = pairs[0]
    return statistics.over_queries(ours[0], other[0], evaluation, claim.metric)


def verdict(claim: Claim, difference: statistics.Difference) -> str:
    if claim.reported is None or difference.verdict == "undecided":
        return difference.verdict
    return "as in the paper" if (claim.reported > 0) == (difference.mean > 0) else "opposite to the paper"


def against_reference(paper: str, name: str, reference: str = "Frozen, means removed") -> Rendered:
    """Each trained row of a table less a reference row of its group: bootstrap over seeds and queries of the fixed split."""
    store, built = Store(), papers.load(paper).TABLES[name]()
    lines = []
    compared = [row for row in built.rows if row.specs and row.mark not in ("control", "oracle")
                and row.label not in [DEFAULTS[method].label for method in REFERENCES]]
    for row in compared:
        other = next(r for r in built.rows if r.group == row.group and r.label == reference)
        cell = next(cell for cell in row.cells if cell.metric == "map_all")
        difference = statistics.over_queries([store.need(s) for s in cell.specs], [store.need(s) for s in other.specs], cell.evaluation, cell.metric)
        group = [row.group] if built.group_header else []
        lines.append("|".join(["", *group, row.label, f"{difference.mean:+.3f}", f"{difference.low:+.3f} to {difference.high:+.3f}", difference.verdict, ""]))
    header = [*([built.group_header] if built.group_header else []), "Method", "Difference, mAP@all", "95% interval", "Verdict"]
    caption = f"{name.replace('table', 'Table ')}: each method less the reference row '{reference}'; bootstrap over seeds and queries."
    footer = _provenance([spec for row in built.rows for spec in row.specs], f"ucdr table {paper} {name} --runs")
    return Rendered(_markdown(f"{paper}-{name}-reference", caption, header, lines, footer, numbers_from=2 if built.group_header else 1))


def _spread(columns: list[tuple[list[RunRecord], str]], metric: str) -> str:
    got = statistics.spread(columns, metric)
    return f"{got.mean:.3f}" + (f" ± {got.deviation:.3f}" if got.deviation is not None else "")


def _number(value: float | None, deviation: float | None = None) -> str:
    return "" if value is None else f"{value:.3f}" + (f" ± {deviation:.3f}" if deviation is not None else "")


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _provenance(specs: list[TrainSpec], how: str) -> str:
    """One line: data, split, regime, precision, seeds, and the runs behind the table."""
    keys = sorted({spec.key for spec in specs})

    def of(values) -> str:
        return ", ".join(map(str, sorted(set(values))))

    named = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
    data = of(f"{spec.dataset} ({spec.manifest().fingerprint})" for spec in specs)
    folds = any("_fold" in (spec.split or "") for spec in specs)
    return (
        f"Tier E: {data}; split {'5 class folds' if folds else of(spec.split for spec in specs)}; {of(spec.backbone for spec in specs)}, "
        f"regime {of(spec.regime for spec in specs)}, {of(spec.precision for spec in specs)}; seeds {of(spec.seed for spec in specs)}. "
        f"{len(keys)} runs: {named} (together {together(keys)}; `{how}`)."
    )


def _markdown(name: str, caption: str, header: list[str], lines: list[str], footer: str, numbers_from: int) -> str:
    ruler = "|" + "|".join("---" if column < numbers_from else "--:" for column in range(len(header))) + "|"
    return f":::{{table}} {caption}\n:name: {name}\n\n|{'|'.join(header)}|\n{ruler}\n" + "\n".join(lines) + f"\n:::\n\n{footer}\n"
