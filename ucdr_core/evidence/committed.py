"""The evidence that ships with the book: one Parquet file a tier, a line a run.

A line holds the spec, the scores, the log, the circumstances, two metrics for each query (in ten-thousandths, so
rounded by at most 0.00005), and what the book's figures draw of the run in half precision.  Nothing else of a run is
needed to render every table, claim and figure, and to check the run by training it anew (`verify`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from ucdr_core import paths
from ucdr_core.evidence.record import MissingRun, RunRecord, TrainedRun
from ucdr_core.methods import OptionError
from ucdr_core.training.spec import TrainSpec

PER_QUERY = ("map_all", "prec_10")  # what intervals and rankings need
UNIT = 10_000  # values per query are stored in ten-thousandths
DIGITS = 6  # of scores and log entries
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        *((name, pa.string()) for name in ("spec", "result", "circumstances", "log")),
        ("per_query", pa.list_(pa.struct([("name", pa.string()), ("values", pa.list_(pa.uint16()))]))),
        (
            "derived",
            pa.list_(
                pa.struct(
                    [
                        ("name", pa.string()),
                        ("dtype", pa.string()),
                        ("shape", pa.list_(pa.int32())),
                        ("values", pa.binary()),
                    ]
                )
            ),
        ),
    ]
)
FOLDER = paths.PACKAGE / "evidence" / "runs"


@dataclass(frozen=True, eq=False)
class CommittedRun(RunRecord):
    """A line of the evidence."""

    key: str
    spec: TrainSpec
    result: dict[str, Any]
    circumstances: dict[str, Any]
    _log: list[dict]
    _per_query: dict[str, np.ndarray]
    _derived: dict[str, np.ndarray]
    _classes: dict[str, list]

    @property
    def log(self) -> list[dict]:
        return self._log

    def per_query(self, evaluation: str, metric: str) -> np.ndarray:
        name = f"{evaluation}/{metric}"
        if name not in self._per_query:
            raise MissingRun(
                f"the evidence of run {self.key} has no {metric} per query of {evaluation}; make the run with "
                f"`ucdr run`"
            )
        return self._per_query[name]

    def query_classes(self, evaluation: str) -> np.ndarray:
        task = _task_of(self, evaluation)
        if task not in self._classes:
            raise MissingRun(f"the evidence of run {self.key} has no classes of the queries of {evaluation}")
        names, codes = self._classes[task]
        return np.array(names)[codes]

    def derive(self, name: str, compute: Callable[[TrainedRun], np.ndarray]) -> np.ndarray:
        if name not in self._derived:
            raise MissingRun(
                f"the evidence of run {self.key} has no {name.split()[0]!r} for this figure; make the run "
                f"with `ucdr run`"
            )
        return self._derived[name]


def file_of(tier: str) -> Path:
    """Where a tier's evidence is; it need not exist."""
    return FOLDER / f"{tier}.parquet"


def find(key: str) -> CommittedRun | None:
    """The committed run of this name, of whatever tier."""
    for path in sorted(FOLDER.glob("*.parquet")):
        table, places, classes = _read(path, path.stat().st_mtime_ns)
        if key in places:
            return _run(table.slice(places[key], 1).to_pylist()[0], classes)
    return None


def runs_of(tier: str) -> dict[str, CommittedRun]:
    """All runs of a tier by their names, but for those with options that this library no longer has."""
    path = file_of(tier)
    if not path.exists():
        return {}
    table, _, classes = _read(path, path.stat().st_mtime_ns)
    runs = {}
    for row in table.to_pylist():
        with suppress(OptionError):
            runs[row["key"]] = _run(row, classes)
    return runs


@lru_cache(maxsize=4)
def _read(path: Path, modified_ns: int) -> tuple[pa.Table, dict[str, int], dict[str, list]]:
    table = parquet.read_table(path)
    places = {key: place for place, key in enumerate(table.column("key").to_pylist())}
    return table, places, json.loads(table.schema.metadata[b"query_classes"])


def _run(row: dict[str, Any], classes: dict[str, list]) -> CommittedRun:
    return CommittedRun(
        row["key"],
        TrainSpec.from_mapping(json.loads(row["spec"])),
        json.loads(row["result"]),
        json.loads(row["circumstances"]),
        json.loads(row["log"]),
        {one["name"]: np.array(one["values"], np.float64) / UNIT for one in row["per_query"]},
        {one["name"]: np.frombuffer(one["values"], one["dtype"]).reshape(one["shape"]) for one in row["derived"]},
        classes,
    )


def _task_of(run: RunRecord, evaluation: str) -> str:
    split = run.result["split"]
    identity = [
        run.result["data"]["fingerprint"],
        split["train"],
        split["test"],
        run.spec.train_domains,
        evaluation.partition("@")[0],
    ]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]


# -------------------------------------------------------------------------------------------------------------- writing


def row_of(run: RunRecord, derived: dict[str, np.ndarray]) -> dict[str, Any]:
    """The line of a run."""
    values = []
    for evaluation in run.evaluations:
        for metric in PER_QUERY:
            try:
                per_query = run.per_query(evaluation, metric)
            except MissingRun:
                continue
            values.append(
                {"name": f"{evaluation}/{metric}", "values": np.round(per_query * UNIT).astype(np.uint16).tolist()}
            )
    spec = {name: value for name, value in run.spec.mapping().items() if name != "data_root"}
    return {
        "key": run.key,
        "spec": json.dumps(spec, sort_keys=True),
        "result": json.dumps(_rounded(run.result)),
        "circumstances": json.dumps(run.circumstances),
        "log": json.dumps(_rounded(run.log)),
        "per_query": values,
        "derived": [
            {"name": name, "dtype": array.dtype.str, "shape": list(array.shape), "values": array.tobytes()}
            for name, array in sorted(derived.items())
        ],
    }


def classes_of(runs: Iterable[RunRecord]) -> dict[str, list]:
    """{task: [class names, the place of each query's class among them]}."""
    result: dict[str, list] = {}
    for run in runs:
        for evaluation in run.evaluations:
            task = _task_of(run, evaluation)
            if task not in result and _has_values(run, evaluation):
                names, codes = np.unique(run.query_classes(evaluation), return_inverse=True)
                result[task] = [names.tolist(), codes.tolist()]
    return result


def _has_values(run: RunRecord, evaluation: str) -> bool:
    try:
        return run.per_query(evaluation, PER_QUERY[0]) is not None
    except MissingRun:
        return False


def write(path: Path, rows: list[dict[str, Any]], query_classes: dict[str, list]) -> None:
    """The file of a tier, by rename: the same bytes for the same runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = SCHEMA.with_metadata({"query_classes": json.dumps(query_classes, sort_keys=True)})
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: (row["spec"], row["key"])), schema=schema)
    partial = path.with_suffix(".partial")
    parquet.write_table(table, partial, compression="zstd", compression_level=19, row_group_size=max(1, len(rows)))
    partial.replace(path)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if abs(value) > 1 else round(value, DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return value
