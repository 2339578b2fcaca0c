"""One loop: fit(method, training, inputs, recipe) -> log.  Resumable, deterministic, early-stopped on validation classes."""
from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from .data import images
from .data.manifest import DataError
from .data.protocols import Training
from .features import Inputs
from .methods.base import Batch, Method, OptionError
from .retrieval import metrics


@dataclass(frozen=True)
class Recipe:
    """How a method is trained.  Defaults: SnMpNet's paper, which the authors' code gives the missing numbers of."""

    optimiser: Literal["sgd", "adam"] = "sgd"
    lr: float = 1e-3
    decay: Literal["exponential", "constant"] = "exponential"  # lr 10^(-3 epoch / 20), at least 1e-6
    momentum: float = 0.9
    nesterov: bool = True  # the paper; the code has False
    weight_decay: float = 0.0
    batch_size: int = 64  # divided evenly among the training domains
    epochs: int = 100  # at most; one ends when the smallest domain is used once
    patience: int = 15  # epochs without a better validation score
    selection: Literal["val", "last"] = "val"  # the epoch that is kept: best on validation classes, or the last
    select_by: Literal["map_all", "map_200"] = "map_all"
    augment: bool = True  # finetune regime only
    reshuffle: bool = True  # a new order of the samples each epoch; the code shuffles once per run

    def __post_init__(self):
        for name in ("lr", "batch_size", "epochs", "patience"):
            if not getattr(self, name) > 0:
                raise OptionError(f"recipe: {name} must be positive, not {getattr(self, name)}")
        if self.nesterov and not self.momentum:
            raise OptionError("recipe: nesterov needs momentum above 0")


