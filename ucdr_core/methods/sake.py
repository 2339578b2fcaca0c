"""SAKE: semantic-aware knowledge preservation (Liu, Xie, Wang, Yuille, ICCV 2019).

One network for sketches and photos, told by an indicator which of the two it sees; a linear layer to D dimensions, from
there a layer to the seen classes and one to the 1,000 ImageNet classes, which is taught by the network as it was before
training.  Retrieval by Euclidean distance of unit features, which ranks as the cosine does.  Source: the public code
qliu24/SAKE, and for SnMpNet's rerun mvp18/UCDR.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from ucdr_core.device import share_of_batch, to_device
from ucdr_core.methods.base import Batch, Encoder, Method, pooled
from ucdr_core.options import Weight, Width


class Indicator:
    """Which samples of the batch are photos; set before the network runs."""

    photos: torch.Tensor | None = None  # (B, 1), 0 for a sketch, 1 for a photo


class ConditionedLayer(nn.Module):
    """The second layer of a squeeze-and-excitation block, which sees the indicator as one more input, the last.

    h (B, C/r, ...), after the first layer's ReLU -> (B, C, ...).  The indicator's weights start at 0.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, indicator: Indicator):
        super().__init__()
        self.layer, self.indicator = layer, indicator
        self.weight = nn.Parameter(layer.weight.new_zeros(len(layer.weight)))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        indicator = share_of_batch(self.indicator.photos, len(h)).to(h)
        return self.layer(h) + (indicator * self.weight).view(len(h), -1, *[1] * (h.ndim - 2))


class PooledExcitation(nn.Module):
    """A squeeze-and-excitation block on the pooled feature: where the trunk has none of its own that is trained.

    g (B, C) -> g * 2 sigmoid(W_2 relu(W_1 g)), at the start g itself.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, g: torch.Tensor) -> torch.Tensor:
        return g * 2 * self.fc2(functional.relu(self.fc1(g))).sigmoid()


def excitations(network: nn.Module) -> list[nn.Module]:
    """The squeeze-and-excitation blocks of timm's SE-ResNets: layers fc1 and fc2."""
    return [module for module in network.modules() if type(module).__name__ == "SEModule"]


def condition(blocks: list[nn.Module], indicator: Indicator) -> None:
    """Lets the indicator into the second layer of each squeeze-and-excitation block."""
    for block in blocks:
        block.fc2 = ConditionedLayer(block.fc2, indicator)


def start_as_classifier(project: nn.Linear, student: nn.Linear, weight: torch.Tensor) -> None:
    """Projection S_h V_h' and student U_h: their product is the best of rank h to the ImageNet classifier W = U S V'.

    project (channels -> h), student (h -> 1,000), weight (1,000, channels).  Biases stay as they were drawn; the
    classifier's own is thrown away, as in the code.
    """
    u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)
    # The decomposition leaves the signs open, and processors differ.
    sign = v.gather(1, v.abs().argmax(1, keepdim=True)).sign()
    u, v, rank = u * sign.T, v * sign, min(project.out_features, len(s))
    with torch.no_grad():
        project.weight[:rank] = (s[:, None] * v)[:rank].to(project.weight)
        student.weight[:, :rank] = u[:, :rank].to(student.weight)


class EuclideanMargin(nn.Module):
    """Logits -||h - c_k|| from a learned centre c_k of each class: (B, D) -> (B, C)."""

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(classes, dim))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return -torch.cdist(h, self.centres)


def margin_of(epoch: int) -> float:
    """m of the Euclidean-margin softmax: 1, from epoch 20 on 2, from epoch 25 on 4; a run of 20 epochs keeps to 1."""
    return 2.0 ** ((epoch >= 20) + (epoch >= 25))


def margin_loss(logits: torch.Tensor, labels: torch.Tensor, m: float = 1.0) -> torch.Tensor:
    """Mean cross-entropy after the label's logit was multiplied by m: (B, C), (B,) -> scalar."""
    factor = torch.ones_like(logits).scatter(1, labels[:, None], m)
    return functional.cross_entropy(factor * logits, labels)


