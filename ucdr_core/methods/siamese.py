"""Siamese network for sketch-based retrieval (Qi, Song, Zhang, Liu, ICIP 2016), as STRAD's authors run it.

One network for sketches and photos; pairs of one class are drawn together, pairs of two classes apart.  Source: the
public code Jiangtong-Li/ZS-SBIR, whose script runs the loss of Chopra, Hadsell and LeCun (CVPR 2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, Encoder, FullyConnected, Method
from ucdr_core.methods.losses import weight_norms
from ucdr_core.options import Positive, Weight, Width


def contrastive(d: torch.Tensor, same: torch.Tensor, form: str, scale: float) -> torch.Tensor:
    """Contrastive loss, averaged over pairs: distances d (P,), whether they are of one class same (P,) bool -> scalar.

    form    "exponential": (2/Q) d^2 for pairs of one class, 2 Q exp(-2.77 d / Q) for others
            "hinge": d^2 and max(0, Q - d)^2
    scale   Q, the margin of the hinge
    Source: loss types 1 and 0 of the code.
    """
    if form == "exponential":
        return torch.where(same, 2 / scale * d.square(), 2 * scale * (-2.77 * d / scale).exp()).mean()
    return torch.where(same, d.square(), (scale - d).clamp(min=0).square()).mean()


class Siamese(Method):
    @dataclass(frozen=True)
    class Options:
        dim: Width = 4096
        form: Literal["exponential", "hinge"] = "exponential"
        scale: Positive = 500.0  # Q
        weight_norms: Weight = 1e-4  # (code)
        distance: Literal["euclidean", "cosine"] = "cosine"  # both rankings are computed there
        fully_connected: bool = False  # VGG-16's own layers on the map, whose 4,096 features are compared
        adapter_rank: Width = 32  # frozen regime only

    wants_layers = True

    batches = "triplets"  # a sketch, a photo of its class, one of another: as many pairs of one class as of two

    def __init__(
        self,
        upper: nn.Module,
        channels: int,
        class_vectors: torch.Tensor,
        options: Options,
        layers: FullyConnected | None = None,
    ):
        super().__init__(upper, channels, class_vectors, options)
        encoder = Encoder(upper, channels, options.adapter_rank, layers=layers)
        self.encode = encoder if layers is not None else nn.Sequential(encoder, nn.Linear(channels, options.dim))

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.encode(inputs)

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        anchors, positives, negatives = self.encode(batch.inputs).chunk(3)
        d = functional.pairwise_distance(anchors.repeat(2, 1), torch.cat([positives, negatives]))
        same = torch.arange(len(d), device=d.device) < len(anchors)
        return {
            "pairs": contrastive(d, same, self.options.form, self.options.scale),
            "norms": self.options.weight_norms * weight_norms(self),
        }
