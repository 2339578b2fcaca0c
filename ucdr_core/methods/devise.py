"""DeViSE: a deep visual-semantic embedding model (Frome et al., NIPS 2013), for two domains.

A linear map from the features of each domain to the space of the word vectors, trained so that the word vector of the sample's class is
nearer than those of the other classes by a margin.  Compared by cosine.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..losses import cosine_logits
from .base import Batch, Method, Sides, scaled_features


def rank_loss(cosines: torch.Tensor, labels: torch.Tensor, margin: float) -> torch.Tensor:
    """sum over j != y of max(0, margin - cos(W x, s_y) + cos(W x, s_j)), averaged over samples: cosines (B, C), labels (B,)."""
    over = (margin - cosines.gather(1, labels[:, None]) + cosines).clamp(min=0)
    return over.scatter(1, labels[:, None], 0.0).sum(1).mean()


class DeViSE(Method):
    @dataclass(frozen=True)
    class Options:
        margin: float = 0.1

    distance = "cosine"
    uses_class_vectors = True
    frozen_features = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        self.project = Sides(nn.Linear(channels, class_vectors.shape[1], bias=False), shared=False)

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.project(scaled_features(inputs), photos)

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        return {"rank": rank_loss(cosine_logits(self.embed(batch.inputs, batch.photos), self.class_vectors), batch.labels, self.options.margin)}
