"""Doodle to Search (Dey, Riba, Dutta, Llados, Song, CVPR 2019).

Two networks, psi for sketches and phi for photos, each a trunk with spatial attention and a linear layer to D
dimensions, trained on triplets with semantically hard negatives: a triplet loss, a domain classifier and a semantic
decoder, the latter two through gradient reversal.  Retrieval by Euclidean distance.  Equation numbers are the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, Encoder, FullyConnected, Method, Sides
from ucdr_core.methods.losses import cosine_distance, dropout, reverse_gradient, triplet_loss
from ucdr_core.options import Positive, ShareBelow1, Weight, Width


def ramp(iteration: int) -> float:
    """lambda_d in [0, 1]: off for five iterations, then linearly to 1 at iteration 25.

    Algorithm 1, line 4, with z(i) = (i - 5) / 20.
    """
    return float(np.clip((iteration - 5) / 20, 0, 1))


def semantic_negatives(class_vectors: np.ndarray, scale: float) -> np.ndarray:
    """(C, C) probabilities of the negative's class, rows sum to 1: class vectors s (C, D).

    p(c') ~ exp(-|s_c - s_c'|^2 / scale) over the other classes c'.  Meant for unit vectors; longer ones make the
    nearest class certain.  Source: sounakdey/doodle2search (scale 0.1).
    """
    return _over_other_classes(-np.square(class_vectors[:, None] - class_vectors).sum(2) / scale)


def relative_negatives(class_vectors: np.ndarray) -> np.ndarray:
    """(C, C) probabilities of the negative's class, rows sum to 1: class vectors s (C, D).

    p(c') ~ exp(-d / max d) over the other classes c', d the Euclidean distance from s_c and max d the largest of them:
    no class is more than e times as likely as another.  Source: the copy of Doodle to Search in mvp18/UCDR.
    """
    distance = np.sqrt(np.square(class_vectors[:, None] - class_vectors).sum(2))
    return _over_other_classes(-distance / distance.max(1, keepdims=True))


def _over_other_classes(logits: np.ndarray) -> np.ndarray:
    """Softmax of each row of (C, C) over the classes that are not its own."""
    np.fill_diagonal(logits, -np.inf)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


class Doodle(Method):
    @dataclass(frozen=True)
    class Options:
        dim: Width = 256  # D (the code's default; SnMpNet lists 300)
        attention: bool = True
        shared: bool = False  # one network for both domains (SnMpNet's rows Doodle-Single and SE-Single)
        weight_triplet: Weight = 1.0  # alpha_1 to alpha_3 of equation 4, equal in the paper
        weight_domain: Weight = 1.0
        weight_semantic: Weight = 1.0
        margin: Weight = 1.0  # mu of equation 1
        # paper: lambda_d by iteration; code: by the batch's place in its epoch, so off anew each epoch
        ramp: Literal["paper", "code"] = "paper"
        reversal: Weight = 0.5  # lambda_s
        semantic_form: Literal["paper", "code"] = "paper"  # equation 3 divides by three; the code does not
        decoder_layers: Literal[2, 3] = 3  # the code has 2
        dropout: ShareBelow1 = 0.5  # in the two heads (code)
        # relative: the sampler of SnMpNet's rows of this method; uniform: every photo of another class is as likely
        negatives: Literal["semantic", "relative", "uniform"] = "semantic"
        negative_scale: Positive = 0.1  # of the semantic ones (code)
        distance: Literal["euclidean", "cosine"] = "euclidean"
        fully_connected: bool = False  # VGG-16's own layers between attention and embedding, as in the code
        adapter_rank: Width = 32  # frozen regime only

    batches = "triplets"
    uses_class_vectors = True
    wants_positions = True
    wants_layers = True

    def __init__(
        self,
        upper: nn.Module,
        channels: int,
        class_vectors: torch.Tensor,
        options: Options,
        layers: FullyConnected | None = None,
    ):
        super().__init__(upper, channels, class_vectors, options)
        words = class_vectors.shape[1]
        encoder = Encoder(upper, channels, options.adapter_rank, options.attention, layers)
        self.encode = Sides(nn.Sequential(encoder, nn.Linear(encoder.width, options.dim)), options.shared)  # psi, phi
        self.domain = nn.ModuleList([nn.Linear(options.dim, 64), nn.Linear(64, 64), nn.Linear(64, 1)])  # f
        widths = [options.dim, *[words] * options.decoder_layers]
        self.decoder = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths, widths[1:]))  # g

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.encode(inputs, photos)

    def negative_classes(self) -> np.ndarray | None:
        vectors = self.class_vectors.double().cpu().numpy()
        if self.options.negatives == "semantic":
            return semantic_negatives(vectors, self.options.negative_scale)
        return relative_negatives(vectors) if self.options.negatives == "relative" else None

    def head(self, layers: nn.ModuleList, x: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        """Linear layers with ReLU between them and, in training, dropout after the first."""
        for number, layer in enumerate(layers):
            x = layer(x)
            if number < len(layers) - 1:
                x = functional.relu(x)
            if number == 0 and self.training:
                x = dropout(x, self.options.dropout, random)
        return x

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        embedded = self.encode(batch.inputs, batch.photos)
        s = self.class_vectors[batch.labels.chunk(3)[0]]  # the anchor's class, for all three
        strength = ramp(batch.iteration if self.options.ramp == "paper" else batch.step)
        return self.terms(embedded, batch.photos, s, strength, random)

    def terms(
        self,
        embedded: torch.Tensor,
        photos: torch.Tensor,
        s: torch.Tensor,
        strength: float,
        random: np.random.Generator,
    ) -> dict[str, torch.Tensor]:
        """Weighted loss terms, equation 4, of N triplets.

        embedded (3N, D), anchors, positives and negatives; photos (3N,) bool; s (N, words), vectors of the anchors'
        classes; strength lambda_d; `random` draws the dropout
        """
        options = self.options
        anchors, positives, negatives = embedded.chunk(3)
        d_positive = functional.pairwise_distance(anchors, positives)
        d_negative = functional.pairwise_distance(anchors, negatives)
        # Equation 1.
        terms = {"triplet": options.weight_triplet * triplet_loss(d_positive, d_negative, options.margin)}
        if options.weight_domain:
            logits = self.head(self.domain, reverse_gradient(embedded, strength), random)[:, 0]
            # Equation 2: sketches are 0, photos 1; the three parts of a triplet weigh alike.
            loss = functional.binary_cross_entropy_with_logits(logits, photos.to(logits))
            terms["domain"] = options.weight_domain * loss
        if options.weight_semantic:
            parts = torch.cat([anchors, positives, reverse_gradient(negatives, options.reversal)])
            decoded = self.head(self.decoder, parts, random)
            distance = cosine_distance(decoded, s.repeat(3, 1)) / 2  # l_c
            # Equation 3 is the mean over the 3N samples; the code's sum of three means is three times that.
            weight = options.weight_semantic * (1 if options.semantic_form == "paper" else 3)
            terms["semantic"] = weight * distance.mean()
        return terms
