"""In the spirit of OCEAN (Zhu, Xu, Shen, Lee, Wang, Shen, "OCEAN: a dual learning approach for generalized zero-shot
sketch-based image retrieval", ICME 2020).

Only its title and what STL says of it are known to us; the book's page on these methods says what we chose.  One
encoder for sketches and photos, conditioned on which of the two it sees, into D dimensions; from there a map to the
word vectors and one back (the dual tasks), each against a critic, with cycle consistency and a classifier.  Retrieval
by cosine in the D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, Encoder, Method, mlp
from ucdr_core.methods.losses import adversarial_terms, classification_loss, cosine_loss
from ucdr_core.options import Weight, Width


class OCEAN(Method):
    @dataclass(frozen=True)
    class Options:
        dim: Width = 512  # D
        hidden: Width = 512
        weight_class: Weight = 1.0
        weight_semantic: Weight = 1.0
        weight_cycle: Weight = 1.0
        weight_adversarial: Weight = 0.1
        adapter_rank: Width = 32  # frozen regime only

    distance = "cosine"
    batches = "pairs"
    uses_class_vectors = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        words, dim, hidden = class_vectors.shape[1], options.dim, options.hidden
        self.encoder = Encoder(upper, channels, options.adapter_rank)
        self.conditioned = nn.Linear(channels + 1, dim)
        self.to_semantic = mlp(dim, hidden, words, slope=0.2)  # visual -> semantic
        self.to_visual = mlp(words, hidden, dim, slope=0.2)  # semantic -> visual
        self.classifier = nn.Linear(dim, len(class_vectors))
        if options.weight_adversarial:
            self.critic_semantic = mlp(words, hidden, 1, slope=0.2)
            self.critic_visual = mlp(dim, hidden, 1, slope=0.2)

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        g = self.encoder(inputs)
        return self.conditioned(torch.cat([g, photos[:, None].to(g)], dim=1))

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        options, y = self.options, batch.labels
        v, s = self.embed(batch.inputs, batch.photos), functional.normalize(self.class_vectors[y], dim=1)
        semantic, visual = self.to_semantic(v), self.to_visual(s)
        terms = {
            "class": options.weight_class * classification_loss(self.classifier, y, v, visual),
            "semantic": options.weight_semantic * cosine_loss(semantic, s),
            "cycle": options.weight_cycle
            * (cosine_loss(self.to_visual(semantic), v) + cosine_loss(self.to_semantic(visual), s)),
        }
        if options.weight_adversarial:
            games = (self.critic_semantic, s, semantic), (self.critic_visual, v, visual)
            terms |= adversarial_terms(options.weight_adversarial, *games)
        return terms
