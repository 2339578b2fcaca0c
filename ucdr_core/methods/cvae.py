"""CVAE: a conditional variational auto-encoder from sketches to photos (Yelamarthi, Reddy, Mishra, Mittal, ECCV 2018).

On frozen features of a sketch and a photo: the encoder sees both, the decoder makes the photo's feature from the sketch's and a
latent z, and a second decoder must find the sketch's feature in what was made.  A sketch asks with the mean of photo features made
for many z; cosine.  Source: the paper, and the public code ShivaKrishnaM/ZS-SBIR.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..losses import kl_to_standard_normal, standard_normal
from .base import Batch, Method, by_side, scaled_features


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
        self.encoder = nn.Sequential(nn.Linear(2 * channels, options.hidden), nn.Tanh(), nn.Linear(options.hidden, half), nn.Tanh(),
                                     nn.Linear(half, 2 * options.latent))  # mu and the logarithm of sigma^2
        self.decoder = nn.Sequential(nn.Linear(options.latent + channels, half), nn.ReLU(), nn.Linear(half, channels), nn.ReLU())
        self.to_sketch = nn.Sequential(nn.Linear(channels, half), nn.ReLU(), nn.Linear(half, channels), nn.ReLU())
        drawn = np.random.default_rng(0).standard_normal((options.samples, options.latent))
        self.register_buffer("z", torch.from_numpy(drawn))  # the same latents for every query

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        x_sk, x_im = scaled_features(batch.inputs).chunk(2)
        mean, log_variance = self.encoder(torch.cat([x_im, x_sk], dim=1)).chunk(2, dim=1)
        z = mean + standard_normal(mean, random) * (log_variance / 2).exp()
        made = self.decoder(torch.cat([z, x_sk], dim=1))
        return {"image": functional.mse_loss(made, x_im),
                "kl": self.options.weight_kl * kl_to_standard_normal(mean, log_variance),
                "sketch": self.options.weight_sketch * functional.mse_loss(self.to_sketch(made), x_sk)}

    def generated(self, x_sk: torch.Tensor) -> torch.Tensor:
        """The mean over z of the photo features made for sketch features x_sk (B, C)."""
        # The first layer is linear, so that its two inputs are added, not repeated.
        first, _, second, _ = self.decoder
        weight_z, weight_x = first.weight.split([self.options.latent, x_sk.shape[1]], dim=1)
        from_z, from_x = self.z @ weight_z.T + first.bias, x_sk @ weight_x.T
        return torch.stack([functional.relu(second(functional.relu(own + from_z))).mean(0) for own in from_x])

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return by_side(scaled_features(inputs), photos, self.generated, nn.Identity())
