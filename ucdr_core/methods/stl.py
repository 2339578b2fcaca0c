"""STL: semi-transductive learning for generalised zero-shot SBIR (Ge et al., AAAI 2023).

Two trunks with attention, one for sketches and one for photos, into one shared multi-layer perceptron -> v; a shared
linear layer zeta on v is compared with class prototypes made from word vectors of all classes, seen and unseen.
Trained on triplets, on the labels of seen samples, and on photos of unseen classes without their labels: **all photos
of unseen classes in the test gallery are training data**, and the names of these classes are known.  Retrieval by
cosine on v.  Equation numbers are the paper's; there is no public code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.device import to_device
from ucdr_core.methods.backbones import SpatialAttention
from ucdr_core.methods.base import Batch, FullyConnected, Method, Sides, shared_adapter
from ucdr_core.methods.losses import cosine_distance, dropout, triplet_loss
from ucdr_core.options import OptionError, Positive, Range, ShareBelow1, Weight, Width


def calibration_loss(probabilities: torch.Tensor, seen: int, margin: float) -> torch.Tensor:
    """max(0, delta + max over seen classes - max over unseen classes), averaged over unlabelled photos.

    Equations 11 and 16.

    probabilities (U, C), seen classes first -> scalar in [0, 1 + delta]
    """
    return (margin + probabilities[:, :seen].max(1).values - probabilities[:, seen:].max(1).values).clamp(min=0).mean()


def photo_triplets(
    labels: torch.Tensor, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Anchors, positives and negatives (T,) among photos with these labels (B,).

    One triplet for each photo that has another of its class; both partners are drawn from the batch.
    """
    values = labels.cpu().numpy()
    same = values[:, None] == values
    np.fill_diagonal(same, False)
    anchors = np.flatnonzero(same.any(1) & (values[:, None] != values).any(1))

    def drawn(allowed: np.ndarray) -> np.ndarray:
        return np.where(allowed, random.random(allowed.shape), -1).argmax(1)

    positives, negatives = drawn(same[anchors]), drawn(values[anchors, None] != values)
    return tuple(to_device(rows, labels.device) for rows in (anchors, positives, negatives))


class Trunk(nn.Module):
    """Trained part of the trunk and attention.

    inputs (B, ...) -> flattened map of positions x positions, (B, channels positions^2)
    """

    def __init__(self, upper: nn.Module, channels: int, positions: int, adapter_rank: int):
        super().__init__()
        self.upper, self.attention, self.positions = upper, SpatialAttention(channels), positions
        self.adapter = shared_adapter(upper, channels * positions**2, adapter_rank)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        maps = self.upper(inputs)
        if self.positions == 1:  # the same, without making the attended map
            return self.adapter(self.attention.pooled(maps))
        return self.adapter(functional.adaptive_avg_pool2d(self.attention(maps), self.positions).flatten(1))


