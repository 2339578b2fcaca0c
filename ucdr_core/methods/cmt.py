"""CMT: cross-modal transfer (Socher, Ganjoo, Manning, Ng, NIPS 2013), for two domains.

Features of each domain are regressed on the word vector of their class by a small network of their own, apart from the
other's; a sketch and a photo are compared by the cosine of what the two networks give.  Source: the paper, and STRAD's
authors' public code Jiangtong-Li/ZS-SBIR.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, SemanticSides, Sides
from ucdr_core.methods.losses import weight_norms
from ucdr_core.options import Weight, Width


def regression_loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The squared Euclidean distance, averaged over samples: (B, D), (B, D) -> scalar."""
    return functional.pairwise_distance(made, wanted).square().mean()


class CMT(SemanticSides):
    @dataclass(frozen=True)
    class Options:
        hidden: Width = 500
        batch_norm: bool = True  # before the tanh (code); the paper has none
        weight_norms: Weight = 5e-5  # (code)

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        norm = [nn.BatchNorm1d(options.hidden)] if options.batch_norm else []
        last = nn.Linear(options.hidden, class_vectors.shape[1])
        self.to_semantic = Sides(nn.Sequential(nn.Linear(channels, options.hidden), *norm, nn.Tanh(), last), False)

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        made, wanted = self.embed(batch.inputs, batch.photos), self.class_vectors[batch.labels]
        return {
            "squares": 2 * regression_loss(made, wanted),  # each network's own, of half of the batch, as if alone
            "norms": self.options.weight_norms * weight_norms(self),
        }
