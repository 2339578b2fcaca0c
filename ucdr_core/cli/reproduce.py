"""`ucdr reproduce` makes runs; `ucdr verify` makes them anew and compares them with the evidence."""

from __future__ import annotations

import sys

from ucdr_core import chapters, paths
from ucdr_core.chapters.paper_recipes import GLOVE, WORD2VEC
from ucdr_core.chapters.tiers import TIERS
from ucdr_core.cli import can_write, folder_path, whole_number
from ucdr_core.data import DataError
from ucdr_core.device import usable
from ucdr_core.evidence import batch, committed
from ucdr_core.evidence.store import Store
from ucdr_core.methods import OptionError
from ucdr_core.training.spec import TrainSpec, describe


def add_reproduce(parser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--paper", default="all", choices=["all", *chapters.PAPERS, *chapters.ACROSS], help="default: all"
    )
    which.add_argument(
        "--live", action="store_true", help="only the runs whose weights the book's notebooks and its doodle page need"
    )
    parser.add_argument(
        "--tier",
        default="embedded",
        choices=list(TIERS),
        help="embedded: on the data that ships; real: on small sets of real pictures; paper: on the papers' data with "
        "their recipes.  default: embedded",
    )
    parser.add_argument("--jobs", type=whole_number(1), help="runs at a time; default: one per core")
    parser.add_argument("--gpus", type=whole_number(0), default=0, help="one run at a time on each of so many GPUs")
    parser.add_argument("--only", nargs="+", metavar="KEY", help="of these runs alone")
    parser.add_argument(
        "--list",
        action="store_true",
        help="print the runs and stop: done (yours, with weights), evidence (committed, without weights) or todo",
    )
    parser.set_defaults(do=_reproduce)


def _reproduce(options) -> int:
    if options.gpus:
        usable("cuda", options.gpus)
    if options.live:
        from ucdr_core.chapters.live import live_runs

        specs, what = live_runs(), "the notebooks"
    else:
        specs, what = runs_of(options.paper, options.tier), f"{options.paper}, tier {options.tier}"
    evidence = set(committed.runs_of(options.tier)) if options.list else set()
    runnable, reasons = with_data(specs)
    keys = {spec.key: spec for spec in runnable}
    if options.list:  # a committed run is there although its data need not be
        keys = {name: spec for spec in specs if (name := chapters.name_of(spec)) in keys or name in evidence}
    if not keys:
        raise nothing_to_run(options.tier, reasons)
    for reason in reasons:
        print(f"left out: {reason}", file=sys.stderr, flush=True)
    if options.only:
        if unknown := set(options.only) - set(keys):
            raise OptionError(f"no such run of {what}: {', '.join(sorted(unknown))}; `--list` prints them")
        keys = {key: keys[key] for key in options.only}
    if options.list:
        store = Store()
        for key, spec in keys.items():
            state = "done" if (store.root / key).exists() else "evidence" if key in evidence else "todo"
            print(key, state, describe(spec))
        return 0
    can_write(Store().root)
    failures = batch.reproduce(list(keys.values()), options.jobs, gpus=options.gpus)
    for spec, problem in failures:
        last_line = problem.strip().splitlines()[-1]
        print(f"FAILED {spec.key} {describe(spec)}: {last_line}\n  log: {batch.log_of(spec)}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} of {len(keys)} runs failed; the same command tries them again", file=sys.stderr)
    return 1 if failures else 0


def runs_of(paper: str, tier: str) -> list[TrainSpec]:
    """The runs behind a paper's tables, claims and figures, or behind all; those that others are fed from first."""
    return chapters.runs_of(tier, *([] if paper == "all" else [paper]))


def matrix(paper: str, tier: str) -> list[TrainSpec]:
    """Those of them that can be made on this machine, for a workflow engine.  Raises DataError where none can."""
    runnable, reasons = with_data(runs_of(paper, tier))
    if not runnable:
        raise nothing_to_run(tier, reasons)
    return runnable


def with_data(specs: list[TrainSpec]) -> tuple[list[TrainSpec], list[str]]:
    """The runs whose pictures and word vectors are on this machine, and each reason why others are left out."""
    kept, reasons = [], {}
    for spec in specs:
        try:
            spec.manifest()
            if spec.key:
                kept.append(spec)
        except DataError as error:
            reasons[str(error)] = None
        except FileNotFoundError as error:
            where = f"GloVe 6B ({GLOVE}) and Google News word2vec ({WORD2VEC}) go under $UCDR_DATA/vectors"
            reasons[f"there is no file {error.filename}: {where}"] = None
    return kept, list(reasons)


def nothing_to_run(tier: str, reasons: list[str]) -> DataError:
    return DataError(f"nothing of tier {tier} can be run here: " + "\n  ".join(reasons))


def add_verify(parser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--sample",
        action="store_true",
        help="each system on each analogue, and a part drawn from the commit (the default)",
    )
    which.add_argument("--all", action="store_true", help="every run of the tier")
    which.add_argument("--stale", action="store_true", help="a sample of each system whose code has changed since")
    which.add_argument("keys", nargs="*", default=[], metavar="KEY", help="these runs")
    parser.add_argument("--tier", default="embedded", choices=list(TIERS), help="default: embedded")
    parser.add_argument("--jobs", type=whole_number(1), help="runs at a time; default: one per core")
    parser.add_argument(
        "--home", type=folder_path, metavar="FOLDER", help="where the new runs are kept, so that a cut-off call goes on"
    )
    parser.set_defaults(do=_verify)


def _verify(options) -> int:
    from ucdr_core.apps.verify import verify

    can_write(options.home or paths.home())
    which = "keys" if options.keys else "all" if options.all else "stale" if options.stale else "sample"
    return verify(options.tier, which, options.keys, options.jobs, options.home)
