"""EISNet-retrieval: EISNet (Wang et al., ECCV 2020) with a semantic layer, as SnMpNet's supplement (A.1) builds it.

Trunk -> average pooling -> g, and on g: (i) a linear semantic layer with the cosine cross-entropy to the class vectors,
(ii) a 31-way jigsaw classifier, (iii) a 128-d metric embedding with a triplet loss whose positives and semi-hard
negatives are keys of a momentum network.  No attention.  Retrieval by Euclidean distance between the outputs of (i).

The three terms are of the tile image, which is shuffled for a tenth of the samples; only the keys are of the whole
image.  Left out: EISNet turns each tile grey with probability .1.

Source: EmmaW8/EISNet, and its copy in mvp18/UCDR, which is what SnMpNet compares with.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.device import to_device
from ucdr_core.methods.base import Batch, Encoder, Method
from ucdr_core.methods.losses import cosine_logits
from ucdr_core.options import Count, Positive, Share, Weight, Width


def draw_shuffled(count: int, share: float, random: np.random.Generator) -> np.ndarray:
    """Which of the samples are shown shuffled, (count,) bool.

    A sample's order is uniform on 0 to 30, and set to 0 with probability 1 - share; 0 shows the picture as it is, so
    that 1 - share + share / 31 of them are not shuffled.
    """
    orders = random.integers(0, 31, count)
    return (orders > 0) & (random.random(count) < share)


def squared_distances(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """|u_i - v_j|^2: (B, d), (M, d) -> (B, M); of unit vectors, in [0, 4]."""
    return u.square().sum(1, keepdim=True) + v.square().sum(1) - 2 * u @ v.T


def enqueue(queue: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """The queue (K, ...) with the new rows (B, ...) at its end, and as many of its oldest gone."""
    return torch.cat([queue, new])[-len(queue) :]


class Triplets(NamedTuple):
    """Anchors and positives by their places in the batch, negatives by their places in the queue.

    Each pair has room for k negatives; `drawn` says which of them there are.
    """

    anchors: torch.Tensor  # (P,) int, i
    positives: torch.Tensor  # (P,) int, j
    negatives: torch.Tensor  # (P, k) int, m
    drawn: torch.Tensor  # (P, k) bool


def draws_of_batch(count: int, negatives: int, random: np.random.Generator) -> np.ndarray:
    """What `momentum_triplets` takes for a batch of `count` samples: (count (count - 1) / 2, negatives) in [0, 1).

    A row for every two samples, of one class or not: what is drawn later does not depend on the labels.
    """
    return random.random((count * (count - 1) // 2, negatives), dtype=np.float32)


@torch.no_grad()
def momentum_triplets(
    to_keys: torch.Tensor,
    to_queue: torch.Tensor,
    labels: torch.Tensor,
    queue_labels: torch.Tensor,
    margin: float,
    draws: torch.Tensor,
    without_semi_hard: Literal["random", "drop"],
) -> Triplets:
    """Every two samples i < j of one class, with negatives drawn from the queue.

    to_keys (B, B)   D(q_i, k_j), squared distances of the anchors to the momentum keys of the batch
    to_queue (B, M)  D(q_i, m), of the anchors to the keys of the queue
    labels (B,)      of the batch; queue_labels (M,), -1 where the queue is not filled yet
    draws            (B (B - 1) / 2, k) in [0, 1), for the pairs (0, 1), (0, 2), ... (1, 2), ...; see `draws_of_batch`

    A negative is semi-hard where D(q_i, k_j) < D(q_i, m) < D(q_i, k_j) + margin, and m is of another class.  Of c such
    negatives, min(k, c) are drawn with replacement: the draw u takes the floor(u c)-th, in the order of the queue.  A
    pair without any is dropped, or (`random`) its negatives are drawn from all keys of other classes: k with
    replacement, or each of them once where there are no more than k.
    Source: `anchor_selector.py` of EISNet, and of UCDR.
    """
    i, j = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    same = labels[i] == labels[j]
    rows = _rows_to_look_at(same)
    i, j, draws, same = i[rows], j[rows], draws[rows], same[rows]
    positive, negative = to_keys[i, j][:, None], to_queue[i]
    others = same[:, None] & (queue_labels >= 0) & (queue_labels != labels[i][:, None])
    candidates = others & (negative > positive) & (negative < positive + margin)
    counts = candidates.sum(1, keepdim=True)
    lacking = counts == 0
    if without_semi_hard == "random":
        candidates = torch.where(lacking, others, candidates)
        counts = candidates.sum(1, keepdim=True)
    place = torch.arange(draws.shape[1], device=labels.device)
    # In double precision u c is below c for every u below 1.
    ranks = torch.where(lacking & (counts <= len(place)), place, (draws.double() * counts).long())
    return Triplets(i, j, _of_rank(candidates, ranks), place < counts)


def _rows_to_look_at(same: torch.Tensor) -> torch.Tensor:
    """Of pairs of samples (N,), the rows of those of one class: same (N,) bool -> int.

    On a GPU all rows: to count the others would wait for it.  A pair of two classes has no negatives.
    """
    return same.nonzero()[:, 0] if same.device.type == "cpu" else torch.arange(len(same), device=same.device)


def _of_rank(candidates: torch.Tensor, ranks: torch.Tensor) -> torch.Tensor:
    """The columns of the r-th candidates, from 0: candidates (P, M) bool, ranks (P, k) -> (P, k) int.

    Where a row has fewer candidates, the column is any.  Searching in the counted candidates would take three times as
    long as this table of them.
    """
    count, columns = candidates.shape
    place = torch.where(candidates, candidates.cumsum(1, dtype=torch.int32), 0).long()  # from 1; at 0 what is none
    table = torch.zeros(count, columns + 1, dtype=torch.long, device=candidates.device)
    table.scatter_(1, place, torch.arange(columns, device=candidates.device).expand(count, -1))
    return table.gather(1, (ranks + 1).clamp(max=columns))


def queue_triplet_loss(
    to_keys: torch.Tensor, to_queue: torch.Tensor, triplets: Triplets, margin: float
) -> torch.Tensor:
    """max(0, D(q_i, k_j) - D(q_i, m) + margin), averaged over the triplets; 0 where there is none.

    to_keys (B, B), to_queue (B, M) as in `momentum_triplets` -> scalar
    Source: `losses.py` of EISNet.
    """
    anchors, positives, negatives, drawn = triplets
    positive = to_keys[anchors, positives][:, None]
    negative = to_queue.index_select(0, anchors).gather(1, negatives)
    return (positive - negative + margin).clamp(min=0).where(drawn, 0).sum() / drawn.sum().clamp(min=1)


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Parameters of the momentum network: momentum slow + (1 - momentum) fast, in place.

    Buffers stay: as in EISNet's code, its batch normalisation keeps the statistics that it began with.
    """
    for of_slow, of_fast in zip(slow.parameters(), fast.parameters()):
        of_slow.lerp_(of_fast, 1 - momentum)


