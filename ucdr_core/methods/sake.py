"""SAKE: semantic-aware knowledge preservation (Liu, Xie, Wang, Yuille, ICCV 2019).

One network for sketches and photos, told by an indicator which of the two it sees; a linear layer to D dimensions, from
there a linear layer to the seen classes and one to the 1,000 ImageNet classes, which is taught by the network as it was
before training.  Retrieval by Euclidean distance of unit features, which ranks as the cosine does.  Source: the paper's
text as SnMpNet's authors re-ran it, and the public code qliu24/SAKE.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ucdr_core.device import share_of_batch, to_device
from ucdr_core.methods.base import Batch, Encoder, Method, pooled


class Indicator:
    """Which samples of the batch are photos; set before the network runs."""

    photos: torch.Tensor | None = None  # (B, 1)


class ConditionedSqueeze(nn.Module):
    """The first layer of a squeeze-and-excitation block, which sees the indicator as one more input.

    The indicator's weights start at 0.
    """

    def __init__(self, squeeze: nn.Conv2d, indicator: Indicator):
        super().__init__()
        self.squeeze, self.indicator = squeeze, indicator
        self.weight = nn.Parameter(torch.zeros(squeeze.out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.squeeze(x) + (share_of_batch(self.indicator.photos, len(x)).to(x) * self.weight)[:, :, None, None]


class ConditionedExcitation(nn.Module):
    """A squeeze-and-excitation block on the pooled feature: where the trunk has none of its own that is trained.

    g (B, C) -> g * 2 sigmoid(W_2 relu(W_1 [g, indicator])), at the start g itself.
    """

    def __init__(self, channels: int, indicator: Indicator, reduction: int = 16):
        super().__init__()
        self.indicator = indicator
        self.squeeze = nn.Linear(channels + 1, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)
        nn.init.zeros_(self.squeeze.weight[:, -1])
        nn.init.zeros_(self.excite.weight)
        nn.init.zeros_(self.excite.bias)

    def forward(self, g: torch.Tensor) -> torch.Tensor:
        squeezed = functional.relu(self.squeeze(torch.cat([g, self.indicator.photos.to(g)], dim=1)))
        return g * 2 * self.excite(squeezed).sigmoid()


class SAKE(Method):
    @dataclass(frozen=True)
    class Options:
        dim: int = 512  # D (64 or 512)
        indicator: bool = True  # False: "w/o label"
        weight_teacher: float = 1.0  # lambda_SAKE
        # The teacher's logits are shifted by this times the WordNet similarity of the sample's class to each ImageNet
        # class: .3 in the code.  0 unless WordNet is installed; see `semantics.imagenet_similarity`.
        weight_similarity: float = 0.0
        adapter_rank: int = 32  # frozen regime only

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
        blocks = [m for m in upper.modules() if type(m).__name__ == "SEModule"]
        self.excitation = nn.Identity()
        if options.indicator and blocks:
            for block in blocks:
                block.fc1 = ConditionedSqueeze(block.fc1, self.indicator)
        elif options.indicator:
            self.excitation = ConditionedExcitation(channels, self.indicator)
        self.encoder = Encoder(upper, channels, options.adapter_rank)
        self.project = nn.Linear(channels, options.dim)
        self.classifier = nn.Linear(options.dim, len(class_vectors))
        self.student = nn.Linear(options.dim, len(teacher.weight))
        # The projection and the student's head start as the best factors of rank D of the ImageNet classifier.
        u, s, v = torch.linalg.svd(self.teacher_weight.double(), full_matrices=False)
        # The decomposition leaves the signs open, and processors differ.
        sign = v.gather(1, v.abs().argmax(1, keepdim=True)).sign()
        u, v, rank = u * sign.T, v * sign, min(options.dim, len(s))
        with torch.no_grad():
            self.project.weight[:rank] = v[:rank].to(self.project.weight)
            self.student.weight[:, :rank] = (u * s)[:, :rank].to(self.student.weight)
            self.student.bias.copy_(self.teacher_bias)

    def hidden(self, inputs: torch.Tensor, photos: torch.Tensor) -> torch.Tensor:
        """(B, D), before it is scaled to length 1."""
        self.indicator.photos = to_device(photos[:, None].numpy(), inputs.device)
        return self.project(self.excitation(self.encoder(inputs)))

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return functional.normalize(self.hidden(inputs, photos), dim=1)

    def teacher_logits(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(B, 1000) of the network before training, shifted towards what the class is like."""
        with torch.no_grad():
            before = self.before.to(inputs.device, inputs.dtype).eval()
            logits = functional.linear(pooled(before(inputs)), self.teacher_weight, self.teacher_bias)
        return logits if self.similarity is None else logits + self.options.weight_similarity * self.similarity[labels]

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        h = self.hidden(batch.inputs, batch.photos)
        terms = {"ce": functional.cross_entropy(self.classifier(h), batch.labels)}
        if self.options.weight_teacher and batch.photos.any():  # photos only: the teacher never saw a sketch
            photos = to_device(batch.photos.nonzero()[:, 0].numpy(), h.device)
            target = self.teacher_logits(batch.inputs[photos], batch.labels[photos]).softmax(1)
            terms["teacher"] = self.options.weight_teacher * functional.cross_entropy(self.student(h[photos]), target)
        return terms
