"""CMT: cross-modal transfer (Socher, Ganjoo, Manning, Ng, NIPS 2013), for two domains.

Features of each domain are regressed on the word vector of their class by a small network of their own; a sketch and a
photo are compared by the cosine of what the two networks give.  Source: the paper, and STRAD's authors' public code
Jiangtong-Li/ZS-SBIR.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ucdr_core.methods.base import Batch, SemanticSides, Sides


class CMT(SemanticSides):
    @dataclass(frozen=True)
    class Options:
        hidden: int = 500

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        dimension = class_vectors.shape[1]
        network = nn.Sequential(nn.Linear(channels, options.hidden), nn.Tanh(), nn.Linear(options.hidden, dimension))
        self.to_semantic = Sides(network, shared=False)

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        error = self.embed(batch.inputs, batch.photos) - self.class_vectors[batch.labels]
        return {"squares": error.square().sum(1).mean()}
