"""Where runs are: one folder each under $UCDR_HOME/runs, and behind them the committed evidence.

A run's folder is filled under another name and takes its own by one rename, so its presence means done.  A training
that was cut off goes on from its last state.  A record whose files are missing or altered is no record.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import resource
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from ucdr_core import data, paths
from ucdr_core.data import protocols
from ucdr_core.device import process_number
from ucdr_core.evidence import committed
from ucdr_core.evidence.code import code_digest
from ucdr_core.evidence.record import (
    MissingRun,
    RecordError,
    RunRecord,
    TrainedRun,
    digest_of,
    load_record,
    surroundings,
)
from ucdr_core.methods import from_mapping
from ucdr_core.retrieval import metrics
from ucdr_core.training import parallel
from ucdr_core.training.loop import Recipe, embed, fit
from ucdr_core.training.prepare import prepare
from ucdr_core.training.spec import TrainSpec, describe

PRECISION_AT = (5, 10, 100, 200)


class Store:
    """The runs of one folder ($UCDR_HOME/runs by default), and the committed evidence unless it is left out."""

    def __init__(self, root: Path | None = None, evidence: bool = True):
        self.root = root or paths.runs()
        self.evidence = evidence

    def folder(self, spec: TrainSpec) -> Path:
        return self.root / spec.key

    def get(self, spec: TrainSpec) -> RunRecord | None:
        """The record of this spec: the user's own run, else the evidence; None where there is neither.

        Raises RecordError where the user's own is damaged.
        """
        try:
            folder = self.folder(spec)
        except (data.DataError, FileNotFoundError):
            return None  # a data set or word vectors that are not on this machine: nothing can have been run on them
        if folder.exists():
            return load_record(folder)
        return committed.find(spec.key) if self.evidence else None

    def need(self, spec: TrainSpec) -> RunRecord:
        """The record of this spec.  Raises MissingRun where there is none, saying how to make it."""
        record = self.get(spec)
        if record is None:
            raise MissingRun(
                f"there is no run of {describe(spec)} under {self.root}; make it with `ucdr reproduce` or `ucdr run`"
            )
        return record

    def trained(self, spec: TrainSpec) -> TrainedRun | None:
        """The user's own run of this spec, or None.  Raises RecordError where it is damaged."""
        folder = self.folder(spec)
        return load_record(folder) if folder.exists() else None

    def make(
        self,
        spec: TrainSpec,
        *,
        device: str = "cpu",
        progress: bool = True,
        checkpoint_seconds: float = 20.0,
        compiled: bool = False,
    ) -> TrainedRun:
        """The user's own run of this spec, trained and asked everything it can be asked if there is none yet.

        A cut-off training goes on from its last state; a damaged record is set aside as `<key>.damaged` and made anew.
        Two processes that want the same run make it once.
        """
        folder = self.folder(spec)
        self.root.mkdir(parents=True, exist_ok=True)
        with _locked(self.root / ".locks" / folder.name):
            if folder.exists():
                try:
                    return load_record(folder)
                except RecordError as error:
                    aside = folder.with_suffix(".damaged")
                    shutil.rmtree(aside, ignore_errors=True)
                    folder.rename(aside)
                    print(f"set aside as {aside.name}: {error}", flush=True)
            work = self.root / f".{folder.name}.partial"
            work.mkdir(exist_ok=True)
            (work / "spec.json").write_text(json.dumps(spec.mapping(), indent=1))
            if spec.world_size > 1:
                parallel.launch(
                    "ucdr_core.evidence.store", work, spec.world_size, device, progress, checkpoint_seconds, compiled
                )
            else:
                self.fill(work, spec, device, progress, checkpoint_seconds, compiled)
            work.rename(folder)
        return load_record(folder)

    def first_stage(self, device: str, progress: bool):
        """What `prepare` asks for where a method is fed by another: that one's embeddings, from a run that is made if
        need be."""

        def embeddings(spec: TrainSpec) -> np.ndarray:
            method, feed = self.make(spec, device=device, progress=progress).model(device, progress)
            return embed(method, feed, np.arange(len(spec.manifest())))

        return embeddings

    def fill(
        self, work: Path, spec: TrainSpec, device: str, progress: bool, checkpoint_seconds: float, compiled: bool
    ) -> None:
        """Trains and asks in the folder of an unfinished run; of several processes that do so together, the first
        writes."""
        started = time.monotonic()
        training = spec.training()
        tasks = [protocols.task_of(training, evaluation) for evaluation in spec.evaluations()]
        if not tasks:
            raise data.DataError(
                "this training can be asked nothing: no domain but the gallery's has images of test classes"
            )
        method, feed = prepare(spec, device, progress, self.first_stage(device, progress))
        state = work / "state.pt"
        log = []
        if method.trained:
            recipe = from_mapping(Recipe, spec.recipe, "recipe")
            log = fit(
                method,
                training,
                feed,
                recipe,
                spec.seed,
                test=(tasks[0].query, tasks[0].gallery),
                state_file=state,
                checkpoint_seconds=checkpoint_seconds,
                progress=progress,
                compiled=compiled,
            )
        scores, per_query, counts = _scored(method, feed, spec, tasks, device)
        if process_number():
            return
        np.savez_compressed(work / "per_query.npz", **per_query)
        save_file(
            {name: value.contiguous().cpu() for name, value in method.state_dict().items()},
            work / "weights.safetensors",
        )
        (work / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
        manifest, split = training.manifest, training.split
        methods = (spec.method, *([spec.features["method"]] if spec.features else []))
        content = {
            "key": spec.key,
            "spec": spec.mapping(),
            "result": {
                "scores": scores,
                "counts": counts,
                "epochs": len(log),
                "selected_epoch": _selected_epoch(log, spec.recipe),
                "data": {
                    "name": manifest.name,
                    "fingerprint": manifest.fingerprint,
                    "images": len(manifest),
                    "trained_on": len(training.train),
                },
                "split": {
                    "name": split.name,
                    "train": list(training.seen),
                    "val": list(split.val),
                    "test": list(split.test),
                    "source": split.source,
                },
                "code": code_digest(*methods),
            },
            "circumstances": {
                "seconds": round(time.monotonic() - started, 2),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "compiled": compiled,
                "peak_memory_mb": peak_memory_mb(),
                **surroundings(device),
            },
            "files": {
                name: hashlib.sha256((work / name).read_bytes()).hexdigest()
                for name in ("spec.json", "per_query.npz", "weights.safetensors", "log.jsonl")
            },
        }
        state.unlink(missing_ok=True)
        partial = work / "record.json.partial"
        partial.write_text(json.dumps({**content, "digest": digest_of(content)}, indent=1))
        partial.replace(work / "record.json")


def _scored(method, feed, spec: TrainSpec, tasks: list[data.Task], device: str):
    """({evaluation: {metric: mean}}, {evaluation/metric: per query}, {evaluation: counts}) of all tasks, in all
    spaces."""
    scores, per_query, counts = {}, {}, {}
    embedded: dict[tuple[str, int], np.ndarray] = {}

    def embeddings(rows: np.ndarray, space: str) -> np.ndarray:
        new = np.array([row for row in rows if (space, row) not in embedded], int)
        if len(new):
            embedded.update(zip(((space, row) for row in new.tolist()), embed(method, feed, new, space)))
        return np.array([embedded[space, row] for row in rows])

    labels = tasks[0].training.manifest.samples.class_name.to_numpy().astype(str)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)  # chance draws its embeddings
        for task, space in ((task, space) for task in tasks for space in method.spaces):
            name = task.evaluation.name + (f"@{space}" if space else "")
            queries, gallery = method.transform_test_embeddings(
                embeddings(task.query, space), embeddings(task.gallery, space)
            )
            evaluated = metrics.evaluate(
                queries,
                labels[task.query],
                gallery,
                labels[task.gallery],
                method.distance,
                precision_at=PRECISION_AT,
                device=device,
            )
            scores[name] = evaluated.mean
            counts[name] = {"queries": len(task.query), "gallery": len(task.gallery)}
            per_query.update(
                {f"{name}/{metric}": values.astype(np.float32) for metric, values in evaluated.per_query.items()}
            )
    return scores, per_query, counts


def _selected_epoch(log: list[dict], recipe: dict) -> int:
    if log and recipe["selection"] != "last":
        name = f"{recipe['selection']}_{recipe['select_by']}"
        return max(range(len(log)), key=lambda epoch: (round(log[epoch][name], 9), -epoch))
    return len(log) - 1


def peak_memory_mb() -> int:
    """Of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used // (1024 * 1024 if sys.platform == "darwin" else 1024)


@contextmanager
def _locked(path: Path):
    """Holds an exclusive lock on the file; the system frees it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _main(work: str, device: str, progress: str, checkpoint_seconds: str, compiled: str) -> None:
    """One of the processes of a run on several GPUs."""
    with parallel.process(device) as (own_device, local):
        folder = Path(work)
        spec = TrainSpec.from_mapping(json.loads((folder / "spec.json").read_text()))
        Store(folder.parent).fill(
            folder, spec, own_device, bool(int(progress)) and local == 0, float(checkpoint_seconds), bool(int(compiled))
        )


if __name__ == "__main__":
    _main(*sys.argv[1:])
