"""`ucdr table`, `ucdr claims` and `ucdr figure`: what a paper printed beside what we find, on a tier."""

from __future__ import annotations

from ucdr_core import chapters, files
from ucdr_core.chapters import show
from ucdr_core.chapters.tiers import TIERS, tier_of
from ucdr_core.cli import picture_path
from ucdr_core.data import DataError
from ucdr_core.evidence.rows import Row
from ucdr_core.training.spec import TrainSpec, describe


def _add_name(parser) -> None:
    parser.add_argument("paper", help=f"one of {', '.join(chapters.CHAPTERS)}")
    parser.add_argument("name", help="as the chapter's notebooks call it; an unknown one lists those there are")
    parser.add_argument("--tier", default="embedded", choices=list(TIERS), help="default: embedded")


def add_table(parser) -> None:
    _add_name(parser)
    parser.add_argument("--runs", action="store_true", help="list the runs behind it instead")
    parser.set_defaults(do=_table)


def _table(options) -> None:
    text = show.table(options.paper, options.name, options.tier).text
    if not options.runs:
        print(text)
        return
    table = chapters.load(options.paper).TABLES[options.name](tier_of(options.tier))
    labels = {spec: "" for spec in map(chapters.name_of, table.runs)}
    for row in getattr(table, "rows", ()):
        if isinstance(row, Row):
            labels |= {chapters.name_of(spec): f"{row.group}/{row.label}" for spec in row.runs}
    _print_runs(table.runs, labels)


def add_claims(parser) -> None:
    _add_name(parser)
    parser.add_argument("--runs", action="store_true", help="list the runs behind them instead")
    parser.set_defaults(do=_claims)


def _claims(options) -> None:
    text = show.claims(options.paper, options.name, options.tier).text
    if not options.runs:
        print(text)
        return
    claims = chapters.load(options.paper).CLAIMS[options.name](tier_of(options.tier))
    labels = {chapters.name_of(spec): claim.text for claim in reversed(claims) for spec in claim.runs}
    _print_runs([spec for claim in claims for spec in claim.runs], labels)


def _print_runs(specs: list[TrainSpec] | tuple[TrainSpec, ...], labels: dict[str, str]) -> None:
    """Key, row and values of each run, once."""
    for name, spec in {chapters.name_of(spec): spec for spec in specs}.items():
        print(*filter(None, (_key(spec), labels[name], describe(spec))))


def _key(spec: TrainSpec) -> str:
    try:
        return spec.key
    except (DataError, FileNotFoundError):
        return "(its data are not on this machine)"


def add_figure(parser) -> None:
    _add_name(parser)
    parser.add_argument(
        "--save",
        type=picture_path(".png"),
        metavar="FILE.png",
        help="default: PAPER-NAME-TIER.png in the current folder",
    )
    parser.set_defaults(do=_figure)


def _figure(options) -> None:
    file = options.save or picture_path(".png")(f"{options.paper}-{options.name}-{options.tier}.png")
    drawing = show.figure(options.paper, options.name, options.tier)
    files.write(file, drawing.png())
    print(drawing.fingerprint)
    print(f"saved {file}")
