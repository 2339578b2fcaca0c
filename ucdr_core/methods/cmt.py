"""CMT: cross-modal transfer (Socher, Ganjoo, Manning, Ng, NIPS 2013), for two domains.

Features of each domain are regressed on the word vector of their class by a small network of their own; a sketch and a photo are
compared by the cosine of what the two networks say.  Source: the paper, and STRAD's authors' public code Jiangtong-Li/ZS-SBIR.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .base import Batch, Method, Sides, scaled_features


class CMT(Method):
    @dataclass(frozen=True)
    class Options:
        hidden: int = 500

    distance = "cosine"
    uses_class_vectors = True
    frozen_features = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        network = nn.Sequential(nn.Linear(channels, options.hidden), nn.Tanh(), nn.Linear(options.hidden, class_vectors.shape[1]))
        self.regress = Sides(network, shared=False)

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.regress(scaled_features(inputs), photos)

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        wanted = self.class_vectors[batch.labels]
        return {"squares": (self.embed(batch.inputs, batch.photos) - wanted).square().sum(1).mean()}
