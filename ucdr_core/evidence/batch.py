"""Many runs: skip what is done, resume what was cut off, go on after a failure and list the failures at the end."""

from __future__ import annotations

import os
import threading
import traceback
from concurrent import futures
from contextlib import suppress
from multiprocessing import active_children, connection, get_context, parent_process
from pathlib import Path

from ucdr_core import files
from ucdr_core.device import usable
from ucdr_core.evidence.record import RecordError
from ucdr_core.evidence.store import Store
from ucdr_core.methods import METHODS
from ucdr_core.options import Count, OptionError, checked
from ucdr_core.progress import bar
from ucdr_core.training.prepare import prepare
from ucdr_core.training.spec import TrainSpec

REFRESH_SECONDS = 5.0  # of the bar while no run ends


def reproduce(
    specs: list[TrainSpec], jobs: int | None = None, progress: bool = True, gpus: int = 0, root: Path | None = None
) -> list[tuple[TrainSpec, str]]:
    """Makes the user's own runs that are missing or damaged, `jobs` at a time (default: one per core), or one on each
    GPU.

    On a CPU each has one thread: two processes with two threads on two cores slow one another down many times.
    Returns the failures as (spec, traceback), which are also under `logs` beside the runs; an interrupt keeps what is
    done and ends the workers.

    root    folder of the runs; default: the user's

    Raises OptionError for a number of jobs below 1, and of GPUs that this machine does not have.
    """
    if gpus < 0:
        raise OptionError(f"gpus must be at least 0, not {gpus}")
    if gpus:
        usable("cuda", gpus)
    if jobs is not None:
        checked(jobs, Count, "jobs")
    store = Store(root)
    todo = [spec for spec in specs if not _done(store, spec)]
    before = len(specs) - len(todo)
    if progress:
        print(f"{len(specs)} runs, {before} of them done", flush=True)
    if not todo:
        return []
    if not gpus:
        _fill_caches(todo, progress)
    failures = []
    jobs = min(gpus or jobs or len(os.sched_getaffinity(0)), len(todo))
    context = get_context("spawn")
    slots = context.Queue()
    for slot in range(jobs):
        slots.put(slot if gpus else None)
    others = active_children()
    pool = futures.ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(slots, gpus))
    try:
        spec_of = {pool.submit(_make, spec, "cuda" if gpus else "cpu", root): spec for spec in todo}
        pending = set(spec_of)
        with bar(total=len(specs), initial=before, desc="runs", unit="run", disable=not progress) as progress_bar:
            while pending:
                finished, pending = futures.wait(pending, REFRESH_SECONDS, futures.FIRST_COMPLETED)
                for future in finished:
                    if (problem := future.result()) is not None:
                        failures.append((spec_of[future], problem))
                        progress_bar.set_postfix(failed=len(failures))
                progress_bar.update(len(finished))
                progress_bar.refresh()
    except BaseException:  # an interrupt above all: a worker would go on with what waits in its queue
        for child in active_children():
            if child not in others:
                child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return failures


def log_of(spec: TrainSpec, root: Path | None = None) -> Path:
    """Where the traceback of a failed run is."""
    return Store(root).root / "logs" / f"{spec.key}.log"


def _done(store: Store, spec: TrainSpec) -> bool:
    try:
        return store.trained(spec) is not None
    except RecordError:
        return False


def _fill_caches(specs: list[TrainSpec], progress: bool) -> None:
    """Makes the images and features that many runs share, with all threads, before workers race for them."""
    inputs = {
        (
            spec.dataset,
            spec.data_root,
            spec.backbone,
            spec.weights,
            spec.regime,
            spec.size_px,
            spec.precision,
            spec.invert_domains,
            METHODS[spec.method].wants_jigsaw,
        ): spec
        for spec in specs
        if not spec.features
    }
    for spec in inputs.values():
        with suppress(Exception):  # what cannot be prepared fails again in its run, and is listed with the failures
            prepare(spec, progress=progress)


def _start_worker(slots, gpus: int) -> None:
    """Takes a GPU of its own, or one thread, and lets the worker end when its parent was killed."""
    slot = slots.get()
    if gpus:  # before CUDA is started in this process; of the devices that the parent may see
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[slot] if slot < len(visible) and visible[slot] else str(slot)
    import torch

    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // gpus) if gpus else 1)

    def end_with_parent() -> None:
        parent = parent_process()
        assert parent is not None  # this is a worker
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _make(spec: TrainSpec, device: str, root: Path | None) -> str | None:
    try:
        Store(root).make(spec, progress=False, device=device)
        return None
    except Exception:  # one run's failure must not end the batch; it is reported with its traceback
        problem = traceback.format_exc()
        with suppress(Exception):
            log = log_of(spec, root)
            files.write(log, f"{spec.mapping()}\n\n{problem}")
        return problem