def preservation_loss(
    student: torch.Tensor, teacher: torch.Tensor, shift: torch.Tensor | float = 0.0, scale: float = 1.0
) -> torch.Tensor:
    """Mean cross-entropy of the student's answers to softmax(scale * teacher + shift); scalar.

    student, teacher, shift (B, 1000): logits of photos, and what their classes are like among ImageNet's
    """
    return functional.cross_entropy(student, (scale * teacher + shift).softmax(1))


class SAKE(Method):
    @dataclass(frozen=True)
    class Options:
        dim: Width = 512  # D; the code trains with 512, and its test script expects 64
        indicator: bool = True  # False: "w/o label"
        # Of the projection and the student: "svd" is SAKE's.  "random": UCDR's network w/o label has lost it.
        start: Literal["svd", "random"] = "svd"
        # "margin": Euclidean-margin softmax, an option of the code that is off there and on in UCDR's options.
        classifier: Literal["linear", "margin"] = "linear"
        weight_teacher: Weight = 1.0  # lambda_SAKE
        teacher_scale: Weight = 1.0  # lambda_KD, of the teacher's logits
        # Of the WordNet similarity of the sample's class to each ImageNet class, which is added to the teacher's
        # logits; 0 does without WordNet.
        weight_similarity: Weight = 0.3
        adapter_rank: Width = 32  # frozen regime only

    distance = "cosine"
    wants_teacher = True

    def __init__(
        self,
        upper: nn.Module,
        channels: int,
        class_vectors: torch.Tensor,
        options: Options,
        teacher: nn.Linear,
        similarity: torch.Tensor | None = None,
    ):
        super().__init__(upper, channels, class_vectors, options)
        # What the network knew before training; it is not trained, nor kept with the weights.
        object.__setattr__(self, "before", copy.deepcopy(upper).requires_grad_(False))
        self.register_buffer("teacher_weight", teacher.weight.detach().to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("teacher_bias", teacher.bias.detach().to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("similarity", similarity, persistent=False)
        object.__setattr__(self, "indicator", Indicator())
        blocks = excitations(upper)
        self.excitation = nn.Identity() if blocks else PooledExcitation(channels)
        if options.indicator:
            condition(blocks or [self.excitation], self.indicator)
        self.encoder = Encoder(upper, channels, options.adapter_rank)
        self.project = nn.Linear(channels, options.dim)
        of_classes = EuclideanMargin if options.classifier == "margin" else nn.Linear
        self.classifier = of_classes(options.dim, len(class_vectors))
        self.student = nn.Linear(options.dim, len(teacher.weight))
        if options.start == "svd":
            start_as_classifier(self.project, self.student, self.teacher_weight)

    def hidden(self, inputs: torch.Tensor, photos: torch.Tensor) -> torch.Tensor:
        """(B, D), before it is scaled to length 1."""
        self.indicator.photos = to_device(photos[:, None].numpy(), inputs.device)
        return self.project(self.excitation(self.encoder(inputs)))

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return functional.normalize(self.hidden(inputs, photos), dim=1)

    def teacher_logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, 1000) of the network before training."""
        with torch.no_grad():
            before = self.before.to(inputs.device, inputs.dtype).eval()
            return functional.linear(pooled(before(inputs)), self.teacher_weight, self.teacher_bias)

    def shift(self, labels: torch.Tensor) -> torch.Tensor | float:
        """(B, 1000), what the teacher's logits are shifted by; 0 where there is no similarity."""
        return 0.0 if self.similarity is None else self.options.weight_similarity * self.similarity[labels]

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        options, h = self.options, self.hidden(batch.inputs, batch.photos)
        m = margin_of(batch.epoch) if options.classifier == "margin" else 1.0
        terms = {"ce": margin_loss(self.classifier(h), batch.labels, m)}
        if options.weight_teacher and batch.photos.any():  # photos only: the teacher never saw a sketch
            photos = to_device(batch.photos.nonzero()[:, 0].numpy(), h.device)
            teacher, shift = self.teacher_logits(batch.inputs[photos]), self.shift(batch.labels[photos])
            terms["teacher"] = options.weight_teacher * preservation_loss(
                self.student(h[photos]), teacher, shift, options.teacher_scale
            )
        return terms
