"""CVAE: a conditional variational auto-encoder from sketches to photos (Yelamarthi, Reddy, Mishra, Mittal, ECCV 2018).

On frozen features of a sketch and a photo: the encoder sees both, the decoder makes the photo's feature from the
sketch's and a latent z, and a second decoder must find the sketch's feature in what was made.  A sketch asks with the
mean of photo features made for many z; cosine.  Source: the paper, and the public code ShivaKrishnaM/ZS-SBIR.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, Method, by_side, fixed_latents, mean_decoded, scaled_features
from ucdr_core.methods.losses import draw_latents, kl_to_standard_normal


class CVAE(Method):
    @dataclass(frozen=True)
    class Options:
        hidden: int = 4096  # the encoder's first layer; its second and the decoder's hidden layer have half of it
        latent: int = 1024
        weight_kl: float = 1.0
        weight_sketch: float = 10.0
        samples: int = 100

    distance = "cosine"
    batches = "pairs"
    frozen_features = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        half = options.hidden // 2
        self.encoder = nn.Sequential(
            nn.Linear(2 * channels, options.hidden),
            nn.Tanh(),
            nn.Linear(options.hidden, half),
            nn.Tanh(),
            nn.Linear(half, 2 * options.latent),  # mu and the logarithm of sigma^2
        )
        self.decoder = nn.Sequential(
            nn.Linear(options.latent + channels, half), nn.ReLU(), nn.Linear(half, channels), nn.ReLU()
        )
        self.to_sketch = nn.Sequential(nn.Linear(channels, half), nn.ReLU(), nn.Linear(half, channels), nn.ReLU())
        self.register_buffer("z", fixed_latents(options.samples, options.latent))

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        x_sk, x_im = scaled_features(batch.inputs).chunk(2)
        mean, log_variance = self.encoder(torch.cat([x_im, x_sk], dim=1)).chunk(2, dim=1)
        made = self.decoder(torch.cat([draw_latents(mean, log_variance, random), x_sk], dim=1))
        return {
            "image": functional.mse_loss(made, x_im),
            "kl": self.options.weight_kl * kl_to_standard_normal(mean, log_variance),
            "sketch": self.options.weight_sketch * functional.mse_loss(self.to_sketch(made), x_sk),
        }

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        """A sketch: the mean over z of the photo features made for it; a photo: its feature."""
        x = scaled_features(inputs)
        return by_side(x, photos, lambda x_sk: mean_decoded(self.decoder, self.z, x_sk, block=1), nn.Identity())
