"""How far a system's scores move when nothing that matters has moved.

Measured (`ucdr bench tolerance`), not guessed: initial weights are multiplied by 1 + e u with u standard normal, for e
of 1e-15, 1e-14 and 1e-13 and several draws, and runs are made with the instruction sets of other processors.  The
committed file holds, for each system on each data set, the largest change of a score and of an entry of the first
epoch's log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ucdr_core.evidence.record import RunRecord

FILE = __file__.replace(".py", ".json")
SIZES = (1e-15, 1e-14, 1e-13)
FLOOR = 2e-6  # of scores, which the evidence keeps to six digits
CHAOTIC = 1e-3  # a system whose scores move so far is compared by its distribution
FACTOR = 10.0  # what is allowed is so many times what was measured: the draws are few


@dataclass(frozen=True)
class Tolerance:
    """What is allowed between two runs of a method.

    scores   largest difference of a score
    first    largest difference of an entry of the first epoch's log, relative to 1 or its size
    chaotic  True: the scores of moved runs are spread, and a run must lie within twice the spread that was seen
    """

    scores: float
    first: float
    chaotic: bool = False


# In single precision another processor may stop in another epoch; the seeds of real pictures lie as far apart.
SINGLE_PRECISION = Tolerance(0.05, 0.02, chaotic=True)


@lru_cache(maxsize=1)
def measured() -> list[dict[str, Any]]:
    """The lines of the committed table: system, method, view, what was changed, and by how much scores and the first
    epoch moved."""
    with open(FILE) as file:
        return json.load(file)


def tolerance_of(method: str) -> Tolerance:
    """Of every run of a method: the most that any of its systems moved, on any data set.  Methods that were not
    measured get the floor."""
    lines = [line for line in measured() if line["method"] == method]
    scores = max((line["scores"] for line in lines), default=0.0)
    first = max((line["first"] for line in lines), default=0.0)
    allowed_first = max(FLOOR, FACTOR * first)
    if scores > CHAOTIC:
        return Tolerance(2 * scores, allowed_first, chaotic=True)
    return Tolerance(max(FLOOR, FACTOR * scores), allowed_first)


def compare(run: RunRecord, evidence: RunRecord) -> list[str]:
    """In what a run differs from its evidence by more than its method's tolerance, a line each; none where it
    agrees."""
    tolerance = tolerance_of(run.spec.method) if run.spec.precision == "float64" else SINGLE_PRECISION
    problems = []
    if set(run.evaluations) < set(evidence.evaluations):
        problems.append(
            f"evaluations {', '.join(sorted(set(evidence.evaluations) - set(run.evaluations)))} are missing"
        )
    for evaluation in evidence.evaluations:
        if evaluation not in run.evaluations:
            continue
        ours, stated = run.scores(evaluation), evidence.scores(evaluation)
        for metric, value in stated.items():
            if metric not in ours or not abs(ours[metric] - value) <= tolerance.scores:
                problems.append(
                    f"{evaluation} {metric}: {ours.get(metric, float('nan')):.6f}, evidence {value:.6f}, "
                    f"allowed {tolerance.scores:.1e}"
                )
    if not tolerance.chaotic and evidence.log and len(run.log) != len(evidence.log):
        problems.append(f"{len(run.log)} epochs, evidence {len(evidence.log)}")
    problems += first_epoch_differences(run.log, evidence.log, tolerance.first)
    return problems


def first_epoch_differences(ours: list[dict], stated: list[dict], allowed: float) -> list[str]:
    """The first epoch comes before chaos has grown: every loss term and the validation score must agree."""
    if not stated:
        return []
    if not ours:
        return ["there is no log"]
    problems = []
    for name, value in stated[0].items():
        if name not in ours[0] or not abs(ours[0][name] - value) <= allowed * max(1.0, abs(value)) + 1e-5 * abs(
            value
        ) * (abs(value) > 1):
            problems.append(
                f"first epoch, {name}: {ours[0].get(name, float('nan')):.6f}, evidence {value:.6f}, allowed "
                f"{allowed:.1e}"
            )
    return problems
