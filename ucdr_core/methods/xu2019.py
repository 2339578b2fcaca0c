"""In the spirit of Xu, Wang, Li, Deng, "Semantic adversarial network for zero-shot sketch-based image retrieval"
(arXiv 1905.02327).

Only the abstract is known to us; the book's page on these methods says what we chose.  Sketch features become semantic
features, which a critic compares with word vectors; a generator makes photo features from them and noise, which a
second critic compares with real ones; a triplet loss ties what is made to photos of its class.  A sketch asks with the
photo feature that is made for it; cosine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, Encoder, Method, Sides, by_side, mlp
from ucdr_core.methods.losses import adversarial_terms, cosine_distance, cosine_loss, standard_normal, triplet_loss
from ucdr_core.options import Weight, Width


class Xu2019(Method):
    @dataclass(frozen=True)
    class Options:
        hidden: Width = 1024
        noise_dim: Width = 64
        margin: Weight = 0.2
        weight_semantic: Weight = 1.0
        weight_class: Weight = 1.0
        weight_adversarial: Weight = 0.1
        adapter_rank: Width = 32  # frozen regime only

    distance = "cosine"
    batches = "triplets"
    uses_class_vectors = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        words = class_vectors.shape[1]
        self.encode = Sides(Encoder(upper, channels, options.adapter_rank), shared=False)
        self.to_semantic = nn.Linear(channels, words)
        self.generate = mlp(words + options.noise_dim, options.hidden, channels, slope=0.2)
        self.classifier = nn.Linear(channels, len(class_vectors))
        if options.weight_adversarial:
            self.critic_semantic = mlp(words, options.hidden, 1, slope=0.2)
            self.critic_photo = mlp(channels, options.hidden, 1, slope=0.2)

    def make_photos(self, semantic: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Photo features (B, channels) from semantic features (B, W) and noise (B, noise_dim)."""
        return self.generate(torch.cat([semantic, noise], dim=1))

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        options, f = self.options, self.encode(batch.inputs, batch.photos)
        sketches, positives, negatives = f.chunk(3)
        y, _, other = batch.labels.chunk(3)
        s = self.class_vectors[y]
        semantic = self.to_semantic(sketches)
        noise = standard_normal(semantic.new_empty(len(semantic), options.noise_dim), random)
        made = self.make_photos(semantic, noise)
        logits = self.classifier(torch.cat([made, positives, negatives]))
        terms = {
            "triplet": triplet_loss(cosine_distance(made, positives), cosine_distance(made, negatives), options.margin),
            "semantic": options.weight_semantic * cosine_loss(semantic, s),
            "class": options.weight_class * functional.cross_entropy(logits, torch.cat([y, y, other])),
        }
        if options.weight_adversarial:
            games = (self.critic_semantic, s, semantic), (self.critic_photo, positives, made)
            terms |= adversarial_terms(options.weight_adversarial, *games)
        return terms

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        def embed_sketches(sketches: torch.Tensor) -> torch.Tensor:
            semantic = self.to_semantic(self.encode.sketch(sketches))
            mean_noise = semantic.new_zeros(len(semantic), self.options.noise_dim)
            return self.make_photos(semantic, mean_noise)

        return by_side(inputs, photos, embed_sketches, self.encode.photo)
