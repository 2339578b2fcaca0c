"""DeViSE: a deep visual-semantic embedding model (Frome et al., NIPS 2013), for two domains.

A linear map from the features of each domain to the space of the word vectors, trained so that the word vector of the
sample's class is nearer than those of the other classes by a margin.  Compared by cosine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ucdr_core.methods.base import Batch, SemanticSides, Sides
from ucdr_core.methods.losses import cosine_logits
from ucdr_core.options import Weight


def rank_loss(cosines: torch.Tensor, labels: torch.Tensor, margin: float) -> torch.Tensor:
    """sum over j != y of max(0, margin - cos(W x, s_y) + cos(W x, s_j)), averaged over samples.

    cosines (B, C), labels (B,) -> scalar
    """
    over = (margin - cosines.gather(1, labels[:, None]) + cosines).clamp(min=0)
    return over.scatter(1, labels[:, None], 0.0).sum(1).mean()


class DeViSE(SemanticSides):
    @dataclass(frozen=True)
    class Options:
        margin: Weight = 0.1

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        self.to_semantic = Sides(nn.Linear(channels, class_vectors.shape[1], bias=False), shared=False)

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        cosines = cosine_logits(self.embed(batch.inputs, batch.photos), self.class_vectors)
        return {"rank": rank_loss(cosines, batch.labels, self.options.margin)}
