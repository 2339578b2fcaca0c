"""Proof of the committed evidence: runs are trained anew and every score is compared (`ucdr verify`)."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Literal

from ucdr_core import chapters, paths
from ucdr_core.chapters.league.rows import QUESTIONS
from ucdr_core.chapters.live import live_runs
from ucdr_core.chapters.status import current_code
from ucdr_core.chapters.systems import SYSTEMS
from ucdr_core.chapters.tiers import Tier, tier_of
from ucdr_core.data import DataError
from ucdr_core.evidence import committed
from ucdr_core.evidence.batch import reproduce
from ucdr_core.evidence.record import RecordError
from ucdr_core.evidence.store import Store
from ucdr_core.evidence.tolerance import compare
from ucdr_core.training.spec import TrainSpec, describe

Which = Literal["sample", "all", "stale", "keys"]
DRAWN_SHARE = 0.02  # of the evidence, drawn from the hash of the commit


def verify(tier_name: str, which: Which, keys: list[str], jobs: int | None = None, home: Path | None = None) -> int:
    """Trains runs of the evidence anew and compares them.  Returns the exit code: 0 where all agree, 1 where one does
    not.

    Runs go into `home` ($UCDR_HOME/proof), so that an interrupted proof goes on; a run that other code made is made
    anew. Raises DataError for unknown keys, and where nothing can be compared.
    """
    tier = tier_of(tier_name)
    evidence = committed.runs_of(tier.name)
    if not evidence:
        raise DataError(f"there is no committed evidence of tier {tier.name}; runs of tier paper are your own")
    chosen = chosen_runs(tier, evidence, which, keys)
    if not chosen:
        print("nothing to verify")
        return 0
    store = Store((home or paths.home() / "proof") / "runs", evidence=False)
    _forget_other_code(store, [run.spec for run in chosen])
    print(f"{len(chosen)} of {len(evidence)} runs of tier {tier.name} are trained anew", flush=True)
    failures = reproduce([run.spec for run in chosen], jobs, root=store.root)
    problems = 0
    for spec, problem in failures:
        print(f"FAILED {spec.key} {describe(spec)}: {problem.strip().splitlines()[-1]}", file=sys.stderr)
    failed = {spec.key for spec, _ in failures}
    for run in chosen:
        if run.key in failed or (record := store.trained(run.spec)) is None:
            problems += 1
            continue
        differences = compare(record, run)
        if differences:
            problems += 1
            more = f" (and {len(differences) - 4} more)" if len(differences) > 4 else ""
            print(f"DIFFERS {run.key} {describe(run.spec)}:\n  " + "\n  ".join(differences[:4]) + more, file=sys.stderr)
    print(f"{len(chosen) - problems} of {len(chosen)} runs agree with the evidence")
    return 1 if problems else 0


def chosen_runs(
    tier: Tier, evidence: dict[str, committed.CommittedRun], which: Which, keys: list[str]
) -> list[committed.CommittedRun]:
    """The runs to train anew, in the order of the evidence."""
    if which == "keys":
        if unknown := [key for key in keys if key not in evidence]:
            raise DataError(
                f"the evidence of tier {tier.name} has no run {', '.join(unknown)}; `ucdr table PAPER NAME "
                f"--runs` names them"
            )
        return [evidence[key] for key in dict.fromkeys(keys)]
    if which == "all":
        return list(evidence.values())
    names = set(sample(tier, evidence))
    if which == "stale":
        changed = {
            (run.spec.method, run.spec.dataset) for run in evidence.values() if run.result["code"] != current_code(run)
        }
        names = {key for key in names if (evidence[key].spec.method, evidence[key].spec.dataset) in changed}
        covered = {(evidence[key].spec.method, evidence[key].spec.dataset) for key in names}
        for key, run in evidence.items():  # systems that the sample does not hold on this data set
            if (kind := (run.spec.method, run.spec.dataset)) in changed - covered:
                names.add(key)
                covered.add(kind)
    return [run for key, run in evidence.items() if key in names]


def sample(tier: Tier, evidence: dict[str, committed.CommittedRun], commit: str | None = None) -> list[str]:
    """Each system on each data set at least once, every live run of a notebook that the evidence has, and a part drawn
    from the commit."""
    by_kind: dict[tuple[str, str], str] = {}
    for view, question in QUESTIONS.items():
        for label in SYSTEMS:
            for spec in tier.system(label, view, (0, 1), **question.held_out):
                if chapters.name_of(spec) in evidence:
                    by_kind.setdefault((label, view), spec.key)
    # Systems that only a chapter asks of a data set (STL's generalised protocol): by method and data.
    covered = {(evidence[key].spec.method, evidence[key].spec.dataset) for key in by_kind.values()}
    for key, run in evidence.items():
        if (kind := (run.spec.method, run.spec.dataset)) not in covered:
            covered.add(kind)
            by_kind[kind] = key
    commit = _commit() if commit is None else commit
    drawn = sorted(evidence, key=lambda key: hashlib.sha256(f"{commit} {key}".encode()).hexdigest())
    live = [spec.key for spec in live_runs()]
    count = round(DRAWN_SHARE * len(evidence))
    return list(dict.fromkeys([*by_kind.values(), *(key for key in live if key in evidence), *drawn[:count]]))


def _commit() -> str:
    done = subprocess.run(["git", "-C", str(paths.REPOSITORY), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip()


def _forget_other_code(store: Store, specs: list[TrainSpec]) -> None:
    """Runs of an earlier proof whose code has changed are set aside as `<key>.old.1`, `<key>.old.2`, ..."""
    for spec in specs:
        folder = store.folder(spec)
        try:
            record = store.trained(spec)
        except RecordError:
            continue  # damaged: made anew anyway
        if record is not None and record.result["code"] != current_code(record):
            folder.rename(paths.numbered(folder.with_suffix(".old")))