class STL(Method):
    @dataclass(frozen=True)
    class Options:
        dim: Width = 1024  # of v
        prototype_dim: Width = 300  # d', not given in the paper
        hidden: Width = 4096  # the shared layers are those of VGG-16
        positions: Annotated[int, Range(1, 14)] = 7  # side of the map that is flattened into them
        dropout: ShareBelow1 = 0.5
        # What sketches and photos share: the layers after the trunks; nothing; all.
        network: Literal["semi", "separate", "shared"] = "semi"
        margin: Weight = 0.1  # Delta, equation 3
        scale: Positive = 10.0  # lambda, equation 5
        temperature: Positive = 15.0  # gamma, equation 8: 15 to 20
        calibration: Positive = 0.01  # delta, equation 11
        weight_semantic: Weight = 0.5  # omega_1, equation 13; 0: no prototypes
        weight_calibration: Weight = 0.1  # omega_2: .1 Sketchy, .5 TU-Berlin; 0: inductive, no unlabelled photo is used
        # photos: photos, the pseudo-labelled ones too, may be anchors as well
        anchors: Literal["sketches", "photos"] = "sketches"
        # Whose prototypes the softmax has, equation 8: of all classes (the paper), or of the seen ones alone.
        names: Literal["all", "seen"] = "all"
        distance: Literal["euclidean", "cosine"] = "cosine"
        fully_connected: bool = False  # the shared layers start as VGG-16's own (ImageNet)
        adapter_rank: Width = 32  # frozen regime only

    wants_layers = True
    batches = "triplets"
    uses_class_vectors = True
    wants_positions = True
    wants_unlabelled = True
    transductive = True

    def __init__(
        self,
        upper: nn.Module,
        channels: int,
        class_vectors: torch.Tensor,
        options: Options,
        unseen_vectors: torch.Tensor,
        layers: FullyConnected | None = None,
    ):
        super().__init__(upper, channels, class_vectors, options)
        self.wants_unlabelled = self.transductive = options.weight_calibration > 0
        if options.names == "seen" and self.wants_unlabelled:
            raise OptionError(
                "stl: calibration compares the names of seen and of unseen classes; set weight_calibration to 0 where "
                "names is 'seen'"
            )
        self.register_buffer("unseen_vectors", unseen_vectors if options.names == "all" else unseen_vectors[:0])
        trunk = Trunk(upper, channels, options.positions, options.adapter_rank)
        widths = [channels * options.positions**2, options.hidden, options.hidden, options.dim]
        mlp = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths, widths[1:]))
        if layers is not None:
            if widths[:3] != [channels * FullyConnected.POSITIONS**2, layers.width, layers.width]:
                raise OptionError(
                    f"stl: fully_connected needs positions {FullyConnected.POSITIONS} and hidden {layers.width}, "
                    "those of VGG-16"
                )
            for layer, pretrained in zip(mlp, layers.layers):
                layer.load_state_dict(pretrained.state_dict())
        self.trunk = Sides(trunk, shared=options.network == "shared")
        self.mlp = nn.ModuleList(Sides(layer, shared=options.network != "separate") for layer in mlp)
        self.zeta = nn.Linear(options.dim, options.prototype_dim)
        self.prototype = nn.Linear(class_vectors.shape[1], options.prototype_dim, bias=False)  # W

    def visual(
        self, inputs: torch.Tensor, photos: torch.Tensor, random: np.random.Generator | None = None
    ) -> torch.Tensor:
        """v (B, dim): phi of sketches, psi of photos; a generator asks for dropout."""
        x = self.trunk(inputs, photos)
        for layer in self.mlp[:-1]:
            x = functional.relu(layer(x, photos))
            x = dropout(x, self.options.dropout, random) if random is not None else x
        return self.mlp[-1](x, photos)

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.visual(inputs, photos)

    def log_probabilities(self, v: torch.Tensor) -> torch.Tensor:
        """log P_c(v), (B, C), seen classes first, and alone where only their names are known.  Equations 5 to 8."""
        e = torch.cat([self.class_vectors, self.unseen_vectors])
        h = self.options.scale * functional.normalize(self.prototype(e), dim=1)
        scores = functional.normalize(self.zeta(v), dim=1) @ h.T
        return (self.options.temperature * scores).log_softmax(1)

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        options, seen, labels = self.options, len(self.class_vectors), batch.labels
        v = self.visual(batch.inputs, batch.photos, random)
        size = len(v) // (4 if self.wants_unlabelled else 3)
        anchors, positives, negatives, *unlabelled = v.split(size)
        to_positive, to_negative = [cosine_distance(anchors, positives)], [cosine_distance(anchors, negatives)]
        terms = {}
        if self.wants_unlabelled:
            p = self.log_probabilities(unlabelled[0]).exp()
            terms["calibration"] = options.weight_calibration * calibration_loss(p, seen, options.calibration)
            if options.anchors == "photos":
                pseudo = p[:, seen:].argmax(1) + seen  # equation 12
                known = torch.cat([labels[size : 2 * size], labels[2 * size : 3 * size], pseudo])
                of = v[size:][known >= 0]
                a, b, c = photo_triplets(known[known >= 0], random)
                to_positive.append(cosine_distance(of[a], of[b]))
                to_negative.append(cosine_distance(of[a], of[c]))
        terms["rank"] = triplet_loss(torch.cat(to_positive), torch.cat(to_negative), options.margin)
        if options.weight_semantic:
            # Equations 9 (its minus sign is lost in the paper) and 15: seen sketches and photos; -1 marks the
            # unlabelled.
            log_p = self.log_probabilities(v[: 3 * size])
            loss = functional.nll_loss(log_p, labels[: 3 * size], ignore_index=-1)
            terms["semantic"] = options.weight_semantic * loss
        return terms
