"""SEM-PCYC: semantically tied paired cycle consistency (Dutta, Akata, CVPR 2019).

On frozen features of sketches and of photos: a generator from each into a common semantic space and one back, played
against critics of all three spaces, with cycle consistency; classifiers of all three spaces keep classes apart.  The
semantic space is word vectors, compressed by an auto-encoder that a group-sparsity term makes choose among their
dimensions.  Retrieval by Euclidean distance in the semantic space.  Source: the paper, and the public code
AnjanDutta/sem-pcyc, whose losses are followed here term by term.  The hierarchical WordNet vectors that the paper adds
to the word vectors are left out: no package has them.  The code leaves the dropout of its frozen trunk on while it
trains; our features are computed once.

The code steps three times on a batch: the auto-encoder, the generators, the critics.  One step on the sum of all terms
is the same, since each term is cut off from what other players own: all is computed before the first step, and e, the
compressed word vector, and what the generators make are held fixed where another player looks at them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import cross_entropy, l1_loss, mse_loss

from ucdr_core.methods.base import Batch, SemanticSides, Sides, mlp, scaled_features
from ucdr_core.methods.losses import adversarial_terms, dropout
from ucdr_core.options import Share, ShareBelow1, Weight, Width


def group_sparsity(weight: torch.Tensor) -> torch.Tensor:
    """|W|_{2,1}: the sum over input dimensions of the length of their weights; (out, in) -> scalar."""
    return weight.norm(dim=0).sum()


class Generator(nn.Module):
    """(B, inputs) -> (B, outputs): two hidden layers of the mean width, with batch norm, leaky ReLU and dropout."""

    def __init__(self, inputs: int, outputs: int, dropout: float):
        super().__init__()
        hidden = (inputs + outputs) // 2
        self.layers, self.dropout = mlp(inputs, hidden, hidden, outputs, norm=True, slope=0.2), dropout

    def forward(self, x: torch.Tensor, random: np.random.Generator | None = None) -> torch.Tensor:
        """`random` draws the dropout; without it there is none."""
        for layer in self.layers:
            x = layer(x)
            if random is not None and isinstance(layer, nn.LeakyReLU):
                x = dropout(x, self.dropout, random)
        return x


def critic(width: int) -> nn.Module:
    """(B, width) -> (B, 1)."""
    return mlp(width, width // 2, width // 2, 1, norm=True, slope=0.2)


class Made(NamedTuple):
    """What the networks make of B sketches, B photos and the word vectors of their classes."""

    e: torch.Tensor  # (B, M), the word vectors compressed, ...
    restored: torch.Tensor  # ... and restored, (B, W)
    semantic_of_sketch: torch.Tensor  # (B, M)
    semantic_of_photo: torch.Tensor
    sketch: torch.Tensor  # (B, channels), from e
    photo: torch.Tensor
    sketch_again: torch.Tensor  # (B, channels), sketch -> semantic -> sketch
    photo_again: torch.Tensor
    semantic_by_sketch: torch.Tensor  # (B, M), e -> sketch -> semantic
    semantic_by_photo: torch.Tensor


class Errors(NamedTuple):
    """A loss in each of the three spaces, not weighted."""

    semantic: torch.Tensor
    sketch: torch.Tensor
    photo: torch.Tensor


def cycle_errors(made: Made, x_sketch: torch.Tensor, x_photo: torch.Tensor) -> Errors:
    """Mean absolute differences from where the cycles began: features (B, channels), and e, held fixed."""
    e = made.e.detach()
    return Errors(
        l1_loss(made.semantic_by_sketch, e) + l1_loss(made.semantic_by_photo, e),
        l1_loss(made.sketch_again, x_sketch),
        l1_loss(made.photo_again, x_photo),
    )


def regression_errors(made: Made, x_sketch: torch.Tensor, x_photo: torch.Tensor) -> Errors:
    """Mean squared differences: of the two semantics of a pair, counted twice, and of features (B, channels)."""
    return Errors(
        2 * mse_loss(made.semantic_of_sketch, made.semantic_of_photo),
        mse_loss(made.sketch, x_sketch),
        mse_loss(made.photo, x_photo),
    )


class SEMPCYC(SemanticSides):
    @dataclass(frozen=True)
    class Options:
        """Weights are the code's."""

        dim: Width = 64  # M, of the semantic space (the code's default is 128)
        weight_semantic: Weight = 10.0  # of the cycle, class and regression losses in each space, ...
        weight_sketch: Weight = 10.0
        weight_photo: Weight = 10.0
        weight_cycle: Weight = 1.0  # ... and of their sums
        weight_class: Weight = 1.0
        weight_regression: Weight = 0.1
        weight_adversarial: Weight = 1.0
        weight_sparsity: Weight = 1e-3
        dropout: ShareBelow1 = 0.5  # in the generators
        classifier: Literal["random", "trained"] = "random"  # in the code they are drawn and never trained
        noise: Weight = 0.3  # deviation, on what the critics see
        softness: Share = 0.3  # of the targets: U(0.7, 1) and U(0, 0.3)
        soft_for: Literal["both", "critic"] = "both"  # whose targets are soft; in the code the generators' too
        # Of critics and auto-encoder.  sgd: momentum 0.9 and the recipe's rate, times 100 for the auto-encoder (code).
        critic_optimiser: Literal["sgd", "recipe"] = "sgd"
        distance: Literal["euclidean", "cosine"] = "euclidean"

    distance = "euclidean"
    batches = "pairs"

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        (classes, words), dim = class_vectors.shape, options.dim
        self.to_semantic = Sides(Generator(channels, dim, options.dropout), shared=False)
        self.from_semantic = Sides(Generator(dim, channels, options.dropout), shared=False)
        self.critics = nn.ModuleList(critic(width) for width in (dim, channels, channels))  # semantic, sketch, photo
        self.classifiers = nn.ModuleList(nn.Linear(width, classes, bias=False) for width in (dim, channels, channels))
        self.classifiers.requires_grad_(options.classifier == "trained")
        self.compress, self.restore = nn.Linear(words, dim), nn.Linear(dim, words)  # the auto-encoder

    def autoencode(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Word vectors (B, W) -> e (B, M), and the word vectors that it tells (B, W).

        Both end in a ReLU, as in the code, so that negative coordinates are never told.
        """
        e = functional.relu(self.compress(w))
        return e, functional.relu(self.restore(e))

    def make(self, x_sketch: torch.Tensor, x_photo: torch.Tensor, w: torch.Tensor, random: np.random.Generator) -> Made:
        """Features (B, channels) and word vectors w (B, W) through all networks; `random` draws the dropout."""
        to_sketch, to_photo = self.from_semantic.sketch, self.from_semantic.photo
        of_sketch, of_photo = self.to_semantic.sketch, self.to_semantic.photo
        e, restored = self.autoencode(w)
        a, b = of_sketch(x_sketch, random), of_photo(x_photo, random)
        # The auto-encoder learns from its own term alone.
        sketch, photo = to_sketch(e.detach(), random), to_photo(e.detach(), random)
        again = to_sketch(a, random), to_photo(b, random)
        return Made(e, restored, a, b, sketch, photo, *again, of_sketch(sketch, random), of_photo(photo, random))

    def class_errors(self, made: Made, labels: torch.Tensor) -> Errors:
        """Cross-entropies of what is made in each space to labels (B,)."""
        of_semantic, of_sketch, of_photo = self.classifiers
        return Errors(
            sum(cross_entropy(of_semantic(s), labels) for s in (made.semantic_of_sketch, made.semantic_of_photo)),
            cross_entropy(of_sketch(made.sketch), labels),
            cross_entropy(of_photo(made.photo), labels),
        )

    def games(self, made: Made, x_sketch: torch.Tensor, x_photo: torch.Tensor) -> list[tuple]:
        """(critic, what is real, what is made, ...) of the semantic, the sketches' and the photos' space."""
        of_semantic, of_sketch, of_photo = self.critics
        return [
            (of_semantic, made.e, made.semantic_of_photo, made.semantic_of_sketch),
            (of_sketch, x_sketch, made.sketch),
            (of_photo, x_photo, made.photo),
        ]

    def terms(
        self,
        made: Made,
        x_sketch: torch.Tensor,
        x_photo: torch.Tensor,
        w: torch.Tensor,
        labels: torch.Tensor,
        random: np.random.Generator,
    ) -> dict[str, torch.Tensor]:
        """The loss terms by name, scalars: features (B, channels), word vectors w (B, W), labels (B,)."""
        options = self.options
        weights = options.weight_semantic, options.weight_sketch, options.weight_photo

        def weighed(errors: Errors) -> torch.Tensor:
            return sum(weight * error for weight, error in zip(weights, errors))

        sparsity = options.weight_sparsity * group_sparsity(self.compress.weight) / len(w)
        terms = {
            "autoencoder": mse_loss(made.restored, w) + sparsity,
            "cycle": options.weight_cycle * weighed(cycle_errors(made, x_sketch, x_photo)),
            "class": options.weight_class * weighed(self.class_errors(made, labels)),
            "regression": options.weight_regression * weighed(regression_errors(made, x_sketch, x_photo)),
        }
        if options.weight_adversarial:
            how = {name: getattr(options, name) for name in ("noise", "softness", "soft_for")}
            games = self.games(made, x_sketch, x_photo)
            terms |= adversarial_terms(options.weight_adversarial, *games, random=random, **how)
        return terms

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        x_sketch, x_photo = scaled_features(batch.inputs).chunk(2)
        labels = batch.labels.chunk(2)[0]
        w = self.class_vectors[labels]
        return self.terms(self.make(x_sketch, x_photo, w, random), x_sketch, x_photo, w, labels, random)

    def sgd_groups(self) -> list[dict[str, Any]]:
        if self.options.critic_optimiser == "recipe":
            return []
        autoencoder = chain(self.compress.parameters(), self.restore.parameters())
        return [
            {"params": list(self.critics.parameters()), "momentum": 0.9},
            {"params": list(autoencoder), "momentum": 0.9, "rate": 100},
        ]
