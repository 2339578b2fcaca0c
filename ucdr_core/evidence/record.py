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
from safetensors.torch import load_file

from ucdr_core import data, paths
from ucdr_core.data import protocols
from ucdr_core.methods import Method
from ucdr_core.retrieval import ranking
from ucdr_core.training.loop import Feed, embed
from ucdr_core.training.prepare import prepare
from ucdr_core.training.spec import TrainSpec


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
        with np.load(self.folder / "per_query.npz", allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays}

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
        """The method with the weights of this run."""
        method.load_state_dict(load_file(self.folder / "weights.safetensors"))
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
        return load_record(folder)

    def _first_stage(self, spec: TrainSpec) -> np.ndarray:
        return self.first_stage().embed(np.arange(len(spec.manifest())))

    def embed(self, rows: np.ndarray, space: str = "") -> np.ndarray:
        """(n, D) in the precision of the training."""
        method, feed = self.model()
        return embed(method, feed, rows, space)


def load_record(folder: Path) -> TrainedRun:
    """Raises RecordError naming a file that is missing or altered."""
    path = folder / "record.json"
    try:
        content = json.loads(path.read_text())
        stated = content.pop("digest")
        if stated != digest_of(content):
            raise RecordError(
                f"{path} was altered after it was written (its digest does not match); remove {folder} and run again"
            )
        for name, digest in content["files"].items():
            file = folder / name
            if not file.is_file():
                raise RecordError(f"{file} is missing; remove {folder} and run again")
            if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
                raise RecordError(f"{file} was altered after it was written; remove {folder} and run again")
        return TrainedRun(folder, TrainSpec.from_mapping(content["spec"]), content["result"], content["circumstances"])
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, AttributeError) as error:
        raise RecordError(
            f"{path} is no run record ({type(error).__name__}: {error}); remove {folder} and run again"
        ) from error


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
