"""Measures `evidence/tolerance.json`: every system trained from weights that were moved in the last digits, and with
other instructions.

`ucdr bench tolerance` writes the file of this library anew; about a quarter of an hour on two cores.  A cut-off
measurement goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ucdr_core import files, paths
from ucdr_core.chapters.league.rows import QUESTIONS
from ucdr_core.chapters.systems import SYSTEMS
from ucdr_core.chapters.tiers import tier_of
from ucdr_core.evidence import tolerance
from ucdr_core.progress import bar
from ucdr_core.training.spec import TrainSpec

# for each size, on Sketchy; one run of the middle size on the others, where a system that moves there gets all
DRAWS = 2
# What another x86-64 processor would choose: instruction sets of torch's own kernels, of oneDNN and of MKL.
INSTRUCTIONS = {
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"},
    "oldest": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
}


@dataclass(frozen=True)
class Trial:
    """One run to compare: a system on a view, and what is moved: (size, draw), or a name of INSTRUCTIONS; neither:
    nothing."""

    system: str
    view: str
    size: float = 0.0
    draw: int = 0
    instructions: str = ""

    @property
    def name(self) -> str:
        return f"{self.system}|{self.view}|{self.size:g}|{self.draw}|{self.instructions}"


def spec_of(system: str, view: str) -> TrainSpec | None:
    """The first run of a system in the league; None where the league leaves it out."""
    question = QUESTIONS[view]
    if system in question.but:
        return None
    runs = tier_of("embedded").system(system, view, (0,), **question.held_out)
    return runs[0] if runs else None


def outcome(trial: Trial) -> dict[str, Any]:
    """Scores and the first epoch's log of a trial, made in a folder that is thrown away."""
    if trial.instructions:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"from ucdr_core.apps.tolerance import *; "
                f"print(json.dumps(outcome({Trial(trial.system, trial.view)!r})))",
            ],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **INSTRUCTIONS[trial.instructions], "OMP_NUM_THREADS": "1"},
        )
        return json.loads(done.stdout.splitlines()[-1])
    import torch

    from ucdr_core.evidence.store import Store
    from ucdr_core.training.prepare import perturbed

    torch.set_num_threads(1)
    spec = spec_of(trial.system, trial.view)
    assert spec is not None
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "runs", evidence=False)
        if trial.size:
            with perturbed(trial.size, trial.draw):
                record = store.make(spec, progress=False)
        else:
            record = store.make(spec, progress=False)
        return {
            "scores": record.result["scores"],
            "first": record.log[0] if record.log else {},
            "epochs": record.result["epochs"],
        }


def moved(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """(largest change of a score, largest change of the first epoch's log relative to 1 or its size)."""
    scores = max(
        abs(one["scores"][evaluation][metric] - value)
        for evaluation, of_metric in other["scores"].items()
        for metric, value in of_metric.items()
    )
    first = max(
        (abs(one["first"][name] - value) / max(1.0, abs(value)) for name, value in other["first"].items()), default=0.0
    )
    return scores, first


def measure(jobs: int | None = None, progress: bool = True, systems: tuple[str, ...] = tuple(SYSTEMS)) -> None:
    """Writes the table; outcomes are kept under $UCDR_HOME until it is done."""
    kept = paths.home() / "tolerance.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, dict[str, Any]] = {}
    if kept.exists():
        outcomes = {line["name"]: line["outcome"] for line in map(json.loads, kept.read_text().splitlines())}
    pairs = [(system, view) for view in QUESTIONS for system in systems if spec_of(system, view) is not None]
    first = [Trial(*pair) for pair in pairs]
    first += [
        Trial(system, view, size, draw)
        for system, view in pairs
        for size in tolerance.SIZES
        for draw in range(DRAWS)
        if view == "sketchy" or (size, draw) == (tolerance.SIZES[1], 0)
    ]
    first += [
        Trial(system, view, instructions=name) for system, view in pairs if view == "sketchy" for name in INSTRUCTIONS
    ]
    _run(first, outcomes, kept, jobs, progress)
    restless = []
    for system, view in pairs:  # all draws where a system moves on another view too
        one = outcomes[Trial(system, view, tolerance.SIZES[1], 0).name]
        if view != "sketchy" and moved(one, outcomes[Trial(system, view).name])[0] > tolerance.CHAOTIC:
            restless += [Trial(system, view, size, draw) for size in tolerance.SIZES for draw in range(DRAWS)]
    _run(restless, outcomes, kept, jobs, progress)
    lines = []
    for trial in dict.fromkeys([*first, *restless]):
        if not trial.size and not trial.instructions:
            continue
        base = outcomes[Trial(trial.system, trial.view).name]
        scores, first_epoch = moved(outcomes[trial.name], base)
        lines.append(
            {
                "system": trial.system,
                "method": SYSTEMS[trial.system].method,
                "view": trial.view,
                "size": trial.size,
                "draw": trial.draw,
                "instructions": trial.instructions,
                "scores": scores,
                "first": first_epoch,
                "epochs": outcomes[trial.name]["epochs"],
                "epochs_before": base["epochs"],
            }
        )
    file = Path(tolerance.FILE)
    files.write(file, "[\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]\n")
    print(f"wrote {file}: {len(lines)} comparisons")


def _run(
    trials: list[Trial], outcomes: dict[str, dict[str, Any]], kept: Path, jobs: int | None, progress: bool
) -> None:
    missing = [trial for trial in dict.fromkeys(trials) if trial.name not in outcomes]
    if not missing:
        return
    with (
        ProcessPoolExecutor(jobs or len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool,
        open(kept, "a") as file,
    ):
        futures = {pool.submit(outcome, trial): trial for trial in missing}
        for future in bar(
            as_completed(futures), total=len(futures), desc="tolerance", unit="run", disable=not progress
        ):
            trial = futures[future]
            outcomes[trial.name] = future.result()
            file.write(json.dumps({"name": trial.name, "outcome": outcomes[trial.name]}) + "\n")
            file.flush()
