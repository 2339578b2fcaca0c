"""What a run will take: counted from its data, and timed by a probe of some steps that leave no trace."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

from ucdr_core.options import from_mapping
from ucdr_core.progress import duration
from ucdr_core.training.batches import Batches
from ucdr_core.training.loop import Recipe, Stepper, embed
from ucdr_core.training.prepare import FirstStage, prepare
from ucdr_core.training.spec import TrainSpec

PROBE, WARM_UP = 20, 3  # steps timed, and steps before them


@dataclass(frozen=True)
class Plan:
    """What a run will take."""

    images: int  # of the data set
    trained_on: int  # samples
    batch: int  # samples of a step
    steps: int  # an epoch
    epochs: int  # at most
    step_seconds: float
    validation_seconds: float  # 0: none
    memory_gb: float  # of the device
    device: str
    closed: bool = False  # True: solved at once, or nothing to train; without steps

    @property
    def epoch_seconds(self) -> float:
        return self.steps * self.step_seconds + self.validation_seconds

    def lines(self) -> list[str]:
        first = f"plan: {self.images:,} images, {self.trained_on:,} of them trained on"
        if self.closed:
            memory = f"peak memory so far {self.memory_gb:.1f} GB on {self.device}"
            return [f"{first}; solved at once, or nothing to train; {memory}"]
        epoch, whole = duration(self.epoch_seconds), duration(self.epoch_seconds * self.epochs)
        return [
            f"{first}; {self.steps:,} steps of {self.batch} samples an epoch, at most {self.epochs} epochs",
            f"estimate from {PROBE} steps on {self.device}: {self.step_seconds * 1000:.1f} ms a step "
            f"({self.batch / self.step_seconds:,.0f} images/s), {epoch} an epoch with validation, at most {whole} in "
            f"all; memory {self.memory_gb:.1f} GB",
        ]


def plan(spec: TrainSpec, device: str = "cpu", progress: bool = False, first_stage: FirstStage | None = None) -> Plan:
    """Counts and timings of a run: some steps and some embeddings, which are then forgotten.

    The method and its inputs are built as the run will, whose caches they fill; errors are those of `prepare`.  A run
    on several GPUs is probed on one with the whole batch, and its steps are taken to share the work evenly.
    """
    training, recipe = spec.training(), from_mapping(Recipe, spec.recipe, "recipe")
    method, feed = prepare(spec, device, progress, first_stage)
    counts = {
        "images": len(training.manifest),
        "trained_on": len(training.train),
        "device": _device_name(device),
    }
    if method.closed_form or not method.trained:
        nothing = {"batch": 0, "steps": 0, "epochs": 0, "step_seconds": 0.0, "validation_seconds": 0.0}
        return Plan(**counts, **nothing, memory_gb=_memory_gb(device), closed=True)
    batches = Batches(method, training, recipe.batch_size, recipe.photo_share)
    stepper = Stepper(method, batches, feed, recipe, spec.seed)
    steps = chain.from_iterable(map(stepper.epoch, range(PROBE + WARM_UP)))  # an epoch may have fewer steps
    for _ in islice(steps, WARM_UP):
        pass
    seconds = timed(lambda: list(islice(steps, PROBE)), device) / PROBE
    rows = np.concatenate([training.val_query, training.val_gallery])
    validation = 0.0
    if len(rows) and recipe.selection != "last":
        sample = rows[:256]
        embed(method, feed, sample)
        validation = timed(lambda: embed(method, feed, sample), device) * len(rows) / len(sample)
    size = len(next(batches.epoch(np.random.default_rng(0), np.random.default_rng(0))))
    return Plan(
        **counts,
        batch=size,
        steps=batches.steps,
        epochs=recipe.epochs,
        step_seconds=seconds / spec.world_size,
        validation_seconds=validation / spec.world_size,
        memory_gb=_memory_gb(device),
    )


def timed(work: Callable[[], Any], device: str) -> float:
    """Seconds that `work()` takes, with all that the device was given to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()


def _memory_gb(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_reserved() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
