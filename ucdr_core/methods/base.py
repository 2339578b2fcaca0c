"""The contract between a method and everything else.

A method is an `nn.Module` with
    Options      a frozen dataclass: its hyper-parameters, and a named switch for each place where paper and code
                 disagree
    batches      what a batch is made of: samples of all domains, triplets, sketch-photo pairs, or quadruplets
    losses       a batch -> its loss terms by name; or fit_features, where the solution has a closed form
    embed        inputs -> embeddings
    distance     how its embeddings are compared
Training, protocols, metrics, records and tables know nothing else about it.

"Photo" is short for a sample of the gallery domain, "sketch" for one of any other domain.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from ucdr_core.device import to_device
from ucdr_core.methods.backbones import ResidualAdapter, SpatialAttention
from ucdr_core.methods.losses import dropout


@dataclass(frozen=True)
class Batch:
    """Samples of a training step, in blocks of equal size; labels (B,) number the seen classes.

    inputs (B, ...); photos (B,) bool and domains (B,), which number the training domains, are on the CPU, so that
    sorting samples by them never waits for a device.  The blocks are, by `Method.batches`:
        domains    one block for each training domain
        triplets   anchors (sketches), positives (photos of the same class), negatives (photos of other classes, or
                   unlabelled ones, whose label is -1)
        pairs      sketches, and photos of the same class
        quadruplets  sketches, photos of the same class, others of the same class, photos of other classes
    and, where a method asks (`wants_unlabelled`), a last block of photos of classes that are not trained on, with
    label -1.
    jigsaw_inputs (B, ...) are the same samples tile-shuffled, as jigsaw_labels (B,) in 1..30 says; only where a method
    asks (`wants_jigsaw`).
    epoch, step (since the epoch began) and iteration (since training began) count from 0.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    photos: torch.Tensor
    domains: torch.Tensor
    jigsaw_inputs: torch.Tensor | None = None
    jigsaw_labels: torch.Tensor | None = None
    epoch: int = 0
    step: int = 0
    iteration: int = 0


