"""What a number must have behind it: a run's spec, scores with per-query values, log, circumstances.

    RunRecord        what tables, figures and statistics ask
    TrainedRun       a run's folder, with its weights
    CommittedRun     a line of the committed evidence (`committed`): no weights, but all that the book draws

`derive` is how a figure gets arrays: computed from the weights of a trained run, and looked up in the evidence.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ucdr_core import data, documents, files, paths
from ucdr_core.data import protocols
from ucdr_core.methods import Method
from ucdr_core.options import OptionError
from ucdr_core.retrieval import ranking
from ucdr_core.training.loop import Feed, embed
from ucdr_core.training.prepare import prepare
from ucdr_core.training.spec import NOT_ASKED, TrainSpec


class RecordError(RuntimeError):
    """A run's folder does not hold what it should."""


class MissingRun(RecordError):
    """There is no run of this spec, or not the part of it that is asked for."""


class RunRecord(ABC):
    """A finished run.

    result         the same wherever and whenever the run is made: scores {evaluation: {metric: mean}}, counts, epochs,
                   data, classes, and the digest of the code that made it
    circumstances  seconds, peak memory, device, versions, commit, date
    """

    key: str
    spec: TrainSpec
    result: dict[str, Any]
    circumstances: dict[str, Any]

    @property
    def evaluations(self) -> list[str]:
        return list(self.result["scores"])

    def scores(self, evaluation: str) -> dict[str, float]:
        """{metric: mean over queries}.  Raises KeyError naming the evaluations there are."""
        if evaluation not in self.result["scores"]:
            raise KeyError(f"run {self.key} has no evaluation {evaluation!r}; it has {', '.join(self.evaluations)}")
        return self.result["scores"][evaluation]

    @property
    @abstractmethod
    def log(self) -> list[dict]:
        """One entry per epoch: the loss terms and the validation score."""

    @abstractmethod
    def per_query(self, evaluation: str, metric: str) -> np.ndarray:
        """(Q,) values in the order of the task's query rows.  Raises MissingRun where they were not kept."""

    @abstractmethod
    def query_classes(self, evaluation: str) -> np.ndarray:
        """(Q,) class names in the same order.  Raises MissingRun where they cannot be told on this machine."""

    @abstractmethod
    def derive(self, name: str, compute: Callable[[TrainedRun], np.ndarray]) -> np.ndarray:
        """An array of what a figure draws, under a name that says which.  Numbers are kept in half precision."""

    def task(self, evaluation: str) -> data.Task:
        """The task of an evaluation, also of one in a single space (`zs_sbir:sketch:unseen@structure`)."""
        name = evaluation.partition("@")[0]
        return next(protocols.task_of(self.spec.training(), e) for e in self.spec.evaluations() if e.name == name)

    def embeddings(self, rows: np.ndarray, space: str = "") -> np.ndarray:
        """(n, D) embeddings of rows of the spec's manifest, in one of the method's spaces, in half precision's
        values."""
        name = f"embeddings {space} {_digest_of_rows(rows)}"
        return self.derive(name, lambda run: run.embed(rows, space)).astype(np.float64)

    def nearest(self, queries: np.ndarray, evaluation: str, k: int) -> np.ndarray:
        """Positions in the evaluation's gallery, nearest first: (Q, k).  `queries` are rows of the manifest."""
        space = evaluation.partition("@")[2]

        def compute(run: TrainedRun) -> np.ndarray:
            gallery = run.embed(run.task(evaluation).gallery, space)
            return ranking.rank(run.embed(queries, space), gallery, run.model()[0].distance)[:, :k]

        return self.derive(f"nearest {k} {evaluation} {_digest_of_rows(queries)}", compute)


def _digest_of_rows(rows: np.ndarray) -> str:
    return hashlib.sha256(np.asarray(rows, np.int64).tobytes()).hexdigest()[:12]


FEW = 200  # numbers that a table prints, not points that a figure draws


def kept(values: np.ndarray) -> np.ndarray:
    """As derived arrays are stored: many fractions in half precision, few in single, whole numbers in as few bytes as
    hold them."""
    values = np.asarray(values)
    if values.dtype.kind == "f":
        return values.astype(np.float16 if values.size > FEW else np.float32)
    if values.dtype.kind in "iu":
        return values.astype(np.min_scalar_type(int(values.max(initial=0))) if values.min(initial=0) >= 0 else np.int32)
    return values


