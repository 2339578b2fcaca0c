"""ZSIH: zero-shot sketch-image hashing (Shen, Liu, Shen, Shao, CVPR 2018).

Binary codes of sketches and photos.  In training, a third network sees a sketch and a photo together: their features
are fused by a Kronecker product, mixed over the batch by graph convolutions whose graph is the likeness of the word
vectors, and turned into bits that must tell the word vector; the two encoders, used alone at test, learn to give the
same bits.  Hamming ranking, tied items as one group (see `retrieval.metrics`).  Source: the paper, and the authors'
simplified release ymcidence/Zero-Shot-Sketch-Image-Hashing, whose losses are followed here term by term; the attention
that the paper puts before the encoders is left out, as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.device import to_device
from ucdr_core.methods.base import Batch, Method, Sides, mlp, scaled_features
from ucdr_core.options import Positive, Range, Weight, Width


def adjacency(s: torch.Tensor, scale: float) -> torch.Tensor:
    """A = exp(-|s_i - s_j|^2 / scale): word vectors of the batch (B, W) -> (B, B)."""
    # Not by a matrix product, which leaves 1e-7 where two vectors are the same.
    return (-torch.cdist(s, s, compute_mode="donot_use_mm_for_euclid_dist").square() / scale).exp()


def semantic_graph(s: torch.Tensor, scale: float) -> torch.Tensor:
    """D^-1/2 A D^-1/2: word vectors of the batch (B, W) -> (B, B)."""
    a = adjacency(s, scale)
    root = (a.sum(1) + 1e-8).rsqrt()
    return root[:, None] * a * root


def kronecker(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """u (x) v for each row: (B, m), (B, n) -> (B, m n)."""
    return (u[:, :, None] * v[:, None, :]).flatten(1)


def bits_above(logits: torch.Tensor, thresholds: torch.Tensor | float) -> torch.Tensor:
    """[sigmoid(logits) > thresholds], of the logits' shape; their gradient is that of the probability."""
    p = logits.sigmoid()
    return ((p.detach() - thresholds).sign() + 1) / 2 + (p - p.detach())


def half_squares(x: torch.Tensor) -> torch.Tensor:
    """Half the sum of squares; scalar."""
    return x.square().sum() / 2


class Outputs(NamedTuple):
    """What the three networks make of B pairs."""

    sketch: torch.Tensor  # (B, bits) in (0, 1), by the encoder of sketches alone
    photo: torch.Tensor  # the same of photos
    logits: torch.Tensor  # (B, bits), of the network that sees both
    codes: torch.Tensor  # (B, bits), its bits
    decoded: torch.Tensor  # (B, W), the word vector that they tell


class ZSIH(Method):
    @dataclass(frozen=True)
    class Options:
        """Weights and widths are the release's.

        Its semantic term is a sum over 200 pairs and 300 coordinates beside a mean, the entropy: weights mean something
        with their reductions alone.
        """

        bits: Width = 64
        hidden: Width = 1024
        fusion: Annotated[int, Range(1, 1024)] = 256  # of the projections that are multiplied
        graph_scale: Weight = 0.1
        weight_semantic: Weight = 0.5  # of half the sum of squares over the batch and the coordinates
        weight_entropy: Weight = 1.0  # of the mean over the batch and the bits
        weight_codes: Weight = 0.1  # of half the sum of squares over the batch and the bits, of both encoders
        weight_decay: Weight = 0.005  # of half the sum of squares of all weights and biases
        # A bit is 1 where its probability is above 0.5 (code), or with that probability (paper).
        neurons: Literal["code", "paper"] = "code"
        # What the encoders learn: [logit > 0.5], which compares the logit with what is meant for the probability and so
        # differs from the code for logits in (0, 0.5) (code); or the code (paper).
        targets: Literal["code", "paper"] = "code"
        initial_deviation: Positive = 0.01  # of the weights, normal; biases start at 0

    # Between codes of 0 and 1 the squared Euclidean distance is the Hamming distance, exactly.
    distance = "euclidean"
    batches = "pairs"
    uses_class_vectors = True
    frozen_features = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        width, hidden, bits, words = options.fusion, options.hidden, options.bits, class_vectors.shape[1]
        self.encode = Sides(mlp(channels, hidden, bits), shared=False)
        self.project = nn.ModuleList(nn.Linear(channels, width) for _ in range(2))  # of photos, of sketches
        self.convolve = nn.ModuleList([nn.Linear(width**2, hidden), nn.Linear(hidden, bits)])
        self.decode = nn.Linear(bits, words)
        self.decode_variance = nn.Linear(bits, words)  # in no term but the regulariser, as in the release
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=options.initial_deviation)
                nn.init.zeros_(layer.bias)

    def outputs(
        self, sketch: torch.Tensor, photo: torch.Tensor, s: torch.Tensor, thresholds: torch.Tensor | float = 0.5
    ) -> Outputs:
        """Features of sketches and photos (B, channels), word vectors (B, W), thresholds of the bits (B, bits)."""
        u, v = (functional.relu(project(x)) for project, x in zip(self.project, (photo, sketch)))
        graph = semantic_graph(s, self.options.graph_scale)
        first, second = self.convolve
        logits = graph @ second(functional.relu(graph @ first(kronecker(u, v))))
        codes = bits_above(logits, thresholds)
        alone = self.encode.sketch(sketch).sigmoid(), self.encode.photo(photo).sigmoid()
        return Outputs(*alone, logits, codes, self.decode(codes))

    def targets(self, outputs: Outputs) -> torch.Tensor:
        """T, what both encoders should give, (B, bits); without a gradient."""
        if self.options.targets == "paper":
            return outputs.codes.detach()
        return ((outputs.logits.detach() - 0.5).sign() + 1) / 2

    def terms(self, outputs: Outputs, s: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss terms by name, scalars; s (B, W)."""
        options, target = self.options, self.targets(outputs)
        apart = half_squares(outputs.sketch - target) + half_squares(outputs.photo - target)
        # The labels of the cross-entropy are the codes, through which its gradient flows too.
        entropy = functional.binary_cross_entropy_with_logits(outputs.logits, outputs.codes)
        return {
            "semantic": options.weight_semantic * half_squares(outputs.decoded - s),
            "entropy": options.weight_entropy * entropy,
            "codes": options.weight_codes * apart,
            "regulariser": options.weight_decay * sum(map(half_squares, self.parameters())),
        }

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        s = self.class_vectors[batch.labels.chunk(2)[0]]
        thresholds: torch.Tensor | float = 0.5
        if self.options.neurons == "paper":
            thresholds = to_device(random.random((len(s), self.options.bits)), s.device, s.dtype)
        return self.terms(self.outputs(*scaled_features(batch.inputs).chunk(2), s, thresholds), s)

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        """Codes of 0 and 1, (B, bits)."""
        x = scaled_features(inputs)
        return (self.encode(x, photos) > 0).to(x)