class Method(nn.Module):
    """Base of all methods.

    upper          the trained part of the trunk; empty in the frozen regime, where an adapter stands in (see `Encoder`)
    channels       channels of what `upper` gives
    class_vectors  (C, D) of the seen classes
    options        the method's `Options`
    """

    @dataclass(frozen=True)
    class Options:
        pass

    trained: ClassVar[bool] = True  # False: a reference row, embeds what the trunk gives
    batches: ClassVar[Literal["domains", "triplets", "pairs", "quadruplets"]] = "domains"
    uses_class_vectors: ClassVar[bool] = False
    wants_jigsaw: ClassVar[bool] = False
    wants_unlabelled: ClassVar[bool] = False  # True: trains on photos of unseen classes too, without their labels
    wants_positions: ClassVar[bool] = False  # False: only the average over positions of a frozen trunk's map is used
    wants_layers: ClassVar[bool] = False  # True: takes VGG-16's own layers, `layers`, with the option `fully_connected`
    wants_teacher: ClassVar[bool] = False  # True: the constructor takes the trunk's ImageNet classifier, `teacher`
    frozen_features: ClassVar[bool] = False  # True: defined on features that it does not train: the trunk is frozen
    closed_form: ClassVar[bool] = False  # True: `fit_features` solves for the weights, nothing is trained in steps
    transductive: ClassVar[bool] = False  # True: looks at the test queries or the gallery as a whole
    distance: str = "euclidean"  # an option of the same name takes its place
    spaces: tuple[str, ...] = ("",)  # what can be embedded and searched apart; the first is the method's own

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Any):
        super().__init__()
        self.options = options
        self.distance = getattr(options, "distance", type(self).distance)
        self.register_buffer("class_vectors", class_vectors)

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        """Weighted loss terms by name, scalars; their sum is minimised.

        Every random draw is `random`'s, never torch's (see `losses.dropout`).
        """
        raise NotImplementedError

    def fit_features(self, features: torch.Tensor, labels: torch.Tensor, photos: torch.Tensor) -> None:
        """Sets the weights of a closed-form method.

        features (n, C), see `scaled_features`; labels (n,) and photos (n,) bool, of all training samples
        """
        raise NotImplementedError

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        """inputs (B, ...) as training gets them, photos (B,) bool on the CPU, a space of `spaces` -> (B, D)."""
        raise NotImplementedError

    def draw_with(self, random: np.random.Generator) -> None:
        """Gives the generator to the layers that draw without being handed it: dropout between VGG's own layers."""
        for module in self.modules():
            if isinstance(module, FullyConnected):
                module.random = random

    def sgd_groups(self) -> list[dict[str, Any]]:
        """What SGD trains whatever the recipe's optimiser is: groups of `params`, with `momentum` and what else SGD
        takes; `rate` is a factor on the recipe's rate."""
        return []

    def negative_classes(self) -> np.ndarray | None:
        """(C, C), for an anchor of each class the probabilities of the negative's; None: every photo is as likely."""
        return None

    def after_step(self) -> None:
        """Called after each optimiser step (momentum encoders)."""

    def choose(self, score: Callable[[], float]) -> None:
        """Sets what is chosen after training (weights of a fusion): `score()` is the method's as it stands."""

    def transform_test_embeddings(self, queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Last word on the test embeddings as a whole; only transductive methods change them."""
        return queries, gallery


class SemanticSides(Method):
    """Frozen features of sketches and of photos, each through a network of its own into a semantic space.

    What CMT, DeViSE and SEM-PCYC share.  A subclass sets `to_semantic`, its `Sides`, and its losses.
    """

    distance = "cosine"
    uses_class_vectors = True
    frozen_features = True
    to_semantic: Sides

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.to_semantic(scaled_features(inputs), photos)


class LinearMaps(Method):
    """A linear map of frozen features into the space of the class vectors for sketches, one for photos, in closed form.

    What ESZSL and SAE share.  A subclass says what its equation's weights are chosen among (`candidates`), keeps what
    the equation needs of each side (`prepare`), and solves and applies the two maps; side 0 is sketches, 1 photos.
    """

    distance = "cosine"
    uses_class_vectors = True
    frozen_features = True
    closed_form = True

    def candidates(self) -> list[tuple[float, ...]]:
        """Arguments of `solve` to choose among by the selection score; without validation classes, the first."""
        raise NotImplementedError

    def prepare(self, x: torch.Tensor, labels: torch.Tensor) -> Any:
        """What `solve` needs of one side's features x (n, channels), in double precision, and labels (n,)."""
        raise NotImplementedError

    def solve(self, *weights: float) -> None:
        """Sets the maps of both sides from `self.sides`, what `prepare` gave for each."""
        raise NotImplementedError

    def apply_map(self, x: torch.Tensor, side: int) -> torch.Tensor:
        """Features (B, channels) of one side -> (B, D)."""
        raise NotImplementedError

    def rows_of_sides(self, photos: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The training samples (n,) bool that the map of sketches is solved from, and those of the map of photos."""
        return ~photos, photos

    def fit_features(self, features: torch.Tensor, labels: torch.Tensor, photos: torch.Tensor) -> None:
        # In double precision: with fewer samples than channels most eigenvalues of X X' are 0, which single precision
        # takes for many small ones.
        self.sides = [self.prepare(features[rows].double(), labels[rows]) for rows in self.rows_of_sides(photos)]
        self.solve(*self.candidates()[0])

    def choose(self, score: Callable[[], float]) -> None:
        self.solve(*max(self.candidates(), key=lambda weights: (self.solve(*weights), round(score(), 9))[1]))

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        x = scaled_features(inputs)
        return by_side(x, photos, lambda x: self.apply_map(x, 0), lambda x: self.apply_map(x, 1))


class Encoder(nn.Module):
    """Trained part of the trunk, attention if asked, average pooling, and the adapter: inputs (B, ...) -> g (B, width).

    With the trunk's own fully connected layers (VGG-16) these take the map whole, in the place of pooling and adapter.
    """

    def __init__(
        self,
        upper: nn.Module,
        channels: int,
        adapter_rank: int,
        attention: bool = False,
        layers: FullyConnected | None = None,
    ):
        super().__init__()
        self.upper, self.layers = upper, layers
        self.attention = SpatialAttention(channels) if attention else None
        self.adapter = shared_adapter(upper, channels, adapter_rank) if layers is None else None
        self.width = channels if layers is None else layers.width

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        maps = self.upper(inputs)
        if self.layers is not None:
            return self.layers(maps if self.attention is None else self.attention(maps))
        return self.adapter(self.attention.pooled(maps) if self.attention is not None else pooled(maps))


class FullyConnected(nn.Module):
    """The first two of VGG-16's three fully connected layers: maps (B, 512, 7, 7) -> (B, 4096).

    ReLU and dropout follow each.

    The layers are copies of the trunk's, with its ImageNet weights.  `random` draws the dropout; `Method.draw_with`
    gives it.
    """

    POSITIONS = 7

    def __init__(self, layers: tuple[nn.Linear, nn.Linear], dropout: float = 0.5):
        super().__init__()
        self.layers = nn.ModuleList(copy.deepcopy(layer) for layer in layers)
        self.dropout, self.width = dropout, layers[-1].out_features
        self.random: np.random.Generator | None = None

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        x = nn.functional.adaptive_avg_pool2d(maps, self.POSITIONS).flatten(1)
        for layer in self.layers:
            x = layer(x).relu()
            x = dropout(x, self.dropout, self.random) if self.training and self.random is not None else x
        return x


class Sides(nn.Module):
    """A network for sketches and one for photos: two copies that train apart, or one that both share."""

    def __init__(self, network: nn.Module, shared: bool):
        super().__init__()
        self.sketch = network
        self.photo = None if shared else copy.deepcopy(network)

    def forward(self, inputs: torch.Tensor, photos: torch.Tensor) -> torch.Tensor:
        """(B, ...), photos (B,) bool -> (B, D), each sample through its own side."""
        return self.sketch(inputs) if self.photo is None else by_side(inputs, photos, self.sketch, self.photo)


def by_side(inputs: torch.Tensor, photos: torch.Tensor, sketch: Callable, photo: Callable) -> torch.Tensor:
    """(B, ...), photos (B,) bool on the CPU -> (B, D): sketches through one function, photos through the other."""
    sketches = int((~photos).sum())
    if sketches in (0, len(photos)):
        return (sketch if sketches else photo)(inputs)
    if not photos[:sketches].any():  # sketches first, as in triplets and pairs: nothing need be copied
        return torch.cat([sketch(inputs[:sketches]), photo(inputs[sketches:])])
    order = to_device(torch.cat([(~photos).nonzero()[:, 0], photos.nonzero()[:, 0]]).numpy(), inputs.device)
    ordered = torch.cat([sketch(inputs[order[:sketches]]), photo(inputs[order[sketches:]])])
    return torch.empty_like(ordered).index_copy(0, order, ordered)


def fixed_latents(count: int, dimension: int) -> torch.Tensor:
    """The same `count` draws from N(0, 1) for every query and every run: (count, dimension), float64."""
    return torch.from_numpy(np.random.default_rng(0).standard_normal((count, dimension)))


def mean_decoded(decoder: nn.Sequential, z: torch.Tensor, condition: torch.Tensor, block: int) -> torch.Tensor:
    """The mean over the N latents of decoder([z_n, condition]): z (N, d), condition (B, e) -> (B, D).

    decoder   linear, ReLU, linear, ReLU
    block     rows of `condition` decoded at once

    STRAD, equation 8; CVAE's retrieval.
    """
    # The first layer is linear, so that its two inputs are added, not repeated.
    first, _, second, _ = decoder
    weight_z, weight_condition = first.weight.split([z.shape[1], condition.shape[1]], dim=1)
    from_z, from_condition = z @ weight_z.T + first.bias, condition @ weight_condition.T  # (N, hidden), (B, hidden)
    hidden = (nn.functional.relu(rows[:, None] + from_z) for rows in from_condition.split(block))
    return torch.cat([nn.functional.relu(second(h)).mean(1) for h in hidden])


def mlp(*widths: int, norm: bool = False, slope: float = 0.0) -> nn.Sequential:
    """Linear layers of these widths: (B, widths[0]) -> (B, widths[-1]).

    After each but the last stand batch normalisation, if asked (`norm`), and a ReLU, leaky by `slope`.
    """
    layers: list[nn.Module] = []
    for before, after in zip(widths[:-2], widths[1:-1]):
        layers += [
            nn.Linear(before, after),
            *([nn.BatchNorm1d(after)] if norm else []),
            nn.LeakyReLU(slope) if slope else nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def shared_adapter(upper: nn.Module, channels: int, rank: int) -> nn.Module:
    """The part that a method's heads share where the trunk is frozen; nothing where the trunk itself is trained."""
    return nn.Identity() if list(upper.parameters()) else ResidualAdapter(channels, rank)


def pooled(maps: torch.Tensor) -> torch.Tensor:
    """Global average pooling: (B, C, h, w) -> (B, C); another run's embeddings (B, C) stay as they are."""
    return maps.mean((2, 3)) if maps.ndim == 4 else maps


def scaled_features(inputs: torch.Tensor) -> torch.Tensor:
    """What methods on frozen features are trained on: pooled, and scaled as in `ResidualAdapter`, (B, C)."""
    g = pooled(inputs)
    return nn.functional.normalize(g, dim=1) * g.shape[1] ** 0.5