_noted: dict[str, dict[str, np.ndarray]] | None = None


@contextmanager
def noting_derived():
    """Collects what trained runs derive inside: {key of the run: {name: array}}."""
    global _noted
    before, _noted = _noted, {}
    try:
        yield _noted
    finally:
        _noted = before


@dataclass(frozen=True, eq=False)
class TrainedRun(RunRecord):
    """A run's folder."""

    folder: Path
    spec: TrainSpec
    result: dict[str, Any]
    circumstances: dict[str, Any]

    @property
    def key(self) -> str:  # type: ignore[override]
        return self.folder.name

    @cached_property
    def _per_query(self) -> dict[str, np.ndarray]:
        return values_per_query(self.folder / "per_query.npz")

    @cached_property
    def log(self) -> list[dict]:  # type: ignore[override]
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]

    def per_query(self, evaluation: str, metric: str) -> np.ndarray:
        return self._per_query[f"{evaluation}/{metric}"]

    def query_classes(self, evaluation: str) -> np.ndarray:
        try:
            return self.spec.manifest().samples.class_name.to_numpy().astype(str)[self.task(evaluation).query]
        except data.DataError as error:
            raise MissingRun(f"the pictures of run {self.key} are not on this machine") from error

    def derive(self, name: str, compute: Callable[[TrainedRun], np.ndarray]) -> np.ndarray:
        values = kept(compute(self))
        if _noted is not None:
            _noted.setdefault(self.key, {})[name] = values
        return values

    def model(self, device: str = "cpu", progress: bool = False) -> tuple[Method, Feed]:
        """The trained method and what feeds it."""
        method, feed = prepare(self.spec, device, progress, self._first_stage)
        return self.load_weights(method).eval(), feed

    def load_weights(self, method: Method) -> Method:
        """The method with the weights of this run.  Raises RecordError where they are not finite or do not fit."""
        try:
            weights = load_file(self.folder / "weights.safetensors")
            method.load_state_dict(weights)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise RecordError(f"the weights of run {self.key} do not fit: {str(error).splitlines()[0]}") from error
        if broken := [name for name, value in weights.items() if not value.isfinite().all()]:
            raise RecordError(f"the weights {broken[0]} of run {self.key} are not finite; remove {self.folder}")
        return method

    def first_stage(self) -> TrainedRun:
        """The run whose embeddings this one is fed.  Raises MissingRun where it is not beside this one."""
        spec = self.spec.features_spec()
        if spec is None:
            raise ValueError(f"run {self.key} is fed by no other run")
        folder = self.folder.parent / spec.key
        if not folder.exists():
            raise MissingRun(
                f"run {self.key} is fed by run {spec.key}, which is not under {folder.parent}; make it anew"
            )
        return load_record(folder, spec)

    def _first_stage(self, spec: TrainSpec) -> np.ndarray:
        return self.first_stage().embed(np.arange(len(spec.manifest())))

    def embed(self, rows: np.ndarray, space: str = "") -> np.ndarray:
        """(n, D) in the precision of the training."""
        method, feed = self.model()
        return embed(method, feed, rows, space)


def load_record(folder: Path, asked: TrainSpec | None = None) -> TrainedRun:
    """The run in a folder.  Raises RecordError naming what is missing, altered, or of another run.

    asked  the spec that the folder is looked up for: the record must answer it, and its files are taken where it names
           them.  Without it the name of the folder must be the key of the record's own spec, where that can be told on
           this machine: its data are there and are what they were.
    """
    try:
        content = record_in(folder)
        if content["key"] != folder.name:
            raise RecordError(f"its record is that of run {content['key']}")
        spec = TrainSpec.from_mapping(content["spec"])
        check_answers(spec, content["result"], asked or spec)
        if asked is None and (key := _own_key(spec, content["result"])) not in (None, folder.name):
            raise RecordError(f"what it asks has the name {key} now (its word vectors, weights or split are others)")
        return TrainedRun(folder, asked or spec, content["result"], content["circumstances"])
    except (RecordError, OptionError, data.DataError) as error:
        raise RecordError(f"{folder} holds no run of its name: {error}; remove it and run again") from error


