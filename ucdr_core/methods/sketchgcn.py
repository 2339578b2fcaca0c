"""In the spirit of SketchGCN (Zhang, Zhang, Feng, Zhang, Fan, "Zero-shot sketch-based image retrieval via graph
convolution network", AAAI 2020).

Only the abstract is known to us; the book's page on these methods says what we chose.  Encoders of both domains into
one space; in training the samples of a batch are the nodes of a graph whose edges are learned from their features, and
graph convolutions mix features and word vectors; a conditional variational auto-encoder regenerates the word vector
from what comes out.  Retrieval in the common space, which needs no graph and no word vector; cosine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, Encoder, Method, Sides, mlp
from ucdr_core.methods.losses import classification_loss, cosine_loss, draw_latents, kl_to_standard_normal
from ucdr_core.options import Weight, Width


class SketchGCN(Method):
    @dataclass(frozen=True)
    class Options:
        dim: Width = 1024  # of the common space
        latent: Width = 64
        weight_feature: Weight = 1.0  # what the graph makes of a sample, against its own place in the common space
        weight_class: Weight = 1.0
        weight_semantic: Weight = 1.0
        weight_kl: Weight = 0.01
        adapter_rank: Width = 32  # frozen regime only

    distance = "cosine"
    batches = "pairs"
    uses_class_vectors = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        words, dim = class_vectors.shape[1], options.dim
        encoder = Encoder(upper, channels, options.adapter_rank)
        self.encode = Sides(nn.Sequential(encoder, nn.Linear(channels, dim)), shared=False)
        self.edge = nn.Linear(dim, 64, bias=False)  # of the learned adjacency
        self.convolve = nn.ModuleList([nn.Linear(dim + words, dim), nn.Linear(dim, dim)])
        self.classifier = nn.Linear(dim, len(class_vectors))
        self.variational = nn.Linear(dim + words, 2 * options.latent)  # mu and the logarithm of sigma^2
        self.regenerate = mlp(options.latent + dim, dim, words)

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.encode(inputs, photos)

    def adjacency(self, h: torch.Tensor) -> torch.Tensor:
        """(B, dim) -> (B, B), rows sum to 1: the likeness of learned projections."""
        edges = functional.normalize(self.edge(h), dim=1)
        return (10 * edges @ edges.T).softmax(1)

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        options, y = self.options, batch.labels
        s = functional.normalize(self.class_vectors[y], dim=1)
        h = self.encode(batch.inputs, batch.photos)
        graph = self.adjacency(h)
        first, second = self.convolve
        mixed = graph @ second(functional.relu(graph @ first(torch.cat([h, s], dim=1))))
        mean, log_variance = self.variational(torch.cat([mixed, s], dim=1)).chunk(2, dim=1)
        made = self.regenerate(torch.cat([draw_latents(mean, log_variance, random), h], dim=1))
        return {
            "feature": options.weight_feature * cosine_loss(h, mixed),
            "class": options.weight_class * classification_loss(self.classifier, y, h, mixed),
            "semantic": options.weight_semantic * cosine_loss(made, s),
            "kl": options.weight_kl * kl_to_standard_normal(mean, log_variance),
        }
