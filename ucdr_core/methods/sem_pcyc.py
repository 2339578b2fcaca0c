"""SEM-PCYC: semantically tied paired cycle consistency (Dutta, Akata, CVPR 2019).

On frozen features of sketches and of photos: a generator from each into a common semantic space and one back, played
against critics of all three spaces, with cycle consistency; a classifier on the semantic space keeps classes apart.
The semantic space is word vectors, compressed by an auto-encoder that a group-sparsity term makes choose among their
dimensions.  Retrieval by Euclidean distance in the semantic space.  Source: the paper, and the public code
AnjanDutta/sem-pcyc.  The hierarchical WordNet vectors that the paper adds to the word vectors are left out: no package
has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, SemanticSides, Sides, mlp, scaled_features
from ucdr_core.methods.losses import adversarial_terms, classification_loss


def group_sparsity(weight: torch.Tensor) -> torch.Tensor:
    """|W|_{2,1}: the sum over input dimensions of the length of their weights; (out, in) -> scalar."""
    return weight.norm(dim=0).sum()


class SEMPCYC(SemanticSides):
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

    distance = "euclidean"
    batches = "pairs"

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        words, dim, hidden = class_vectors.shape[1], options.dim, options.hidden
        self.to_semantic = Sides(mlp(channels, hidden, hidden, dim, norm=True, slope=0.2), shared=False)  # G_sk, G_im
        self.from_semantic = Sides(mlp(dim, hidden, hidden, channels, norm=True, slope=0.2), shared=False)  # F_sk, F_im
        if options.weight_adversarial:
            self.critic_semantic = mlp(dim, hidden, 1, slope=0.2)
            self.critic_feature = nn.ModuleList(mlp(channels, hidden, 1, slope=0.2) for _ in range(2))
        self.compress, self.restore = nn.Linear(words, dim), nn.Linear(dim, words)  # auto-encoder of side information
        self.classifier = nn.Linear(dim, len(class_vectors)).requires_grad_(options.classifier == "trained")

    def semantics(self) -> torch.Tensor:
        """s of each seen class, (C, M)."""
        return self.compress(self.class_vectors)

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        options, photos, y = self.options, batch.photos, batch.labels
        x, all_s = scaled_features(batch.inputs), self.semantics()
        s = all_s[y]
        g, f = (
            self.to_semantic(x, photos),
            self.from_semantic(s, photos),
        )  # semantics of features, features of semantics
        back_x, back_s = self.from_semantic(g, photos), self.to_semantic(f, photos)
        restored = functional.mse_loss(self.restore(all_s), self.class_vectors)
        terms = {
            "cycle": options.weight_cycle * ((back_x - x).abs().mean() + (back_s - s).abs().mean()),
            "class": options.weight_class * classification_loss(self.classifier, y, g, back_s),
            "regression": options.weight_regression * functional.mse_loss(g, s),
            "autoencoder": restored + options.weight_sparsity * group_sparsity(self.compress.weight),
        }
        if options.weight_adversarial:
            games = zip(self.critic_feature, x.chunk(2), f.chunk(2))  # sketches, photos
            terms |= adversarial_terms(
                options.weight_adversarial, (self.critic_semantic, s, g), *games, random=random, noise=options.noise
            )
        return terms
