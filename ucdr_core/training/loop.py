"""One loop: fit(method, training, feed, recipe) -> log.  Resumable, deterministic, stopped early by validation."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from torch import nn

from ucdr_core import files
from ucdr_core.data import images
from ucdr_core.data.manifest import DataError
from ucdr_core.data.protocols import Training
from ucdr_core.device import process_number, rows_of_process, to_device, world
from ucdr_core.methods.base import Batch, Method, scaled_features
from ucdr_core.options import Count, OptionError, Positive, Range, ShareBelow1, Weight
from ucdr_core.progress import bar as progress_bar
from ucdr_core.retrieval import metrics
from ucdr_core.training import parallel
from ucdr_core.training.batches import Batches
from ucdr_core.training.features import Inputs, Maps, Pixels


@dataclass(frozen=True)
class Recipe:
    """How a method is trained.  Defaults: SnMpNet's paper, which the authors' code gives the missing numbers of."""

    optimiser: Literal["sgd", "adam"] = "sgd"
    lr: Positive = 1e-3
    # exponential: lr 10^(-3 epoch / 20), at least 1e-6 (SnMpNet, SAKE); halving: lr 2^-epoch, at least 5e-5 (CMT)
    decay: Literal["exponential", "halving", "constant"] = "exponential"
    momentum: ShareBelow1 = 0.9
    nesterov: bool = True  # the paper; the code has False
    weight_decay: Weight = 0.0
    batch_size: Count = 64  # samples, divided evenly among the training domains; or triplets; or pairs
    epochs: Count = 100  # at most; see `batches`
    patience: Count = 15  # epochs without a better score
    # The epoch that is kept: best on validation classes, the last, or best on the test classes: that is how the authors
    # of STRAD chose, and it is here to measure what it is worth.
    selection: Literal["val", "last", "test"] = "val"
    select_by: Literal["map_all", "map_200", "prec_200"] = "map_all"
    # Of pixels, so in the finetune regime only; see `images.augment`.
    augment: Literal["none", "snmpnet", "snmpnet_without_hue", "sake"] = "snmpnet"
    beta1: ShareBelow1 = 0.9  # of Adam
    photo_share: ShareBelow1 = 0.0  # of a batch of domains that is photos (SAKE: 2/3); 0: every domain alike
    # The rate rises linearly over so many steps (STRAD's earlier code: 1,000).
    warmup_steps: Annotated[int, Range(0, 1 << 40)] = 0
    clip_norm: Weight = 0.0  # of the gradient (STRAD's earlier code: 1); 0: not clipped
    reshuffle: bool = True  # a new order of the samples each epoch; the code shuffles once per run

    def __post_init__(self):
        if self.nesterov and not self.momentum:
            raise OptionError("recipe: nesterov needs momentum above 0")

    def rate(self, epoch: int) -> float:
        """The learning rate in an epoch, counted from 0, after warming up."""
        if self.decay == "exponential":
            return max(self.lr * 10 ** (-3 * epoch / 20), 1e-6)
        return max(self.lr * 0.5**epoch, 5e-5) if self.decay == "halving" else self.lr


@dataclass(frozen=True)
class Feed:
    """Turns rows into what the method takes.

    Cached maps or vectors are given as they are, pixels augmented on the device and normalised.
    """

    inputs: Inputs | Maps | Pixels
    dtype: torch.dtype
    device: str
    photos: np.ndarray  # (n,) bool, which samples of the manifest are of the gallery domain
    normalise: Callable | None = None  # given for pixels
    inverted: np.ndarray | None = None  # (n,) bool, pixels that are shown white on black
    jigsaw: Maps | None = None
    jigsaw_labels: np.ndarray | None = None

    def __call__(
        self, rows: np.ndarray, generator: torch.Generator | None = None, augmentation: str = "none"
    ) -> torch.Tensor:
        """(B, ...) of the rows (B,); augmented where a generator is given."""
        if isinstance(self.inputs, Maps):
            return self.inputs[rows]
        if isinstance(self.inputs, Inputs):
            return to_device(self.inputs[rows], self.device, self.dtype)
        return self._normalised(self._pixels(rows), generator, augmentation)

    def _pixels(self, rows: np.ndarray) -> torch.Tensor:
        """(B, H, W, 3) uint8, inverted where the domain is."""
        pixels = self.inputs[rows]
        if self.inverted is None or not self.inverted[rows].any():
            return pixels
        return torch.where(to_device(self.inverted[rows], self.device)[:, None, None, None], 255 - pixels, pixels)

    def _normalised(
        self, pixels: torch.Tensor, generator: torch.Generator | None = None, augmentation: str = "none"
    ) -> torch.Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, H, W), augmented and normalised; channels last in memory on a GPU."""
        pixels = pixels.permute(0, 3, 1, 2).to(self.dtype) / 255
        pixels = self.normalise(pixels if generator is None else images.augment(pixels, generator, augmentation))
        return pixels.contiguous(memory_format=torch.channels_last) if pixels.is_cuda else pixels

    def shuffled(
        self, inputs: torch.Tensor, rows: np.ndarray, random: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The inputs (B, ...) of these rows tile-shuffled, and which order (1..30) shuffled each, (B,).

        Pictures are shuffled as they were augmented.  Of a cached map there is one shuffled copy, in an order of its
        own.
        """
        if self.jigsaw is not None:
            return self.jigsaw[rows], to_device(self.jigsaw_labels[rows], self.device)
        labels = random.integers(1, len(images.JIGSAW_ORDERS), len(rows))
        orders = to_device(images.JIGSAW_ORDERS[labels], self.device)
        return images.shuffle_tiles(inputs, orders), to_device(labels, self.device)


def embed(method: Method, feed: Feed, rows: np.ndarray, space: str = "", batch: int = 512) -> np.ndarray:
    """Embeddings of the rows (n,) in one of the method's spaces, (n, D), computed `batch` rows at a time."""
    method.eval()
    share = rows[rows_of_process(len(rows))]  # of several processes, each embeds its share
    with torch.inference_mode():
        parts = [
            method.embed(feed(part), torch.from_numpy(feed.photos[part]), space)
            for part in (share[start : start + batch] for start in range(0, len(share), batch))
        ]
    return parallel.gather_rows(torch.cat(parts).cpu().numpy(), len(rows), feed.device)


def fit(
    method: Method,
    training: Training,
    feed: Feed,
    recipe: Recipe,
    seed: int,
    *,
    test: tuple[np.ndarray, np.ndarray] | None = None,
    state_file: Path | None = None,
    state_of: str = "",
    checkpoint_seconds: float = 20.0,
    progress: bool = True,
    compiled: bool = False,
) -> list[dict]:
    """One log entry per epoch (none for a closed form); trains the method in place, up to the selected epoch.

    test                query and gallery rows, looked at by the selection rule "test" alone
    state_file          the whole state of the loop is written there (by rename) every `checkpoint_seconds`, and a run
                        that was cut off goes on from it to the same result as one that was not; from the state before
                        it (`.before`) where it is damaged, and from the beginning where both are
    state_of            what the state is of: one of anything else is not gone on from
    compiled            the trained trunk goes through torch.compile

    Raises DataError where selection needs validation classes and the split has none, or the batches cannot be made;
    OptionError where the loss or the score is no longer finite; OSError where the state cannot be written.
    """
    batches = Batches(method, training, recipe.batch_size, recipe.photo_share)
    selection_rows = test if recipe.selection == "test" else (training.val_query, training.val_gallery)
    if recipe.selection != "last" and not all(len(rows) for rows in selection_rows):
        raise DataError(
            f"split {training.split.name!r} has no validation samples to select an epoch by; set recipe.selection to "
            "'last'"
        )

    def selection_score() -> float:
        return validate(method, training, feed, recipe.select_by, selection_rows)

    if method.closed_form:
        with torch.no_grad():
            rows = training.train
            blocks = [rows[start : start + 512] for start in range(0, len(rows), 512)]
            method.fit_features(
                torch.cat([scaled_features(feed(block)) for block in blocks]),
                to_device(batches.labels[rows], feed.device),
                torch.from_numpy(batches.photos[rows]),
            )
            if recipe.selection != "last":
                method.choose(selection_score)
        method.eval()
        return []

    stepper = Stepper(method, batches, feed, recipe, seed, compiled)
    optimiser, random, generator = stepper.optimiser, stepper.random, stepper.generator
    log: list[dict] = []
    best = {"score": -1.0, "epoch": -1, "weights": _weights(method)}
    if state_file is not None and (state := saved_state(state_file, state_of, feed.device)) is not None:
        method.load_state_dict(state["method"])
        optimiser.load_state_dict(state["optimiser"])
        random.bit_generator.state = json.loads(state["random"])
        generator.set_state(state["generator"].cpu())
        log, best = json.loads(state["log"]), state["best"]
    saved = time.monotonic()
    with progress_bar(
        total=recipe.epochs, initial=len(log), desc="training", unit="epoch", disable=not progress
    ) as bar:
        while len(log) < recipe.epochs:
            epoch = len(log)
            if recipe.selection != "last" and epoch - 1 - best["epoch"] >= recipe.patience:
                break
            sums: dict[str, torch.Tensor] = {}
            for terms in stepper.epoch(epoch):
                for name, value in terms.items():  # summed on the device: reading a value would wait for it
                    sums[name] = sums.get(name, 0) + value
            parallel.align(method)
            entry = {"epoch": epoch, **{f"loss_{name}": float(value) / batches.steps for name, value in sums.items()}}
            _check_finite(entry, epoch)
            if recipe.selection != "last":
                score = parallel.value_of_first_process(selection_score(), feed.device)
                entry[f"{recipe.selection}_{recipe.select_by}"] = score
                _check_finite(entry, epoch)
                if score > best["score"] + 1e-9:
                    best = {"score": score, "epoch": epoch, "weights": _weights(method)}
                bar.set_postfix({recipe.selection: f"{score:.3f}", "best": f"{best['score']:.3f}"})
            log.append(entry)
            bar.update()
            if state_file is not None and process_number() == 0 and time.monotonic() - saved >= checkpoint_seconds:
                _save_state(state_file, state_of, method, optimiser, random, generator, log, best)
                saved = time.monotonic()
    if recipe.selection != "last":
        method.load_state_dict(best["weights"])
        method.choose(selection_score)
    method.eval()
    return log


def validate(method: Method, training: Training, feed: Feed, metric: str, rows: tuple[np.ndarray, np.ndarray]) -> float:
    """The mean of the metric over queries; rows: those of the queries and those of the gallery.

    On validation classes every trained domain but the gallery's queries the gallery domain.
    """
    labels = training.manifest.samples.class_name.to_numpy()
    queries, gallery = rows
    scores = metrics.evaluate(
        embed(method, feed, queries),
        labels[queries],
        embed(method, feed, gallery),
        labels[gallery],
        method.distance,
        device=feed.device,
    )
    return scores[metric]


class Stepper:
    """The steps of a training: what one epoch after another does to the method."""

    def __init__(self, method: Method, batches: Batches, feed: Feed, recipe: Recipe, seed: int, compiled: bool = False):
        self.method, self.batches, self.feed, self.recipe, self.seed = method, batches, feed, recipe, seed
        if world() > 1:
            parallel.distribute(method)
        if compiled:
            for part in method.modules():
                if any(True for _ in getattr(part, "upper", nn.Identity()).parameters()):
                    part.upper.compile()
        self.optimiser = _optimiser(method, recipe)
        self.random, self.generator = np.random.default_rng([seed, 1]), torch.Generator().manual_seed(seed)
        method.draw_with(self.random)

    def epoch(self, number: int) -> Iterator[dict[str, torch.Tensor]]:
        """Loss terms (detached, on the device) after each step.  Nothing here waits for the device."""
        recipe, batches = self.recipe, self.batches
        order = self.random if recipe.reshuffle else np.random.default_rng([self.seed, 2])
        self.method.train()
        for step, rows in enumerate(self._prefetching(batches.epoch(order, self.random))):
            iteration = number * batches.steps + step
            for group in self.optimiser.param_groups:
                rate = recipe.rate(number) * group.get("rate", 1)
                group["lr"] = rate * min(1, (iteration + 1) / recipe.warmup_steps) if recipe.warmup_steps else rate
            terms = self.method.losses(self.batch(rows, number, step), self.random)
            self.optimiser.zero_grad(set_to_none=True)
            sum(terms.values()).backward()
            if recipe.clip_norm:
                nn.utils.clip_grad_norm_(self.method.parameters(), recipe.clip_norm)
            self.optimiser.step()
            self.method.after_step()
            yield {name: value.detach() for name, value in terms.items()}

    def batch(self, rows: np.ndarray, epoch: int, step: int) -> Batch:
        """What the method's losses take: the rows (B,) fed, with their labels, sides and domains."""
        batches, feed, augmentation = self.batches, self.feed, self.recipe.augment
        inputs = feed(rows, None if augmentation == "none" else self.generator, augmentation)
        return Batch(
            inputs,
            to_device(batches.labels[rows], feed.device),
            torch.from_numpy(batches.photos[rows]),
            torch.from_numpy(batches.domains[rows]),
            *(feed.shuffled(inputs, rows, self.random) if self.method.wants_jigsaw else (None, None)),
            epoch=epoch,
            step=step,
            iteration=epoch * batches.steps + step,
        )

    def _prefetching(self, rows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The same rows, one batch drawn in advance where pixels are gathered while the device is at work."""
        if not isinstance(self.feed.inputs, Pixels):
            yield from rows
            return
        for current, following in pairwise(chain(rows, [None])):
            if following is not None:
                self.feed.inputs.prefetch(following)
            yield current


class Together:
    """Optimisers of different parameters that step together, as one `torch.optim.Optimizer` does."""

    def __init__(self, *optimisers: torch.optim.Optimizer):
        self.optimisers = optimisers

    @property
    def param_groups(self) -> list[dict]:
        return [group for optimiser in self.optimisers for group in optimiser.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none)

    def step(self) -> None:
        for optimiser in self.optimisers:
            optimiser.step()

    def state_dict(self) -> dict:
        return {"optimisers": [optimiser.state_dict() for optimiser in self.optimisers]}

    def load_state_dict(self, state: dict) -> None:
        for optimiser, own in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(own)


def _optimiser(method: Method, recipe: Recipe) -> torch.optim.Optimizer | Together:
    by_sgd = method.sgd_groups()
    apart = {id(p) for group in by_sgd for p in group["params"]}
    parameters = [p for p in method.parameters() if p.requires_grad and id(p) not in apart]
    if recipe.optimiser == "adam":
        main = torch.optim.Adam(
            parameters, lr=recipe.lr, betas=(recipe.beta1, 0.999), weight_decay=recipe.weight_decay, fused=True
        )
    else:
        main = torch.optim.SGD(
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )
    return Together(main, torch.optim.SGD(by_sgd, lr=recipe.lr)) if by_sgd else main


def _weights(method: Method) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in method.state_dict().items()}


def _check_finite(entry: dict, epoch: int) -> None:
    if not all(np.isfinite(value) for value in entry.values()):
        raise OptionError(f"recipe: the loss or the score is no longer finite in epoch {epoch}: {entry}; lower lr")


# ----------------------------------------------------------------------------------------------------------- the state

DIGEST = hashlib.sha256().digest_size  # bytes at the end of a state file, over all that stand before them


def saved_state(path: Path, of: str, device: str = "cpu") -> dict | None:
    """The newest state of `of` that is whole, or None.

    One that is damaged, or of something else, is set aside (`.aside`) and named in one line.
    """
    for file in (path, before(path)):
        if not file.exists():
            continue
        try:
            if not _is_whole(file):
                raise ValueError("its digest does not match")
            state = torch.load(file, map_location=device, weights_only=True)
            if state["of"] == of:
                return state
            problem = "is of another training, or of other code"
        except Exception as error:  # of damaged files, many kinds
            problem = f"is damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        if process_number() == 0:
            then = "goes on from the state before it" if file == path and before(path).exists() else "begins anew"
            print(f"{file} {problem}: the training {then}", flush=True)
            file.replace(file.with_name(f"{file.name}.aside"))
    return None


def before(path: Path) -> Path:
    """The state that was written before this one."""
    return path.with_name(f"{path.name}.before")


def _is_whole(path: Path) -> bool:
    digest, remaining = hashlib.sha256(), path.stat().st_size - DIGEST
    with open(path, "rb") as file:
        while remaining > 0 and (block := file.read(min(remaining, 1 << 20))):
            digest.update(block)
            remaining -= len(block)
        return file.read() == digest.digest()


def _save_state(path: Path, of: str, method, optimiser, random, generator, log, best) -> None:
    state = {
        "of": of,
        "method": method.state_dict(),
        "optimiser": optimiser.state_dict(),
        "random": json.dumps(random.bit_generator.state),
        "generator": generator.get_state(),
        "log": json.dumps(log),
        "best": best,
    }
    with files.written(path) as partial:
        try:
            with open(partial, "wb") as file:
                torch.save(state, file)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(errno.ENOSPC, "the state cannot be written: the disk is full", str(path)) from error
        with open(partial, "r+b") as file:  # torch reads its archive from the front: what follows it is in no one's way
            file.write(hashlib.file_digest(file, "sha256").digest())
        files.sync(partial)
        if path.exists():
            path.replace(before(path))
