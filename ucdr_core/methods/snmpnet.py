"""SnMpNet: semantic neighbourhood and mixture prediction network (Paul, Dutta, Biswas, ICCV 2021).

One branch for all domains: trunk, spatial attention, average pooling -> g; a mixture prediction head W_mp on g; a
semantic layer W_s -> f in the space of the class vectors.  Retrieval by Euclidean distance between the f.  Equation
numbers are the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from ucdr_core.methods.base import Batch, Encoder, Method
from ucdr_core.methods.losses import Mixing, cosine_logits, draw_mixing, mixed_cross_entropy, mixing_schedule


def neighbourhood_loss(
    f: torch.Tensor, mixed_vectors: torch.Tensor, class_vectors: torch.Tensor, kappa: float, form: str = "paper"
) -> torch.Tensor:
    """Semantic neighbourhood loss: f should be as far from each class vector as its own (mixed) class vector is.

    f (B, D), mixed_vectors a~ (B, D), class_vectors a_k (C, D), kappa >= 0 -> scalar.
        d_k = |f - a_k|,  d~_k = |a~ - a_k|,  w_k = exp(-kappa d~_k / max_j d~_j)                  equations 1, 2, 9
    form "paper": sum_k (w_k (d_k - d~_k))^2, the squared norm of the weighted difference, averaged over the batch
    form "code":  w_k (d_k - d~_k)^2 averaged over classes too (mvp18/UCDR): half the kappa, and smaller by the number
    of classes
    """
    squares = (f[:, None] - class_vectors).square().sum(2)
    distance = squares.clamp(min=1e-12).sqrt()  # (B, C); the gradient of the root at 0 is infinite
    target = torch.cdist(mixed_vectors, class_vectors, compute_mode="donot_use_mm_for_euclid_dist")  # (B, C)
    weight = torch.exp(-kappa * target / target.max(1, keepdim=True).values)
    if form == "paper":
        return (weight * (distance - target)).square().sum(1).mean()
    return (weight * (distance - target).square()).mean()


class SnMpNet(Method):
    @dataclass(frozen=True)
    class Options:
        lambda_sn: float = 1.0  # weight of the semantic neighbourhood loss, equation 10
        lambda_mp: float = 1.0  # weight of the mixture prediction loss, equation 10
        kappa: float = 2.0  # equation 2; 0 weights all classes alike
        mixing: bool = True  # False: samples are not mixed (Base N/W)
        beta: float = 1.0  # r ~ Beta(beta, beta), equation 3; 2 in the code where QuickDraw is held out
        mixup_step: int = 2  # epochs per stage of the mixing schedule; 0: always across domains with the full beta
        temperature: float = 1.0  # of the cosine softmax, equation 6; the paper and the code have none
        sn_form: Literal["paper", "code"] = "paper"
        # code: both on g; the paper's text can be read as W_s on the output of W_mp
        heads: Literal["parallel", "serial"] = "parallel"
        distance: Literal["euclidean", "cosine"] = "euclidean"
        adapter_rank: int = 32  # frozen regime only

    uses_class_vectors = True
    wants_positions = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        classes, dimension = class_vectors.shape
        self.features = Encoder(upper, channels, options.adapter_rank, attention=True)  # g (B, channels)
        self.mixture = nn.Linear(channels, classes)  # W_mp
        self.semantic = nn.Linear(channels if options.heads == "parallel" else classes, dimension)  # W_s

    def heads(self, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixture logits (B, C) and f (B, D)."""
        logits = self.mixture(g)
        return logits, self.semantic(g if self.options.heads == "parallel" else logits)

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return self.heads(self.features(inputs))[1]

    def losses(self, batch: Batch, random) -> dict[str, torch.Tensor]:
        options, a = self.options, self.class_vectors
        if options.mixing:
            beta, gamma = mixing_schedule(batch.epoch, options.beta, options.mixup_step)
            mixing = draw_mixing(batch.domains, beta, gamma, random, batch.inputs)
        else:
            count = len(batch.labels)
            mixing = Mixing(torch.arange(count, device=a.device), torch.ones(count, dtype=a.dtype, device=a.device))
        x = mixing.of(batch.inputs) if options.mixing else batch.inputs  # equation 3
        mixture_logits, f = self.heads(self.features(x))
        # Equations 6 to 8: cosine to every class vector, cross-entropy to both components.
        terms = {"ce": mixed_cross_entropy(cosine_logits(f, a, options.temperature), batch.labels, mixing)}
        if options.lambda_sn:
            mixed_vectors = mixing.of(a[batch.labels])  # equation 9
            terms["sn"] = options.lambda_sn * neighbourhood_loss(f, mixed_vectors, a, options.kappa, options.sn_form)
        if options.lambda_mp:
            # Equations 4 and 5: the share of each component class, whatever the domains.
            terms["mp"] = options.lambda_mp * mixed_cross_entropy(mixture_logits, batch.labels, mixing)
        return terms
