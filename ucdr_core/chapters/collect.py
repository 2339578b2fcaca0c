"""Writes the committed evidence of a tier from the runs of this machine: `python -m ucdr_core.chapters.collect [TIER]`
(`make evidence`).

Runs that are not on this machine keep the lines that they have.  What figures and computed tables draw of a run is
noted while all of them are drawn.
"""

from __future__ import annotations

import sys

from ucdr_core import chapters
from ucdr_core.chapters.live import live_runs
from ucdr_core.chapters.strad.figures import fusion_weight
from ucdr_core.chapters.strad.rows import BACKBONES, strad
from ucdr_core.chapters.tiers import Tier, tier_of
from ucdr_core.data import DataError
from ucdr_core.evidence import committed
from ucdr_core.evidence.record import MissingRun, TrainedRun, noting_derived
from ucdr_core.evidence.rows import Computed
from ucdr_core.evidence.store import Store
from ucdr_core.progress import bar as progress_bar


def collect(tier: Tier, store: Store | None = None, progress: bool = True) -> int:
    """Writes the tier's file and returns how many of its runs are new in it."""
    store = store or Store(evidence=False)
    trained: dict[str, TrainedRun] = {}
    specs = [*chapters.runs_of(tier), *(live_runs() if tier.name == "embedded" else [])]
    for spec in progress_bar(specs, desc="runs", disable=not progress):
        try:
            if (record := store.trained(spec)) is not None:
                trained[record.key] = record
        except (DataError, FileNotFoundError):
            continue
    derived = _derived(tier, store, progress)
    needed = {chapters.name_of(spec) for spec in specs}
    before = {key: run for key, run in committed.runs_of(tier.name).items() if key not in trained and key in needed}
    rows = [committed.row_of(record, derived.get(key, {})) for key, record in trained.items()]
    rows += [committed.row_of(run, run._derived) for run in before.values()]
    committed.write(committed.file_of(tier.name), rows, committed.classes_of([*trained.values(), *before.values()]))
    return len(trained)


def _derived(tier: Tier, store: Store, progress: bool):
    """{key of a run: {name: array}} of all that the tier's figures and computed tables draw."""
    work = []
    for chapter in map(chapters.load, (*chapters.PAPERS, *chapters.ACROSS)):
        work += [lambda draw=draw: draw(tier, store) for draw in chapter.FIGURES.values()]
        for build in chapter.TABLES.values():
            table = build(tier)
            if isinstance(table, Computed):
                work.append(lambda table=table: table.listing(store))
    work += [
        lambda spec=spec: fusion_weight(store.need(spec))
        for backbone in BACKBONES
        for spec in strad(tier, "sketchy", backbone)
    ]
    with noting_derived() as noted:
        for draw in progress_bar(work, desc="figures and computed tables", disable=not progress):
            try:
                draw()
            except (MissingRun, DataError, RuntimeError) as problem:
                print(f"left out: {problem}", file=sys.stderr)
    return noted


if __name__ == "__main__":
    for name in sys.argv[1:] or ["embedded"]:
        print(f"{name}: {collect(tier_of(name))} runs of this machine written to {committed.file_of(name)}")