class EISNet(Method):
    @dataclass(frozen=True)
    class Options:
        # Values of mvp18/UCDR and of EISNet's run on PACS; the defaults of EISNet's options are a margin of 0.2, 5
        # negatives, a queue of 4,096 and a weight of 0.1.
        weight_jigsaw: Weight = 0.7
        weight_triplet: Weight = 0.5
        jigsaw_share: Share = 0.1  # of the samples get one of 31 orders; the first shows the picture as it is
        margin: Weight = 2.0
        negatives: Count = 256  # of a pair, at most
        queue: Count = 1024
        momentum: Share = 0.999  # both codes write it into the function
        # A pair without a semi-hard negative: UCDR draws from all negatives, EISNet drops it (and stops with an error
        # where none is left).
        without_semi_hard: Literal["random", "drop"] = "random"
        temperature: Positive = 1.0  # SnMpNet's cosine cross-entropy, which has none
        distance: Literal["euclidean", "cosine"] = "euclidean"
        adapter_rank: Width = 32  # frozen regime only

    uses_class_vectors = True
    wants_jigsaw = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        self.features = Encoder(upper, channels, options.adapter_rank)  # g (B, channels)
        self.semantic = nn.Linear(channels, class_vectors.shape[1])
        self.jigsaw = nn.Linear(channels, 31)
        self.metric = nn.Linear(channels, 128)
        self.slow = copy.deepcopy(nn.Sequential(self.features, self.metric)).requires_grad_(False).eval()
        self.register_buffer("keys", torch.zeros(options.queue, 128))
        self.register_buffer("key_labels", torch.full((options.queue,), -1))

    def train(self, mode: bool = True) -> EISNet:
        super().train(mode)
        self.slow.eval()
        return self

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.semantic(self.features(inputs))

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        options, labels = self.options, batch.labels
        shuffled = to_device(draw_shuffled(len(labels), options.jigsaw_share, random), labels.device)
        tiles = torch.where(shuffled.view(-1, *[1] * (batch.inputs.ndim - 1)), batch.jigsaw_inputs, batch.inputs)
        g = self.features(tiles)
        class_logits = cosine_logits(self.semantic(g), self.class_vectors, options.temperature)
        with torch.no_grad():
            keys = functional.normalize(self.slow(batch.inputs), dim=1)
            self.keys, self.key_labels = enqueue(self.keys, keys), enqueue(self.key_labels, labels)
        anchors = functional.normalize(self.metric(g), dim=1)
        to_keys, to_queue = squared_distances(anchors, keys), squared_distances(anchors, self.keys)
        draws = to_device(draws_of_batch(len(labels), options.negatives, random), labels.device)
        triplets = momentum_triplets(
            to_keys, to_queue, labels, self.key_labels, options.margin, draws, options.without_semi_hard
        )
        triplet = queue_triplet_loss(to_keys, to_queue, triplets, options.margin)
        orders = torch.where(shuffled, batch.jigsaw_labels, 0)
        return self.weighted(class_logits, labels, self.jigsaw(g), orders, triplet)

    def weighted(
        self,
        class_logits: torch.Tensor,
        labels: torch.Tensor,
        jigsaw_logits: torch.Tensor,
        orders: torch.Tensor,
        triplet: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """class_logits (B, C), labels (B,), jigsaw_logits (B, 31), orders (B,) in 0..30, triplet scalar -> terms."""
        return {
            "ce": functional.cross_entropy(class_logits, labels),
            "jigsaw": self.options.weight_jigsaw * functional.cross_entropy(jigsaw_logits, orders),
            "triplet": self.options.weight_triplet * triplet,
        }

    def after_step(self) -> None:
        follow(self.slow, nn.Sequential(self.features, self.metric), self.options.momentum)
