"""The evidence that ships with the book: one Parquet file a tier, a line a run.

A line holds the spec, the scores, the log, the circumstances, two metrics for each query (in ten-thousandths, so
rounded by at most 0.00005), and what the book's figures draw of the run in half precision.  Nothing else of a run is
needed to render every table, claim and figure, and to check the run by training it anew (`verify`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from ucdr_core import documents, files, paths
from ucdr_core.evidence.record import RESULT, MissingRun, RecordError, RunRecord, TrainedRun, check_scores
from ucdr_core.options import OptionError
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
    """The committed run of this name, of whatever tier.  Raises RecordError naming a file that is damaged."""
    for path in sorted(FOLDER.glob("*.parquet")):
        table, places, classes = _read(path, path.stat().st_mtime_ns)
        if key in places:
            with _damage_of(path):
                return _run(table.slice(places[key], 1).to_pylist()[0], classes)
    return None


def runs_of(tier: str) -> dict[str, CommittedRun]:
    """All runs of a tier by their names, but for those with options that this library no longer has.

    Raises RecordError where the file is damaged.
    """
    path = file_of(tier)
    if not path.exists():
        return {}
    table, _, classes = _read(path, path.stat().st_mtime_ns)
    runs = {}
    with _damage_of(path):
        for row in table.to_pylist():
            with suppress(OptionError):
                runs[row["key"]] = _run(row, classes)
    return runs


@lru_cache(maxsize=4)
def _read(path: Path, modified_ns: int) -> tuple[pa.Table, dict[str, int], dict[str, list]]:
    with _damage_of(path):
        table = parquet.read_table(path, page_checksum_verification=True)
        if not table.schema.equals(SCHEMA):
            raise ValueError(f"its columns are {', '.join(table.schema.names)}")
        keys, metadata = table.column("key").to_pylist(), table.schema.metadata or {}
        text = metadata.get(b"query_classes", b"")
        if metadata.get(b"digest", b"").decode() not in ("", _digest_of(keys, text)):
            raise ValueError("its digest does not match")
        classes = documents.parsed(text)
        documents.check(classes, {str: list})
        if len(set(keys)) < len(keys):
            raise ValueError("it holds a run twice")
        return table, {key: place for place, key in enumerate(keys)}, classes


def _digest_of(keys: list[str], classes: bytes) -> str:
    """Of what no page's checksum covers, and of which pages there are."""
    return hashlib.sha256("\n".join(keys).encode() + b"\0" + classes).hexdigest()


@contextmanager
def _damage_of(path: Path):
    """What a damaged file of evidence raises, as a RecordError of one line."""
    try:
        yield
    except OptionError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError, RecordError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise RecordError(f"{path} is no evidence ({reason}); restore it with `git checkout -- {path}`") from error


def _run(row: dict[str, Any], classes: dict[str, list]) -> CommittedRun:
    result, circumstances, log = (documents.parsed(row[name]) for name in ("result", "circumstances", "log"))
    documents.check(result, RESULT, "result")
    documents.check(circumstances, dict, "circumstances")
    documents.check(log, [{str: float}], "log")
    check_scores(result)
    per_query = {one["name"]: np.array(one["values"], np.float64) / UNIT for one in row["per_query"]}
    for name, values in per_query.items():
        evaluation, _, metric = name.rpartition("/")
        if not abs(values.mean() - result["scores"][evaluation][metric]) <= 1e-4:
            raise ValueError(f"the values per query of {name} of run {row['key']} do not have the mean of its score")
    return CommittedRun(
        row["key"],
        TrainSpec.from_mapping(documents.parsed(row["spec"])),
        result,
        circumstances,
        log,
        per_query,
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
    rows = sorted(rows, key=lambda row: (row["spec"], row["key"]))
    classes = json.dumps(query_classes, sort_keys=True)
    digest = _digest_of([row["key"] for row in rows], classes.encode())
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata({"query_classes": classes, "digest": digest}))
    settings = {"compression": "zstd", "compression_level": 19, "write_page_checksum": True}
    with files.written(path) as partial:
        parquet.write_table(table, partial, row_group_size=max(1, len(rows)), **settings)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if abs(value) > 1 else round(value, DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return value