def record_in(folder: Path) -> dict[str, Any]:
    """The content of the record in a folder of any name, whose files are all there.  Raises RecordError."""
    path = folder / "record.json"
    try:
        content = documents.read(path)
        documents.check(content, RECORD)
    except documents.DocumentError as error:
        raise RecordError(f"{path} is no run record ({error})") from error
    if content.pop("digest") != digest_of(content):
        raise RecordError(f"{path} was altered after it was written: its digest does not match")
    for name, digest in content["files"].items():
        if name not in FILES:
            raise RecordError(f"{path} names the file {name!r}, which is of no run")
        try:
            found = files.sha256(folder / name)
        except OSError as error:
            raise RecordError(f"{folder / name} is missing or cannot be read ({error.strerror})") from error
        if found != digest:
            raise RecordError(f"{folder / name} was altered after it was written")
    check_scores(content["result"], values_per_query(folder / "per_query.npz"))
    return content


FILES = ("spec.json", "per_query.npz", "weights.safetensors", "log.jsonl")
RESULT = {
    "scores": {str: {str: float}},
    "counts": {str: {"queries": int, "gallery": int}},
    "epochs": int,
    "selected_epoch": int,
    "data": {"name": str, "fingerprint": str, "images": int, "trained_on": int},
    "split": {"name": str, "train": [str], "val": [str], "test": [str], "source": str},
    "code": str,
}
RECORD = {
    "key": str,
    "spec": dict,
    "result": RESULT,
    "circumstances": {"seconds": float, "finished": str},
    "files": {name: str for name in FILES},
    "digest": str,
}


ROUNDING = 1e-6  # of values per query, which are kept in single precision


def check_scores(result: dict[str, Any], per_query: dict[str, np.ndarray] | None = None) -> None:
    """Raises RecordError unless every score is finite and in [0, 1] and, where they are given, the mean of its values
    per query."""
    if not result["scores"] or set(result["scores"]) != set(result["counts"]):
        raise RecordError("it has no scores, or counts of other evaluations")
    for evaluation, scores in result["scores"].items():
        for metric, score in scores.items():
            name = f"{evaluation}/{metric}"
            if not 0 <= score <= 1 + ROUNDING:
                raise RecordError(f"its score {name} is {score}, which is not in [0, 1]")
            if per_query is None:
                continue
            values = per_query.get(name)
            if values is None or values.shape != (result["counts"][evaluation]["queries"],):
                raise RecordError(f"its values per query of {name} are not those of its queries")
            mean = values.mean(dtype=np.float64)
            if not (values.min() >= 0 and values.max() <= 1 + ROUNDING and abs(mean - score) <= 1e-4):
                raise RecordError(f"its values per query of {name} do not have the mean {score:.6f}")


def values_per_query(path: Path) -> dict[str, np.ndarray]:
    """{evaluation/metric: (Q,)}.  Raises RecordError where the file is not readable."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays}
    except Exception as error:  # of damaged archives, many kinds
        raise RecordError(f"{path} is not readable ({error})") from error


def check_answers(spec: TrainSpec, result: dict[str, Any], asked: TrainSpec) -> None:
    """Raises RecordError unless a record of this spec and result is one of what is asked.  What lies in files (data,
    split, word vectors, weights) counts by the key alone."""
    ours, theirs = spec.mapping(), asked.mapping()
    for name in theirs:
        if name not in NOT_ASKED and ours[name] != theirs[name]:
            raise RecordError(f"its {name} is {ours[name]!r}, and {theirs[name]!r} is asked for")
    if asked is not spec and result["data"]["fingerprint"] != asked.fingerprint:
        raise RecordError("it was made of other data")


def _own_key(spec: TrainSpec, result: dict[str, Any]) -> str | None:
    try:
        return spec.key if spec.fingerprint == result["data"]["fingerprint"] else None
    except (data.DataError, OSError):
        return None  # its files are not on this machine


def digest_of(content: dict) -> str:
    """SHA-256 of a record's content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def surroundings(device: str) -> dict[str, Any]:
    """Where a run was made: device, threads, versions, commit."""

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "?"

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(paths.REPOSITORY), *arguments], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    on_gpu = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
        "device_kind": "CUDA" if on_gpu else "CPU",
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in ("torch", "timm", "numpy", "scikit-learn", "ucdr-core")},
        "commit": git("rev-parse", "--short=12", "HEAD"),
        "modified": bool(git("status", "--porcelain", "--untracked-files=no")),
    }
