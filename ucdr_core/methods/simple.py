"""Simple SB and Simple DB (STRAD, section 4.2): the backbone fine-tuned by classification on the seen classes.

SB has a single backbone for sketches and photos, DB one for each.  Retrieval by cosine between the penultimate
features, which are also what STRAD and the methods that it compares with are built on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, Encoder, FullyConnected, Method, Sides
from ucdr_core.options import Width


class Backbone(nn.Module):
    """Penultimate features f (not negative, as after a ReLU) and the classifier on them."""

    def __init__(
        self, upper: nn.Module, channels: int, classes: int, adapter_rank: int, layers: FullyConnected | None = None
    ):
        super().__init__()
        self.encoder = Encoder(upper, channels, adapter_rank, layers=layers)
        self.classifier = nn.Linear(self.encoder.width, classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        f = functional.relu(self.encoder(inputs))
        return torch.cat([f, self.classifier(f)], dim=1)


class Simple(Method):
    @dataclass(frozen=True)
    class Options:
        shared: bool = True  # True: Simple SB, False: Simple DB
        fully_connected: bool = False  # VGG-16's own layers on the map: its penultimate features have 4,096 dimensions
        adapter_rank: Width = 32  # frozen regime only

    wants_layers = True
    distance = "cosine"

    def __init__(
        self,
        upper: nn.Module,
        channels: int,
        class_vectors: torch.Tensor,
        options: Options,
        layers: FullyConnected | None = None,
    ):
        super().__init__(upper, channels, class_vectors, options)
        backbone = Backbone(upper, channels, len(class_vectors), options.adapter_rank, layers)
        self.width = backbone.encoder.width
        self.backbone = Sides(backbone, options.shared)

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.backbone(inputs, photos)[:, : self.width]

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        logits = self.backbone(batch.inputs, batch.photos)[:, self.width :]
        return {"ce": functional.cross_entropy(logits, batch.labels)}
