"""CuMix-retrieval: CuMix (Mancini et al., ECCV 2020) with a semantic layer, as SnMpNet's supplement (A.1) builds it.

Trunk -> average pooling -> g -> linear layer -> f; cross-entropy to the class vectors on plain samples, on samples
mixed at the input, and on samples mixed at g.  No attention.  Retrieval by Euclidean distance between the f.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, Encoder, Method
from ucdr_core.methods.losses import Mixing, cosine_logits, draw_mixing, mixing_schedule, soft_cross_entropy
from ucdr_core.options import Positive, Range, Weight, Width


def unit_vector_logits(f: torch.Tensor, class_vectors: torch.Tensor) -> torch.Tensor:
    """<f, a_k / |a_k|>, which has no bound: f (B, D), class_vectors (C, D) -> (B, C)."""
    return f @ functional.normalize(class_vectors, dim=1).T


class CuMix(Method):
    @dataclass(frozen=True)
    class Options:
        eta_image: Weight = 0.001  # weight of input-level mixing (mvp18/UCDR)
        eta_feature: Weight = 2.0  # weight of feature-level mixing (mvp18/UCDR)
        beta: Positive = 1.0
        mixup_step: Annotated[int, Range(0, 1 << 20)] = 2
        # cosine: SnMpNet's version (mvp18/UCDR); product: CuMix's own code, which normalises the class vectors alone
        logits: Literal["cosine", "product"] = "cosine"
        temperature: Positive = 1.0  # of the cosine
        distance: Literal["euclidean", "cosine"] = "euclidean"
        adapter_rank: Width = 32  # frozen regime only

    uses_class_vectors = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        self.features = Encoder(upper, channels, options.adapter_rank)  # g (B, channels)
        self.semantic = nn.Linear(channels, class_vectors.shape[1])

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.semantic(self.features(inputs))

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        beta, gamma = mixing_schedule(batch.epoch, self.options.beta, self.options.mixup_step)
        # The two levels draw their partners and shares independently.
        image_level, feature_level = (
            draw_mixing(batch.domains, beta, gamma, random, batch.inputs) for _ in ("image", "feature")
        )
        return self.terms(batch.inputs, batch.labels, image_level, feature_level)

    def terms(
        self, inputs: torch.Tensor, labels: torch.Tensor, image_level: Mixing, feature_level: Mixing
    ) -> dict[str, torch.Tensor]:
        """Weighted loss terms of inputs (B, ...) with labels (B,), mixed at each level as is given."""
        options, classes = self.options, len(self.class_vectors)

        def mixed_loss(logits: torch.Tensor, mixing: Mixing) -> torch.Tensor:
            return soft_cross_entropy(logits, mixing.of_labels(labels, classes))

        g = self.features(inputs)
        mixed_images = self.logits(self.features(image_level.of(inputs)))
        mixed_features = self.logits(feature_level.of(g))
        return {
            "ce": functional.cross_entropy(self.logits(g), labels),
            "mixed_images": options.eta_image * mixed_loss(mixed_images, image_level),
            "mixed_features": options.eta_feature * mixed_loss(mixed_features, feature_level),
        }

    def logits(self, g: torch.Tensor) -> torch.Tensor:
        """g (B, channels) -> (B, C)."""
        f = self.semantic(g)
        if self.options.logits == "product":
            return unit_vector_logits(f, self.class_vectors)
        return cosine_logits(f, self.class_vectors, self.options.temperature)