@dataclass(frozen=True)
class Feed:
    """Turns rows into what the method takes: cached maps as they are, or pixels, augmented on the device and normalised."""

    inputs: Inputs
    dtype: torch.dtype
    device: str
    normalise: Callable | None = None  # given for pixels
    jigsaw: Inputs | None = None
    jigsaw_labels: np.ndarray | None = None
    positions: bool = True  # False: maps are averaged over their positions first, which is all the method would use

    def _maps(self, block: torch.Tensor) -> torch.Tensor:
        maps = block.to(self.device, self.dtype)
        return maps if self.positions else maps.mean((2, 3), keepdim=True)

    def __call__(self, rows: np.ndarray, generator: torch.Generator | None = None) -> torch.Tensor:
        """(B, ...) of the rows; a generator asks for augmentation."""
        block = torch.from_numpy(self.inputs[rows])
        if self.normalise is None:
            return self._maps(block)
        pixels = block.to(self.device).permute(0, 3, 1, 2).to(self.dtype) / 255
        return self.normalise(pixels if generator is None else images.augment(pixels, generator))

    def shuffled(self, rows: np.ndarray, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """The same samples tile-shuffled, and which permutation (1..30) shuffled each."""
        if self.normalise is None:
            return self._maps(torch.from_numpy(self.jigsaw[rows])), torch.from_numpy(self.jigsaw_labels[rows]).to(self.device)
        permutations = images.jigsaw_permutations(30)
        labels = random.integers(1, 31, len(rows))
        block = np.stack([images.shuffle_tiles(image, permutations[label - 1]) for image, label in zip(self.inputs[rows], labels)])
        pixels = torch.from_numpy(block).to(self.device).permute(0, 3, 1, 2).to(self.dtype) / 255
        return self.normalise(pixels), torch.from_numpy(labels).to(self.device)


def embed(method: Method, feed: Feed, rows: np.ndarray, batch: int = 512) -> np.ndarray:
    """Embeddings of the rows, (n, D)."""
    method.eval()
    with torch.inference_mode():
        return np.concatenate([method.embed(feed(rows[start:start + batch])).cpu().numpy() for start in range(0, len(rows), batch)])


def fit(
    method: Method, training: Training, feed: Feed, recipe: Recipe, seed: int, *,
    state_file: Path | None = None, checkpoint_seconds: float = 20.0, progress: bool = True,
) -> list[dict]:
    """Trains the method in place, leaves it at the selected epoch, and returns one log entry per epoch.

    With a `state_file`, the whole state of the loop is written there (by rename) every `checkpoint_seconds`, and a run that was
    cut off goes on from it to the same result as one that was not.
    Raises DataError where selection needs validation classes and the split has none, or a batch cannot hold every domain.
    """
    samples = training.manifest.samples
    class_of = {name: index for index, name in enumerate(training.seen)}
    labels = samples.class_name.map(class_of).to_numpy()
    domains = samples.domain.to_numpy()
    by_domain = [training.train[domains[training.train] == domain] for domain in training.domains]
    per_domain = min(recipe.batch_size // len(by_domain), *(len(rows) for rows in by_domain))
    if per_domain < 1:
        raise DataError(f"a batch of {recipe.batch_size} cannot hold {len(by_domain)} domains; raise recipe.batch_size")
    if recipe.selection == "val" and not (len(training.val_query) and len(training.val_gallery)):
        raise DataError(f"split {training.split.name!r} has no validation samples to select an epoch by; set recipe.selection to 'last'")
    steps = min(len(rows) for rows in by_domain) // per_domain

    optimiser = _optimiser(method, recipe)
    random, generator = np.random.default_rng([seed, 1]), torch.Generator().manual_seed(seed)
    log: list[dict] = []
    best = {"score": -1.0, "epoch": -1, "weights": _weights(method)}
    if state_file is not None and state_file.exists():
        state = torch.load(state_file, map_location=feed.device, weights_only=True)
        method.load_state_dict(state["method"])
        optimiser.load_state_dict(state["optimiser"])
        random.bit_generator.state = json.loads(state["random"])
        generator.set_state(state["generator"].cpu())
        log, best = json.loads(state["log"]), state["best"]
    saved = time.monotonic()
    with tqdm(total=recipe.epochs, initial=len(log), desc="training", unit="epoch", disable=not progress) as bar:
        while len(log) < recipe.epochs and not (recipe.selection == "val" and len(log) - 1 - best["epoch"] >= recipe.patience):
            epoch = len(log)
            for group in optimiser.param_groups:
                group["lr"] = max(recipe.lr * 10 ** (-3 * epoch / 20), 1e-6) if recipe.decay == "exponential" else recipe.lr
            order = random if recipe.reshuffle else np.random.default_rng([seed, 2])
            shuffled = [order.permutation(rows) for rows in by_domain]
            method.train()
            sums: dict[str, torch.Tensor] = {}
            for step in range(steps):
                rows = np.concatenate([own[step * per_domain:(step + 1) * per_domain] for own in shuffled])
                batch = Batch(
                    feed(rows, generator if recipe.augment else None),
                    torch.from_numpy(labels[rows].astype(np.int64)).to(feed.device),
                    torch.arange(len(by_domain), device=feed.device).repeat_interleave(per_domain),
                    *(feed.shuffled(rows, random) if method.wants_jigsaw else ()),
                )
                terms = method.losses(batch, epoch, random)
                optimiser.zero_grad(set_to_none=True)
                sum(terms.values()).backward()
                optimiser.step()
                method.after_step()
                for name, value in terms.items():  # summed on the device: reading a value would wait for it
                    sums[name] = sums.get(name, 0) + value.detach()
            entry = {"epoch": epoch, **{f"loss_{name}": float(value) / steps for name, value in sums.items()}}
            if not all(np.isfinite(value) for value in entry.values()):
                raise ArithmeticError(f"the loss is no longer finite in epoch {epoch}: {entry}; lower recipe.lr")
            if recipe.selection == "val":
                entry[f"val_{recipe.select_by}"] = score = validate(method, training, feed, recipe.select_by)
                if score > best["score"] + 1e-9:
                    best = {"score": score, "epoch": epoch, "weights": _weights(method)}
                bar.set_postfix(val=f"{score:.3f}", best=f"{best['score']:.3f}")
            log.append(entry)
            bar.update()
            if state_file is not None and time.monotonic() - saved >= checkpoint_seconds:
                _save_state(state_file, method, optimiser, random, generator, log, best)
                saved = time.monotonic()
    if recipe.selection == "val":
        method.load_state_dict(best["weights"])
    method.eval()
    return log


def validate(method: Method, training: Training, feed: Feed, metric: str) -> float:
    """The metric on validation classes: every trained domain but the gallery's asks the gallery domain."""
    labels = training.manifest.samples.class_name.to_numpy()
    queries, gallery = training.val_query, training.val_gallery
    return metrics.evaluate(embed(method, feed, queries), labels[queries], embed(method, feed, gallery), labels[gallery], method.distance)[metric]


def _optimiser(method: Method, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [p for p in method.parameters() if p.requires_grad]
    if recipe.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=recipe.weight_decay)


def _weights(method: Method) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in method.state_dict().items()}


def _save_state(path: Path, method, optimiser, random, generator, log, best) -> None:
    partial = path.with_suffix(".partial")
    torch.save({
        "method": method.state_dict(), "optimiser": optimiser.state_dict(), "random": json.dumps(random.bit_generator.state),
        "generator": generator.get_state(), "log": json.dumps(log), "best": best,
    }, partial)
    partial.replace(path)
