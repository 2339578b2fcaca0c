"""What a run will take: counted from its data, and timed by a probe of some steps that leave no trace."""
from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch

from . import runs
from .batches import Batches
from .methods import from_mapping
from .runs import Store, TrainSpec
from .training import Recipe, Stepper, embed

PROBE, WARM_UP = 20, 3  # steps timed, and steps before them


@dataclass(frozen=True)
class Plan:
    """images of the data set, samples trained on, steps an epoch, epochs at most; seconds of a step and of a validation (0: none);
    memory of the device in GB; closed: solved at once, without steps."""

    images: int
    trained_on: int
    batch: int
    steps: int
    epochs: int
    step_seconds: float
    validation_seconds: float
    memory_gb: float
    device: str
    closed: bool = False

    @property
    def epoch_seconds(self) -> float:
        return self.steps * self.step_seconds + self.validation_seconds

    def lines(self) -> list[str]:
        first = f"plan: {self.images:,} images, {self.trained_on:,} of them trained on"
        if self.closed:
            return [f"{first}; solved at once, or nothing to train; peak memory so far {self.memory_gb:.1f} GB on {self.device}"]
        return [f"{first}; {self.steps:,} steps of {self.batch} samples an epoch, at most {self.epochs} epochs",
                f"estimate from {PROBE} steps on {self.device}: {self.step_seconds * 1000:.1f} ms a step ({self.batch / self.step_seconds:,.0f} images/s), "
                f"{duration(self.epoch_seconds)} an epoch with validation, at most {duration(self.epoch_seconds * self.epochs)} in all; "
                f"memory {self.memory_gb:.1f} GB"]


def plan(spec: TrainSpec, device: str = "cpu", progress: bool = False, store: Store | None = None) -> Plan:
    """Builds the method and its inputs (whose caches the run will use), takes some steps and some embeddings, and forgets them.

    A run on several GPUs is probed on one with the whole batch, and its steps are taken to share the work evenly.
    """
    training, recipe = spec.training(), from_mapping(Recipe, spec.recipe, "recipe")
    method, feed = runs.prepare(spec, device, progress, store)
    counts = {"images": len(training.manifest), "trained_on": len(training.train), "device": runs.surroundings(device)["device"]}
    if method.closed_form or not method.trained:
        return Plan(**counts, batch=0, steps=0, epochs=0, step_seconds=0.0, validation_seconds=0.0, memory_gb=_memory_gb(device), closed=True)
    batches = Batches(method, training, recipe.batch_size, recipe.photo_share)
    stepper = Stepper(method, batches, feed, recipe, spec.seed)
    steps = chain.from_iterable(map(stepper.epoch, range(PROBE + WARM_UP)))  # an epoch may have fewer steps
    for _ in islice(steps, WARM_UP):
        pass
    seconds = timed(lambda: list(islice(steps, PROBE)), device) / PROBE
    rows = np.concatenate([training.val_query, training.val_gallery]) if recipe.selection != "last" else np.array([], int)
    validation = 0.0
    if len(rows):
        some = rows[:256]
        embed(method, feed, some)
        validation = timed(lambda: embed(method, feed, some), device) * len(rows) / len(some)
    size = len(next(batches.epoch(np.random.default_rng(0), np.random.default_rng(0))))
    return Plan(**counts, batch=size, steps=batches.steps, epochs=recipe.epochs, step_seconds=seconds / spec.world_size,
                validation_seconds=validation / spec.world_size, memory_gb=_memory_gb(device))


def timed(work, device: str) -> float:
    """Seconds, with all that the device was given to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _memory_gb(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_reserved() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def duration(seconds: float) -> str:
    """3 s, 5 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
