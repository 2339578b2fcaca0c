"""SaN: Sketch-a-Net (Yu, Yang, Liu, Song, Xiang, Hospedales, IJCV 2017), trained by triplets as STRAD's authors run it.

Its own network from raw pixels, without ImageNet: five convolutions with large first filters, made for strokes, and two
fully connected layers.  Triplet loss on squared distances of unit features; cosine.  Source: the public code
Jiangtong-Li/ZS-SBIR.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, Method
from ucdr_core.methods.losses import triplet_loss


class SaN(Method):
    @dataclass(frozen=True)
    class Options:
        dim: int = 256
        filter_px: int = 15  # of the first convolution, at 225 px
        width: int = 64  # filters of the first convolution; the others have 2, 4, 4, 4 and 8 times as many
        map_px: int = 7  # side of the last convolution's map, which the fully connected layers see whole: 7 at 225 px
        margin: float = 0.05

    distance = "cosine"
    batches = "triplets"

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        w = options.width
        # fmt: off
        self.network = nn.Sequential(
            nn.Conv2d(3, w, options.filter_px, stride=3), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(w, 2 * w, 5), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(2 * w, 4 * w, 3, padding=1), nn.ReLU(),
            nn.Conv2d(4 * w, 4 * w, 3, padding=1), nn.ReLU(),
            nn.Conv2d(4 * w, 4 * w, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(options.map_px),
            nn.Conv2d(4 * w, 8 * w, options.map_px), nn.ReLU(),
            nn.Conv2d(8 * w, options.dim, 1), nn.Flatten(),
        )
        # fmt: on
        for layer in self.network:
            if isinstance(layer, nn.Conv2d):  # eight layers without normalisation need it to begin to learn
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        # Strokes on zero: the original subtracts the mean drawing, which is nearly white.  With the ground at 1 all
        # features are alike.
        strokes = inputs.amax((2, 3), keepdim=True) - inputs
        return functional.normalize(self.network(strokes), dim=1)

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        anchors, positives, negatives = self.embed(batch.inputs, batch.photos).chunk(3)
        d_positive, d_negative = (anchors - positives).square().sum(1), (anchors - negatives).square().sum(1)
        return {"triplet": triplet_loss(d_positive, d_negative, self.options.margin)}
