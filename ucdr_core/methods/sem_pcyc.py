"""SEM-PCYC: semantically tied paired cycle consistency (Dutta, Akata, CVPR 2019).

On frozen features of sketches and of photos: a generator from each into a common semantic space and one back, played against critics
of all three spaces, with cycle consistency; a classifier on the semantic space keeps classes apart.  The semantic space is word
vectors, compressed by an auto-encoder that a group-sparsity term makes choose among their dimensions.  Retrieval by Euclidean
distance in the semantic space.  Source: the paper, and the public code AnjanDutta/sem-pcyc.  The hierarchical WordNet vectors that
the paper adds to the word vectors are left out: no package has them.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..losses import least_squares_game
from .base import Batch, Method, Sides, mlp, scaled_features


def group_sparsity(weight: torch.Tensor) -> torch.Tensor:
    """|W|_{2,1}: the sum over input dimensions of the length of their weights; (out, in) -> scalar."""
    return weight.norm(dim=0).sum()


class SEMPCYC(Method):
    @dataclass(frozen=True)
    class Options:
        dim: int = 64  # M, of the semantic space (the code's default is 128)
        hidden: int = 512  # of the two hidden layers of a generator
        weight_adversarial: float = 1.0
        weight_cycle: float = 10.0
        weight_class: float = 10.0
        weight_regression: float = 1.0  # generated semantics against the class's own
        weight_sparsity: float = 1e-3
        classifier: Literal["trained", "random"] = "trained"  # in the code it is drawn and never trained
        noise: float = 0.3  # of the critics' targets
        distance: Literal["euclidean", "cosine"] = "euclidean"

    batches = "pairs"
    uses_class_vectors = True
    frozen_features = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        words, dim, hidden = class_vectors.shape[1], options.dim, options.hidden
        self.to_semantic = Sides(mlp(channels, hidden, hidden, dim, norm=True, slope=0.2), shared=False)  # G_sk, G_im
        self.from_semantic = Sides(mlp(dim, hidden, hidden, channels, norm=True, slope=0.2), shared=False)  # F_sk, F_im
        if options.weight_adversarial:
            self.critic_semantic = mlp(dim, hidden, 1, slope=0.2)
            self.critic_feature = nn.ModuleList(mlp(channels, hidden, 1, slope=0.2) for _ in range(2))
        self.compress, self.restore = nn.Linear(words, dim), nn.Linear(dim, words)  # the auto-encoder of the side information
        self.classifier = nn.Linear(dim, len(class_vectors)).requires_grad_(options.classifier == "trained")

    def semantics(self) -> torch.Tensor:
        """s of each seen class, (C, M)."""
        return self.compress(self.class_vectors)

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.to_semantic(scaled_features(inputs), photos)

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        options, photos, y = self.options, batch.photos, batch.labels
        x, all_s = scaled_features(batch.inputs), self.semantics()
        s = all_s[y]
        g, f = self.to_semantic(x, photos), self.from_semantic(s, photos)  # features -> semantics, semantics -> features
        back_x, back_s = self.from_semantic(g, photos), self.to_semantic(f, photos)
        terms = {
            "cycle": options.weight_cycle * ((back_x - x).abs().mean() + (back_s - s).abs().mean()),
            "class": options.weight_class * (functional.cross_entropy(self.classifier(g), y) + functional.cross_entropy(self.classifier(back_s), y)),
            "regression": options.weight_regression * functional.mse_loss(g, s),
            "autoencoder": functional.mse_loss(self.restore(all_s), self.class_vectors) + options.weight_sparsity * group_sparsity(self.compress.weight),
        }
        if options.weight_adversarial:
            half = len(x) // 2  # sketches first
            games = [least_squares_game(self.critic_semantic, s, g, random, options.noise)]
            games += [least_squares_game(critic, x[part], f[part], random, options.noise)
                      for critic, part in zip(self.critic_feature, (slice(half), slice(half, None)))]
            terms["adversarial"] = options.weight_adversarial * sum(maker for maker, _ in games)
            terms["critics"] = sum(critic for _, critic in games)
        return terms
