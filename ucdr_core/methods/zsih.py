"""ZSIH: zero-shot sketch-image hashing (Shen, Liu, Shen, Shao, CVPR 2018).

Binary codes of sketches and photos.  In training, a third network sees a sketch and a photo together: their features
are fused by a Kronecker product, mixed over the batch by graph convolutions whose graph is the likeness of the word
vectors, and turned into stochastic bits that must tell the word vector; the two encoders, used alone at test, learn to
give the same bits.  Hamming ranking, tied items as one group (see `retrieval.metrics`).  Source: the paper, and the
authors' simplified release ymcidence/Zero-Shot-Sketch-Image-Hashing; the attention that the paper puts before the
encoders is left out, as there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.device import to_device
from ucdr_core.methods.base import Batch, Method, Sides, mlp, scaled_features


def semantic_graph(s: torch.Tensor, scale: float) -> torch.Tensor:
    """D^-1/2 A D^-1/2 with A = exp(-|s_i - s_j|^2 / scale): word vectors of the batch (B, W) -> (B, B)."""
    a = (-torch.cdist(s, s).square() / scale).exp()
    root = a.sum(1).rsqrt()
    return root[:, None] * a * root


def kronecker(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """u (x) v for each row: (B, m), (B, n) -> (B, m n)."""
    return (u[:, :, None] * v[:, None, :]).flatten(1)


def stochastic_bits(logits: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Bits that are 1 with probability sigmoid(logits), of the logits' shape.

    Their gradient is that of the probability (straight through).
    """
    p = logits.sigmoid()
    drawn = to_device(random.random(tuple(p.shape)), p.device, p.dtype)
    return (p > drawn).to(p) + p - p.detach()


class ZSIH(Method):
    @dataclass(frozen=True)
    class Options:
        bits: int = 64
        hidden: int = 1024
        fusion: int = 256  # of the projections that are multiplied
        graph_scale: float = 0.1
        weight_semantic: float = 0.5
        weight_entropy: float = 1.0
        weight_codes: float = 0.1  # both encoders against the code

    # Between codes of 0 and 1 the squared Euclidean distance is the Hamming distance, exactly.
    distance = "euclidean"
    batches = "pairs"
    uses_class_vectors = True
    frozen_features = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        self.encode = Sides(mlp(channels, options.hidden, options.bits), shared=False)
        # Sketch, photo.  The batch normalisation is ours: what all features have in common otherwise drives all bits to
        # one value within the first steps, before they have told any class, and they stay there (on sketchy25 with
        # every seed).
        width, hidden, bits = options.fusion, options.hidden, options.bits
        self.fuse = nn.ModuleList(nn.Sequential(nn.Linear(channels, width), nn.BatchNorm1d(width)) for _ in range(2))
        self.convolve = nn.ModuleList([nn.Linear(width**2, hidden), nn.Linear(hidden, bits)])
        self.decode = nn.Linear(options.bits, class_vectors.shape[1])

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        options, x = self.options, scaled_features(batch.inputs)
        s = self.class_vectors[batch.labels.chunk(2)[0]]
        graph = semantic_graph(functional.normalize(s, dim=1), options.graph_scale)
        sketch, photo = x.chunk(2)
        fused = kronecker(functional.relu(self.fuse[0](sketch)), functional.relu(self.fuse[1](photo)))
        first, second = self.convolve
        logits = graph @ second(functional.relu(graph @ first(fused)))
        code = stochastic_bits(logits, random)
        alone = self.encode(x, batch.photos).sigmoid()
        return {
            "semantic": options.weight_semantic * functional.mse_loss(self.decode(code), s),
            "entropy": options.weight_entropy * functional.binary_cross_entropy_with_logits(logits, code.detach()),
            "codes": options.weight_codes * (alone - code.detach().repeat(2, 1)).square().sum(1).mean(),
        }

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        """Codes of 0 and 1, (B, bits)."""
        x = scaled_features(inputs)
        return (self.encode(x, photos) > 0).to(x)
