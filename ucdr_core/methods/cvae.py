"""CVAE: a conditional variational auto-encoder from sketches to photos (Yelamarthi, Reddy, Mishra, Mittal, ECCV 2018).

On frozen features of a sketch and the photo that it was drawn from: the encoder sees both, the decoder makes the
photo's feature from the sketch's and a latent z, and a second decoder must find the sketch's feature in what was made.
A sketch asks with the mean of photo features made for many z; cosine.  Source: the paper, and the public code
ShivaKrishnaM/ZS-SBIR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, Method, by_side, fixed_latents, mean_decoded, scaled_features
from ucdr_core.methods.losses import dropout, kl_to_standard_normal, standard_normal
from ucdr_core.options import Range, ShareBelow1, Weight, Width


def _hidden(inputs: int, outputs: int) -> nn.Sequential:
    """Linear, ReLU, batch normalisation with the constants of Keras."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.BatchNorm1d(outputs, eps=1e-3, momentum=0.01))


class CVAE(Method):
    @dataclass(frozen=True)
    class Options:
        # The encoder's first layer; its second and the decoders' hidden layers have half of it.
        hidden: Annotated[int, Range(2, 1 << 14)] = 4096
        latent: Width = 1024
        dropout: ShareBelow1 = 0.3  # after the encoder's first layer
        # The image's error is a mean over the feature's dimensions, the KL a sum over the latent's (code): at these
        # weights the KL outweighs what a decoder of variance 1 asks for by half of the feature's dimension.
        weight_kl: Weight = 1.0
        weight_sketch: Weight = 10.0
        # Of z while training: drawn for each sample, or one draw for the whole batch (code).
        noise: Literal["paper", "code"] = "paper"
        pairs: Literal["own", "class"] = "own"  # see `Batches`
        samples: Annotated[int, Range(1, 10_000)] = 100

    distance = "cosine"
    batches = "pairs"
    frozen_features = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        half = options.hidden // 2
        self.first, self.second = _hidden(2 * channels, options.hidden), _hidden(options.hidden, half)
        self.mean = nn.Sequential(nn.Linear(half, options.latent), nn.Tanh())
        self.log_variance = nn.Sequential(nn.Linear(half, options.latent), nn.Tanh())  # of sigma^2
        self.decoder = nn.Sequential(
            nn.Linear(options.latent + channels, half), nn.ReLU(), nn.Linear(half, channels), nn.ReLU()
        )
        self.to_sketch = nn.Sequential(nn.Linear(channels, half), nn.ReLU(), nn.Linear(half, channels), nn.ReLU())
        self.register_buffer("z", fixed_latents(options.samples, options.latent))

    def encode(
        self, x_im: torch.Tensor, x_sk: torch.Tensor, random: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of photos and sketches (B, channels) -> mu and log sigma^2 (B, latent), both in (-1, 1)."""
        h = self.first(torch.cat([x_im, x_sk], dim=1))
        h = self.second(dropout(h, self.options.dropout, random) if self.training else h)
        return self.mean(h), self.log_variance(h)

    def terms(self, x_sk: torch.Tensor, x_im: torch.Tensor, random: np.random.Generator) -> dict[str, torch.Tensor]:
        """The loss terms of pairs of features (B, channels)."""
        mean, log_variance = self.encode(x_im, x_sk, random)
        noise = standard_normal(mean[:1] if self.options.noise == "code" else mean, random)
        z = mean + noise * (log_variance / 2).exp()
        made = self.decoder(torch.cat([z, x_sk], dim=1))
        return {
            "image": functional.mse_loss(made, x_im),
            "kl": self.options.weight_kl * kl_to_standard_normal(mean, log_variance),
            "sketch": self.options.weight_sketch * functional.mse_loss(self.to_sketch(made), x_sk),
        }

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        return self.terms(*scaled_features(batch.inputs).chunk(2), random)

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        """A sketch: the mean over z of the photo features made for it; a photo: its feature."""
        x = scaled_features(inputs)
        return by_side(x, photos, lambda x_sk: mean_decoded(self.decoder, self.z, x_sk, block=1), nn.Identity())
