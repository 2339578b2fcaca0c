"""Every run of a paper: skip what is done, resume what was cut off, go on after a failure and list the failures at the end."""
from __future__ import annotations

import os
import threading
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait

from tqdm import tqdm

from . import runs
from .runs import Store, TrainSpec


def reproduce(specs: list[TrainSpec], jobs: int | None = None, progress: bool = True) -> list[tuple[TrainSpec, str]]:
    """Makes the runs that are missing or damaged, `jobs` at a time (default: one per core), one thread each.

    One thread each because two processes with two threads on two cores slow one another down many times.
    Returns the failures as (spec, traceback); an interrupt keeps what is done and ends the workers.
    """
    store = Store()
    todo = [spec for spec in specs if not _done(store, spec)]
    if progress:
        print(f"{len(specs)} runs, {len(specs) - len(todo)} of them done", flush=True)
    if not todo:
        return []
    # Decoded images and trunk features are shared by many runs: made first, with all threads, not raced for by the workers.
    for spec in {(s.dataset, s.data_root, s.backbone, s.weights, s.regime, s.size_px, s.precision, s.invert_domains,
                  runs.METHODS[s.method].wants_jigsaw): s for s in todo if not s.features}.values():
        with suppress(Exception):  # what cannot be prepared fails again in its run, and is listed with the failures
            runs.prepare(spec, progress=progress)
    failures = []
    jobs = min(jobs or len(os.sched_getaffinity(0)), len(todo))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
        futures = {pool.submit(_make, spec): spec for spec in todo}
        try:
            for future in tqdm(as_completed(futures), total=len(todo), desc="runs", unit="run", disable=not progress):
                if (problem := future.result()) is not None:
                    failures.append((futures[future], problem))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failures


def _done(store: Store, spec: TrainSpec) -> bool:
    try:
        return store.get(spec) is not None
    except runs.RecordError:
        return False


def _start_worker() -> None:
    """One thread; and a worker whose parent was killed ends, instead of waiting for work for ever."""
    import torch

    torch.set_num_threads(1)

    def end_with_parent() -> None:
        wait([parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _make(spec: TrainSpec) -> str | None:
    try:
        Store().make(spec, progress=False)
        return None
    except Exception:  # one run's failure must not end the batch; it is reported with its traceback
        return traceback.format_exc()
