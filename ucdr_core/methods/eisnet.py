"""EISNet-retrieval: EISNet (Wang et al., ECCV 2020) with a semantic layer, as SnMpNet's supplement (A.1) builds it.

Trunk -> average pooling -> g, and on g: (i) a linear semantic layer with the cosine cross-entropy to the class vectors,
(ii) a 31-way jigsaw classifier, (iii) a 128-d metric embedding with a triplet loss whose semi-hard negatives come from
a momentum queue.  No attention.  Retrieval by Euclidean distance between the outputs of (i).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.device import to_device
from ucdr_core.methods.base import Batch, Encoder, Method
from ucdr_core.methods.losses import cosine_logits


def queue_triplet_loss(
    anchors: torch.Tensor,
    labels: torch.Tensor,
    keys: torch.Tensor,
    key_labels: torch.Tensor,
    margin: float,
    negatives: int,
) -> torch.Tensor:
    """Triplet loss with semi-hard negatives from a queue; 0 where no triplet violates it.

    anchors (B, d) and keys (M, d) of length 1, labels (B,), key_labels (M,), -1 where the queue is not filled yet
    For each anchor and its farthest key of the same class, the hardest `negatives` keys of other classes that are
    farther than that positive but by less than the margin.  Squared Euclidean distances of unit vectors, so in [0, 4].
    An anchor without a key of its class has no triplet.
    """
    distance = (2 - 2 * anchors @ keys.T).clamp(min=0)  # rounding puts an anchor's copy in the queue below 0
    same = labels[:, None] == key_labels
    other = ~same & (key_labels >= 0)
    positive = distance.masked_fill(~same, -1).max(1, keepdim=True).values
    semi_hard = other & same.any(1, keepdim=True) & (distance > positive) & (distance < positive + margin)
    violation = (positive - distance + margin).masked_fill(~semi_hard, 0)
    hardest = violation.topk(min(negatives, violation.shape[1]), dim=1).values
    return hardest.sum() / (hardest > 0).sum().clamp(min=1)


class EISNet(Method):
    @dataclass(frozen=True)
    class Options:
        weight_jigsaw: float = 0.7
        weight_triplet: float = 0.5
        jigsaw_share: float = 0.1  # of the samples are shown shuffled
        margin: float = 2.0
        negatives: int = 256
        queue: int = 1024
        momentum: float = 0.999
        temperature: float = 1.0
        distance: Literal["euclidean", "cosine"] = "euclidean"
        adapter_rank: int = 32  # frozen regime only

    uses_class_vectors = True
    wants_jigsaw = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        self.features = Encoder(upper, channels, options.adapter_rank)  # g (B, channels)
        self.semantic = nn.Linear(channels, class_vectors.shape[1])
        self.jigsaw = nn.Linear(channels, 31)
        self.metric = nn.Linear(channels, 128)
        self.slow = copy.deepcopy(nn.Sequential(self.features, self.metric)).requires_grad_(False)
        self.register_buffer("keys", torch.zeros(options.queue, 128))
        self.register_buffer("key_labels", torch.full((options.queue,), -1))

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.semantic(self.features(inputs))

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        options = self.options
        drawn = random.random(len(batch.labels)) < options.jigsaw_share
        shuffled, whole = to_device(drawn, batch.labels.device), to_device(np.flatnonzero(~drawn), batch.labels.device)
        inputs = torch.where(shuffled.view(-1, *[1] * (batch.inputs.ndim - 1)), batch.jigsaw_inputs, batch.inputs)
        g = self.features(inputs)
        logits = cosine_logits(self.semantic(g), self.class_vectors, options.temperature)
        permutations = torch.where(shuffled, batch.jigsaw_labels, 0)
        terms = {
            "ce": functional.cross_entropy(logits, batch.labels),
            "jigsaw": options.weight_jigsaw * functional.cross_entropy(self.jigsaw(g), permutations),
        }
        anchors = functional.normalize(self.metric(g[whole]), dim=1)
        with torch.no_grad():
            self._enqueue(functional.normalize(self.slow(batch.inputs), dim=1), batch.labels)
        terms["triplet"] = options.weight_triplet * queue_triplet_loss(
            anchors, batch.labels[whole], self.keys, self.key_labels, options.margin, options.negatives
        )
        return terms

    def _enqueue(self, keys: torch.Tensor, labels: torch.Tensor) -> None:
        self.keys = torch.cat([keys, self.keys])[: len(self.keys)]
        self.key_labels = torch.cat([labels, self.key_labels])[: len(self.key_labels)]

    @torch.no_grad()
    def after_step(self) -> None:
        fast = nn.Sequential(self.features, self.metric)
        for slow, current in zip(self.slow.parameters(), fast.parameters()):
            slow.lerp_(current, 1 - self.options.momentum)
        for slow, current in zip(self.slow.buffers(), fast.buffers()):
            slow.copy_(current)
