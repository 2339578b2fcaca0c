"""From a spec to an untrained method and what feeds it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ucdr_core.data import protocols
from ucdr_core.device import usable
from ucdr_core.methods import METHODS, Method, backbones, semantics
from ucdr_core.methods.base import FullyConnected
from ucdr_core.options import OptionError, from_mapping
from ucdr_core.training import features
from ucdr_core.training.loop import Feed
from ucdr_core.training.spec import TrainSpec

FirstStage = Callable[[TrainSpec], np.ndarray]  # a spec -> its trained method's embeddings of all samples, (n, D)


def prepare(
    spec: TrainSpec, device: str = "cpu", progress: bool = True, first_stage: FirstStage | None = None
) -> tuple[Method, Feed]:
    """The untrained method and what feeds it: another run's embeddings, cached maps where the regime freezes a part of
    the trunk, else images.  Raises OptionError for a device that is not there, DataError and WeightsError."""
    device, dtype = usable(device), features.PRECISIONS[spec.precision]
    manifest, training, cls = spec.manifest(), spec.training(), METHODS[spec.method]
    photos = (manifest.samples.domain == spec.gallery_domain).to_numpy()
    if spec.features:
        if first_stage is None:
            raise ValueError("this spec is fed by another training: give first_stage")
        embedded = first_stage(spec.features_spec())
        feed = Feed(features.Inputs(embedded), dtype, device, photos)
        trunk, upper, channels = None, nn.Sequential(), embedded.shape[1]
    else:
        # A wholly frozen trunk is only read, so runs of one process share it; a trained one is each run's own.
        trunk = (_frozen_trunk if spec.regime == "frozen" else backbones.trunk)(spec.backbone, spec.weights)
        upper, channels = trunk.split(spec.regime)[1], trunk.channels
        if spec.regime == "finetune":
            pixels = features.Pixels(features.pixels(manifest, spec.size_px, progress), device)
            inverted = (
                manifest.samples.domain.isin(list(spec.invert_domains)).to_numpy() if spec.invert_domains else None
            )
            feed = Feed(
                pixels,
                dtype,
                device,
                photos,
                trunk.to(device, dtype).normalise if spec.pixels == "normalised" else nn.Identity(),
                inverted,
            )
        else:

            def maps(jigsaw: bool) -> features.Maps:
                return features.maps(
                    manifest,
                    trunk,
                    spec.regime,
                    spec.size_px,
                    precision=spec.precision,
                    invert_domains=spec.invert_domains,
                    jigsaw=jigsaw,
                    positions=cls.wants_positions or spec.regime != "frozen",
                    device=device,
                    progress=progress,
                )

            jigsaw = (maps(True), features.jigsaw_labels(len(manifest))) if cls.wants_jigsaw else (None, None)
            feed = Feed(maps(False), dtype, device, photos, jigsaw=jigsaw[0], jigsaw_labels=jigsaw[1])
        upper.autocast = spec.precision == "bfloat16"
    method = build(spec, training, upper, channels, trunk).to(device)
    if device.startswith("cuda"):
        method = method.to(memory_format=torch.channels_last)
    return method, feed


def build(
    spec: TrainSpec, training: protocols.Training, upper: nn.Module, channels: int, trunk: backbones.Trunk | None
) -> Method:
    """The untrained method on a trunk's upper part, or on another run's embeddings (trunk None), on the CPU in its own
    precision."""
    dtype, cls = features.PRECISIONS[spec.precision], METHODS[spec.method]
    options = from_mapping(cls.Options, spec.options, f"options of {spec.method}")
    known = cls.wants_unlabelled and getattr(options, "names", "all") == "all"  # the names of unseen classes
    unseen = (*training.split.val, *training.split.test) if known else ()
    vectors = np.zeros((len(training.seen), spec.embedding_dim))
    if cls.uses_class_vectors:
        raw = semantics.class_vectors((*training.seen, *unseen), spec.vectors, training.split.words)
        vectors = semantics.prepare(
            raw, spec.vectors_centred, spec.vectors_normalised, spec.embedding_dim, spec.vectors_length
        )
        if spec.permuted_names:
            vectors = vectors[_derangement(len(vectors), spec.seed)]
    of_seen, of_unseen = torch.from_numpy(vectors).split([len(training.seen), len(unseen)])
    extra: dict[str, Any] = {"unseen_vectors": of_unseen} if cls.wants_unlabelled else {}
    if getattr(options, "fully_connected", False):
        if spec.regime == "frozen" or spec.features:
            raise OptionError("spec: fully_connected takes the map of a trained trunk; set regime to 'finetune'")
        extra["layers"] = FullyConnected(trunk.fully_connected())
    if cls.wants_teacher:
        extra["teacher"] = trunk.classifier()
        if options.weight_similarity:
            of_class = training.manifest.samples.iloc[training.train].groupby("class_name").path
            files = {name: [Path(path).name for path in paths] for name, paths in of_class}
            similarity = semantics.imagenet_similarity(training.seen, training.split.words, files)
            extra["similarity"] = torch.from_numpy(similarity)
    with torch.random.fork_rng(devices=[]), _default_dtype(dtype):
        torch.manual_seed(spec.seed)
        method = cls(upper, channels, of_seen, options, **extra)
    method = method.to(dtype)
    if _perturbation is not None:
        _perturbation(method)
    return method


_perturbation: Callable[[nn.Module], None] | None = None


@contextmanager
def perturbed(size: float, draw: int):
    """Methods built inside start from weights that are multiplied by 1 + size u, u standard normal, one for each
    weight.

    It is how the tolerance of a system is measured: what moves its scores when nothing that matters has moved.
    """
    global _perturbation

    def apply(method: nn.Module) -> None:
        random = np.random.default_rng([draw, 4])
        with torch.no_grad():
            for value in method.parameters():
                value.mul_(1 + size * torch.from_numpy(random.standard_normal(tuple(value.shape))).to(value))

    before, _perturbation = _perturbation, apply
    try:
        yield
    finally:
        _perturbation = before


@contextmanager
def _default_dtype(dtype: torch.dtype):
    """Initial weights are drawn in the precision of the training: single precision would differ between processors in
    the eighth digit."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@lru_cache(maxsize=2)
def _frozen_trunk(name: str, weights: str) -> backbones.Trunk:
    return backbones.trunk(name, weights)


def _derangement(count: int, seed: int) -> np.ndarray:
    """A permutation that leaves nothing in its place."""
    random = np.random.default_rng([seed, 3])
    order = random.permutation(count)
    result = np.empty(count, int)
    result[order] = np.roll(order, 1)  # one cycle through all
    return result
