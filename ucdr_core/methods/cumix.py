"""CuMix-retrieval: CuMix (Mancini et al., ECCV 2020) with a semantic layer, as SnMpNet's supplement (A.1) builds it.

Trunk -> average pooling -> g -> linear layer -> f; cosine cross-entropy to the class vectors on plain samples, on
samples mixed at the input, and on samples mixed at g.  No attention.  Retrieval by Euclidean distance between the f.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from ucdr_core.methods.base import Batch, Encoder, Method
from ucdr_core.methods.losses import Mixing, cosine_logits, draw_mixing, mixed_cross_entropy, mixing_schedule


class CuMix(Method):
    @dataclass(frozen=True)
    class Options:
        eta_image: float = 0.001  # weight of input-level mixing (mvp18/UCDR)
        eta_feature: float = 2.0  # weight of feature-level mixing (mvp18/UCDR)
        beta: float = 1.0
        mixup_step: int = 2
        temperature: float = 1.0
        distance: Literal["euclidean", "cosine"] = "euclidean"
        adapter_rank: int = 32  # frozen regime only

    uses_class_vectors = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        self.features = Encoder(upper, channels, options.adapter_rank)  # g (B, channels)
        self.semantic = nn.Linear(channels, class_vectors.shape[1])

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.semantic(self.features(inputs))

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        options = self.options
        beta, gamma = mixing_schedule(batch.epoch, options.beta, options.mixup_step)

        def logits(g: torch.Tensor) -> torch.Tensor:
            return cosine_logits(self.semantic(g), self.class_vectors, options.temperature)

        def mixed(g: torch.Tensor, mixing: Mixing) -> torch.Tensor:
            return mixed_cross_entropy(logits(g), batch.labels, mixing)

        g = self.features(batch.inputs)
        plain = logits(g)
        # The two levels draw their partners and shares independently.
        image_level = draw_mixing(batch.domains, beta, gamma, random, g)
        feature_level = draw_mixing(batch.domains, beta, gamma, random, g)
        return {
            "ce": nn.functional.cross_entropy(plain, batch.labels),
            "mixed_images": options.eta_image * mixed(self.features(image_level.of(batch.inputs)), image_level),
            "mixed_features": options.eta_feature * mixed(feature_level.of(g), feature_level),
        }
