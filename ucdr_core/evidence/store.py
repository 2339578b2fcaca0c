"""Where runs are: one folder each under $UCDR_HOME/runs, and behind them the committed evidence.

A run's folder is filled under another name and takes its own by one rename, so its presence means done.  A training
that was cut off goes on from its last state.  A record whose files are missing or altered is no record.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from ucdr_core import data, documents, files, paths
from ucdr_core.data import protocols
from ucdr_core.device import process_number, usable
from ucdr_core.evidence import committed
from ucdr_core.evidence.code import code_digest
from ucdr_core.evidence.record import (
    FILES,
    MissingRun,
    RecordError,
    RunRecord,
    TrainedRun,
    check_answers,
    check_scores,
    digest_of,
    load_record,
    record_in,
    surroundings,
)
from ucdr_core.options import OptionError, from_mapping
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
            own = self.trained(spec)
        except (data.DataError, FileNotFoundError):
            return None  # a data set or word vectors that are not on this machine: nothing can have been run on them
        if own is not None or not self.evidence:
            return own
        record = committed.find(spec.key)
        if record is not None:
            check_answers(record.spec, record.result, spec)
        return record

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
        with _explained(self.root):
            return load_record(folder, spec) if _exists(folder) else None

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

        A cut-off training goes on from its last state; a damaged record is set aside as `<key>.damaged.1` and made
        anew.  Two processes that want the same run make it once.  Raises OptionError for a device that is not there,
        RecordError where the runs cannot be written, and what `fit` and `prepare` do.
        """
        usable(device, spec.world_size)
        folder = self.folder(spec)
        try:
            if (done := self.trained(spec)) is not None:
                return _of_these_pictures(done)
        except RecordError:
            pass  # told below, by the process that sets it aside
        with _explained(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            with files.locked(self.root / ".locks" / folder.name):
                if _exists(folder):
                    try:
                        return load_record(folder, spec)
                    except RecordError as error:
                        aside = folder.rename(paths.numbered(folder.with_suffix(".damaged")))
                        print(f"set aside as {aside.name}: {error}", flush=True)
                work = self.root / f".{folder.name}.partial"
                work.mkdir(exist_ok=True)
                if not _is_filled(work, spec):
                    files.write(work / "spec.json", json.dumps(spec.mapping(), indent=1))
                    if spec.world_size > 1:
                        module = "ucdr_core.evidence.store"
                        settings = (spec.world_size, device, progress, checkpoint_seconds, compiled)
                        parallel.launch(module, work, *settings)
                    else:
                        self.fill(work, spec, device, progress, checkpoint_seconds, compiled)
                for leftover in [*work.glob("state.pt*"), *work.glob(".*.partial")]:
                    leftover.unlink()
                files.sync(work)
                work.rename(folder)
                files.sync(self.root)
        return load_record(folder, spec)

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
        methods = (spec.method, *([spec.features["method"]] if spec.features else []))
        code = code_digest(*methods)
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
                state_file=work / "state.pt",
                state_of=f"{spec.key} {code}",
                checkpoint_seconds=checkpoint_seconds,
                progress=progress,
                compiled=compiled,
            )
        scores, per_query, counts = _scored(method, feed, spec, tasks, device)
        if process_number():
            return
        with files.written(work / "per_query.npz") as partial, open(partial, "wb") as file:
            np.savez_compressed(file, **per_query)
        weights = {name: value.contiguous().cpu() for name, value in method.state_dict().items()}
        files.write(work / "weights.safetensors", save(weights))
        files.write(work / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in log))
        manifest, split = training.manifest, training.split
        result: dict[str, Any] = {
            "scores": scores,
            "counts": counts,
            "epochs": len(log),
            "selected_epoch": _selected_epoch(log, spec.recipe),
            "data": {
                "name": manifest.name,
                "fingerprint": manifest.fingerprint,
                "images": len(manifest),
                "trained_on": len(training.train),
                "content": data.images.content(manifest),
            },
            "split": {
                "name": split.name,
                "train": list(training.seen),
                "val": list(split.val),
                "test": list(split.test),
                "source": split.source,
            },
            "code": code,
        }
        check_scores(result, per_query)
        content = {
            "key": spec.key,
            "spec": spec.mapping(),
            "result": result,
            "circumstances": {
                "seconds": round(time.monotonic() - started, 2),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "compiled": compiled,
                "peak_memory_mb": peak_memory_mb(),
                **surroundings(device),
            },
            "files": {name: hashlib.sha256((work / name).read_bytes()).hexdigest() for name in FILES},
        }
        files.write(work / "record.json", json.dumps({**content, "digest": digest_of(content)}, indent=1))


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


def _exists(path: Path) -> bool:
    """A link that leads nowhere is there too.  Raises OSError where it cannot be told."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _of_these_pictures(record: TrainedRun) -> TrainedRun:
    """The record; says so where the bytes of its pictures have changed, which their sizes and names do not tell."""
    made_of = record.result["data"].get("content")
    if made_of is not None and made_of != data.images.content(record.spec.manifest()):
        print(
            f"run {record.key}: its pictures have changed since; move {record.folder} away to train on them", flush=True
        )
    return record


def _is_filled(work: Path, spec: TrainSpec) -> bool:
    """Whether a run was finished but for the last rename."""
    try:
        content = record_in(work)
        check_answers(TrainSpec.from_mapping(content["spec"]), content["result"], spec)
        return content["key"] == spec.key
    except (RecordError, OptionError, data.DataError):
        return False


@contextmanager
def _explained(root: Path):
    """What the system refuses (a full disk, a folder that may not be written), as a RecordError of one line."""
    try:
        yield
    except OSError as error:
        where, reason = error.filename or root, error.strerror or str(error)
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            reason = "a file stands where a folder is meant"
        raise RecordError(
            f"{where}: {reason}; runs are kept under {root} ($UCDR_HOME), and a training that was cut "
            "off goes on from its last state"
        ) from error


def _main(work: str, device: str, progress: str, checkpoint_seconds: str, compiled: str) -> None:
    """One of the processes of a run on several GPUs."""
    with parallel.process(device) as (own_device, local):
        folder = Path(work)
        spec = TrainSpec.from_mapping(documents.read(folder / "spec.json"))
        Store(folder.parent).fill(
            folder, spec, own_device, bool(int(progress)) and local == 0, float(checkpoint_seconds), bool(int(compiled))
        )


if __name__ == "__main__":
    _main(*sys.argv[1:])
