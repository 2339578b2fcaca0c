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

from . import papers, runs
from .data import DataError
from .runs import Store, TrainSpec


def matrix(paper: str = "all", tier: str = "E") -> list[TrainSpec]:
    """The runs behind a paper's tables and figures, those that others are fed from first; "all": of all that have an analogue.

    tier "P": the same rows on the paper's data with its recipe.  Raises DataError where that data, or its word vectors, are missing.
    """
    specs = papers.specs_of(*((*papers.PAPERS, *papers.ACROSS) if paper == "all" else [paper]))
    if tier == "E":
        return specs
    from .papers import full

    every = full.matrix(specs)
    first = [own for spec in every if (own := spec.features_spec()) is not None]
    problems: dict[str, None] = {}
    kept: dict[str, TrainSpec] = {}
    for spec in (*first, *every):
        try:
            kept.setdefault(spec.key, spec)
        except DataError as error:
            problems[str(error)] = None
        except FileNotFoundError as error:
            problems[f"there is no file {error.filename}: GloVe 6B ({full.GLOVE}) and Google News word2vec ({full.WORD2VEC}) go under $UCDR_DATA/vectors"] = None
    if not kept:
        raise DataError("nothing of tier P can be run here:\n" + "\n".join(problems))
    for problem in problems:
        print(f"left out: {problem}", flush=True)
    return list(kept.values())


def reproduce(specs: list[TrainSpec], jobs: int | None = None, progress: bool = True, gpus: int = 0) -> list[tuple[TrainSpec, str]]:
    """Makes the runs that are missing or damaged, `jobs` at a time (default: one per core), one thread each, or one on each GPU.

    One thread each because two processes with two threads on two cores slow one another down many times.
    Returns the failures as (spec, traceback), which are also under `logs` beside the runs; an interrupt keeps what is done and ends the
    workers.
    """
    store = Store()
    todo = [spec for spec in specs if not _done(store, spec)]
    if progress:
        print(f"{len(specs)} runs, {len(specs) - len(todo)} of them done", flush=True)
    if not todo:
        return []
    if not gpus:
        # Decoded images and trunk features are shared by many runs: made first, with all threads, not raced for by the workers.
        for spec in {(s.dataset, s.data_root, s.backbone, s.weights, s.regime, s.size_px, s.precision, s.invert_domains,
                      runs.METHODS[s.method].wants_jigsaw): s for s in todo if not s.features}.values():
            with suppress(Exception):  # what cannot be prepared fails again in its run, and is listed with the failures
                runs.prepare(spec, progress=progress)
    failures = []
    jobs = min(gpus or jobs or len(os.sched_getaffinity(0)), len(todo))
    context = get_context("spawn")
    slots = context.Queue()
    for slot in range(jobs):
        slots.put(slot if gpus else None)
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(slots, gpus)) as pool:
        futures = {pool.submit(_make, spec, "cuda" if gpus else "cpu"): spec for spec in todo}
        try:
            for future in tqdm(as_completed(futures), total=len(todo), desc="runs", unit="run", disable=not progress):
                if (problem := future.result()) is not None:
                    failures.append((futures[future], problem))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failures


def log_of(spec: TrainSpec):
    """Where the traceback of a failed run is."""
    return Store().root / "logs" / f"{spec.key}.log"


def _done(store: Store, spec: TrainSpec) -> bool:
    try:
        return store.get(spec) is not None
    except runs.RecordError:
        return False


def _start_worker(slots, gpus: int) -> None:
    """A GPU of its own, or one thread; and a worker whose parent was killed ends, instead of waiting for work for ever."""
    slot = slots.get()
    if gpus:  # before CUDA is started in this process; of the devices that the parent may see
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[slot] if slot < len(visible) and visible[slot] else str(slot)
    import torch

    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // gpus) if gpus else 1)

    def end_with_parent() -> None:
        wait([parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _make(spec: TrainSpec, device: str) -> str | None:
    try:
        Store().make(spec, progress=False, device=device)
        return None
    except Exception:  # one run's failure must not end the batch; it is reported with its traceback
        problem = traceback.format_exc()
        with suppress(Exception):
            log = log_of(spec)
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(f"{spec.mapping()}\n\n{problem}")
        return problem
