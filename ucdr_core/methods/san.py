"""SaN: Sketch-a-Net (Yu, Yang, Liu, Song, Xiang, Hospedales, IJCV 2017), trained by triplets as STRAD's authors run it.

Its own network from raw pixels, without ImageNet: five convolutions with large first filters, made for strokes, and two
fully connected layers.  Triplet loss on squared distances of unit features; cosine.  Source: the public code
Jiangtong-Li/ZS-SBIR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import nn

from ucdr_core.methods.base import Batch, Method
from ucdr_core.methods.losses import triplet_loss, weight_norms
from ucdr_core.options import Range, Weight, Width


def unit(x: torch.Tensor) -> torch.Tensor:
    """x / (|x| + 1e-10): (B, D) -> (B, D) of length 1."""
    return x / (x.norm(dim=1, keepdim=True) + 1e-10)


def squared_triplet_loss(
    anchors: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor, margin: float
) -> torch.Tensor:
    """max(0, margin + |a - p|^2 - |a - n|^2), averaged over triplets: (B, D) each -> scalar."""
    near, far = ((anchors - photos).square().sum(1) for photos in (positives, negatives))
    return triplet_loss(near, far, margin)


class SaN(Method):
    @dataclass(frozen=True)
    class Options:
        dim: Width = 256
        filter_px: Annotated[int, Range(1, 225)] = 15  # of the first convolution, at 225 px
        # Filters of the first convolution; the others have 2, 4, 4, 4 and 8 times as many.
        width: Annotated[int, Range(1, 1024)] = 64
        # Side of the map that the sixth convolution sees whole at 225 px; 1: any map, pooled whole.
        map_px: Annotated[int, Range(1, 64)] = 7
        margin: Weight = 0.05  # the code's default; its scripts have 0.1 to 1, most often 0.3
        weight_norms: Weight = 1e-4  # (code)
        # "zero": strokes on zero, since the original subtracts the mean drawing, which is nearly white.  "white":
        # pixels as they come (code), with which all features are alike at first.
        ground: Literal["zero", "white"] = "zero"
        # "he": eight layers without normalisation need it to begin to learn.  "torch": its own (code).
        initial_weights: Literal["he", "torch"] = "he"

    distance = "cosine"
    batches = "triplets"

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        w, last_pool = options.width, nn.MaxPool2d(3, 2) if options.map_px > 1 else nn.AdaptiveMaxPool2d(1)
        # fmt: off
        self.network = nn.Sequential(
            nn.Conv2d(3, w, options.filter_px, stride=3), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(w, 2 * w, 5), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(2 * w, 4 * w, 3, padding=1), nn.ReLU(),
            nn.Conv2d(4 * w, 4 * w, 3, padding=1), nn.ReLU(),
            nn.Conv2d(4 * w, 4 * w, 3, padding=1), nn.ReLU(), last_pool,
            nn.Conv2d(4 * w, 8 * w, options.map_px), nn.ReLU(),
            nn.Conv2d(8 * w, options.dim, 1), nn.Flatten(),
        )
        # fmt: on
        for layer in self.network:
            if isinstance(layer, nn.Conv2d) and options.initial_weights == "he":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        if self.options.ground == "zero":
            inputs = inputs.amax((2, 3), keepdim=True) - inputs
        return unit(self.network(inputs))

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        anchors, positives, negatives = self.embed(batch.inputs, batch.photos).chunk(3)
        return {
            "triplet": squared_triplet_loss(anchors, positives, negatives, self.options.margin),
            "norms": self.options.weight_norms * weight_norms(self),
        }
