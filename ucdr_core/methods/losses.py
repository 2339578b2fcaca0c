"""Loss terms, gradient reversal, dropout, and the mixing of samples that several methods share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.device import to_device


def cosine_logits(f: torch.Tensor, class_vectors: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """cos(f, a_k) / temperature: f (B, D), class_vectors (C, D) -> (B, C).

    SnMpNet, equation 6, whose temperature is 1.
    """
    return functional.normalize(f, dim=1) @ functional.normalize(class_vectors, dim=1).T / temperature


@dataclass(frozen=True)
class Mixing:
    """Partner and share of each sample of a batch: x~ = r x_i + (1 - r) x_j."""

    partner: torch.Tensor  # (B,) int, j
    r: torch.Tensor  # (B,) in [0, 1]

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """(B, ...) -> (B, ...) mixed.  SnMpNet, equation 3."""
        r = self.r.view(-1, *[1] * (values.ndim - 1))
        return torch.lerp(values[self.partner], values, r)

    def of_labels(self, labels: torch.Tensor, classes: int) -> torch.Tensor:
        """The share of each class in a mixed sample, r e_{y_i} + (1 - r) e_{y_j}: labels (B,) -> (B, C).

        SnMpNet, equation 4; a partner of the same class adds to its share.
        """
        return self.of(one_hot(labels, classes, self.r.dtype))


@dataclass(frozen=True)
class MixingDraws:
    """What is drawn to mix a batch of B samples, in blocks of B / n, one for each of n domains.

    Source: trainer of mvp18/UCDR, after mancinimassimiliano/CuMix.
    """

    within: np.ndarray  # (B,) bool, True: the partner is of the sample's own domain
    swaps: np.ndarray  # (n - 1,) int, see `derangement`
    places_within: np.ndarray  # (n, B / n) int, each row a permutation: places of the partners in their own block
    places_across: np.ndarray  # (n, B / n) int, each row a permutation: places of the partners in another block
    r: np.ndarray  # (B,) in [0, 1]

    @property
    def partner(self) -> np.ndarray:
        """(B,) int: all partners of a block are of one block, its own or that which the derangement names."""
        blocks, size = self.places_within.shape
        own, other = (block[:, None] * size for block in (np.arange(blocks), derangement(self.swaps)))
        return np.where(self.within, (own + self.places_within).ravel(), (other + self.places_across).ravel())

    def mixing(self, like: torch.Tensor) -> Mixing:
        """The mixing on the device of `like`, with r of its type."""
        return Mixing(to_device(self.partner, like.device), to_device(self.r, like.device, like.dtype))


def derangement(swaps: np.ndarray) -> np.ndarray:
    """One cycle through all n, so that none keeps its place: (n,) int.

    swaps   (n - 1,) int, the a-th (from a = 1) in 0..a-1: with which place the a-th place is swapped.  Uniform draws
            make every cycle as likely (Sattolo's algorithm).
    """
    order = np.arange(len(swaps) + 1)
    for a, k in enumerate(swaps, start=1):
        order[[a, k]] = order[[k, a]]
    return order


def mixing_schedule(epoch: int, beta: float, step: int) -> tuple[float, float]:
    """(beta of this epoch, probability gamma that the partner has the sample's own domain).

    Epochs 0 to s mix within domains, up to epoch 2s ever more across them, then only across; s = step.
    Source: options and trainer of mvp18/UCDR, after mancinimassimiliano/CuMix.
    """
    if step <= 0:
        return beta, 0.0
    return min(beta, max(beta * epoch / step, 0.1)), float(np.clip((2 * step - epoch) / step, 0, 1))


def draw_mixing(
    domains: torch.Tensor, beta: float, gamma: float, random: np.random.Generator, like: torch.Tensor
) -> Mixing:
    """Partners for a batch whose domains (B,), on the CPU, stand in blocks of equal size.

    r ~ Beta(beta, beta) per sample; the partner is of the sample's domain with probability gamma, else of another one,
    which a random cycle through the domains names for the whole batch.  The result is on the device of `like`, and r
    of its type.  Raises ValueError where the blocks are not of equal size.
    """
    sizes = torch.unique_consecutive(domains, return_counts=True)[1].tolist()
    count, blocks, size = len(domains), len(sizes), max(sizes, default=0)
    if len(set(sizes)) > 1:
        raise ValueError(
            f"a batch of {count} samples does not divide into {blocks} equal blocks, one per domain; methods that mix "
            "need recipe.photo_share 0"
        )
    within = random.random(count) < gamma
    swaps = np.array([random.integers(a) for a in range(1, blocks)], int)
    places = [np.stack([random.permutation(size) for _ in range(blocks)]) for _ in range(2)]
    return MixingDraws(within, swaps, *places, random.beta(beta, beta, count)).mixing(like)


def one_hot(labels: torch.Tensor, classes: int, dtype: torch.dtype) -> torch.Tensor:
    """labels (B,) -> (B, C), 1 at the label."""
    return torch.eye(classes, dtype=dtype, device=labels.device)[labels]


def soft_cross_entropy(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """- sum_k t_k log softmax(logits)_k, averaged over the batch: logits (B, C), shares t (B, C) -> scalar.

    With the shares of a mixed sample, r l(., y_i) + (1 - r) l(., y_j).  SnMpNet, equations 5 and 8.
    """
    return -(shares * logits.log_softmax(1)).sum(1).mean()


def classification_loss(classifier: nn.Module, labels: torch.Tensor, *features: torch.Tensor) -> torch.Tensor:
    """The sum over features (B, D) of the mean cross-entropy of the classifier's logits to labels (B,); scalar."""
    return sum(functional.cross_entropy(classifier(f), labels) for f in features)


def triplet_loss(positive: torch.Tensor, negative: torch.Tensor, margin: float) -> torch.Tensor:
    """max(0, margin + d(a, p) - d(a, n)), averaged over triplets.

    positive, negative (T,): distances of the anchors to their positives and to their negatives -> scalar
    Doodle to Search, equation 1 (Euclidean distances); STL, equations 3 and 14 (cosine distances).
    """
    return (margin + positive - negative).clamp(min=0).mean()


def cosine_distance(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """1 - cos(u, v): (B, D), (B, D) -> (B,) in [0, 2].  STL, equation 4."""
    return 1 - functional.cosine_similarity(u, v, dim=1)


def cosine_loss(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """1 - cos(u, v), averaged over the batch: (B, D), (B, D) -> scalar in [0, 2]."""
    return cosine_distance(u, v).mean()


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(context, x: torch.Tensor, strength: float) -> torch.Tensor:
        context.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient: torch.Tensor):
        return -context.strength * gradient, None


def reverse_gradient(x: torch.Tensor, strength: float) -> torch.Tensor:
    """x forwards; backwards the gradient times -strength.

    Ganin and Lempitsky (ICML 2015); Doodle to Search, section 4.3.
    """
    return _Reverse.apply(x, strength)


def dropout(x: torch.Tensor, share: float, random: np.random.Generator) -> torch.Tensor:
    """Each value is 0 with probability `share`, else divided by 1 - share; call it in training only.

    torch's own draws other masks on an Intel than on an AMD processor from the same seed (MKL's generator), so that no
    two machines would print the same table.
    """
    if not share:
        return x
    kept = to_device(random.random(tuple(x.shape)) >= share, x.device, x.dtype)
    return x * kept / (1 - share)


def standard_normal(like: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Independent N(0, 1) values of the shape, type and device of `like`; NumPy's (see `dropout`)."""
    return to_device(random.standard_normal(tuple(like.shape)), like.device, like.dtype)


def weight_norms(module: nn.Module) -> torch.Tensor:
    """The sum of the Euclidean norms (not squared) of all trained weights, those of batch normalisation too, biases
    not; a scalar.

    Source: the public code Jiangtong-Li/ZS-SBIR, for Siamese, SaN and CMT.
    """
    named = module.named_parameters()
    return sum(value.norm() for name, value in named if value.requires_grad and name.endswith("weight"))


def draw_latents(mean: torch.Tensor, log_variance: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """z ~ N(mu, sigma), (B, d), through which the gradient reaches mu (B, d) and log sigma^2 (B, d).

    Source: auto-encoding variational Bayes (Kingma and Welling, ICLR 2014).
    """
    return mean + standard_normal(mean, random) * (log_variance / 2).exp()


def kl_to_standard_normal(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mu, sigma) || N(0, 1)), summed over dimensions, averaged over the batch: (B, d), (B, d) -> scalar >= 0.

    STRAD, equation 5; also of the conditional auto-encoders.
    """
    return ((mean.square() + log_variance.exp() - log_variance - 1) / 2).sum(1).mean()


def answer_error(answers: torch.Tensor, low: float, high: float, random: np.random.Generator | None) -> torch.Tensor:
    """(answer - t)^2, averaged, with t ~ U(low, high) drawn for each of the answers (B, ...); scalar."""
    if low == high:
        return (answers - low).square().mean()
    targets = to_device(random.uniform(low, high, tuple(answers.shape)), answers.device, answers.dtype)
    return (answers - targets).square().mean()


def least_squares_game(
    critic: nn.Module,
    real: torch.Tensor,
    *made: torch.Tensor,
    random: np.random.Generator | None = None,
    noise: float = 0.0,
    softness: float = 0.0,
    soft_for: Literal["both", "critic"] = "both",
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss of what made `made`, loss of the critic), scalars.

    A step on their sum moves each player by its own loss alone: the makers want the critic, held fixed, to answer 1 to
    each of `made` (B, D); the critic answers 1 to `real` (B, D), which counts as often as there are `made`, and 0 to
    each of `made`, held fixed.
    noise      deviation of the normal noise that the critic sees on top of everything
    softness   targets are drawn from [1 - softness, 1] and [0, softness] instead of 1 and 0, ...
    soft_for   ... of both players, or of the critic alone
    Source: least-squares GAN (Mao et al., ICCV 2017), as SEM-PCYC uses it.
    """
    fixed = {name: value.detach() for name, value in critic.named_parameters()}
    soft_maker = softness if soft_for == "both" else 0.0

    def seen(x: torch.Tensor) -> torch.Tensor:
        return x + noise * standard_normal(x, random) if noise else x

    maker = sum(
        answer_error(torch.func.functional_call(critic, fixed, (seen(x),)), 1 - soft_maker, 1, random) for x in made
    )
    on_real = answer_error(critic(seen(real.detach())), 1 - softness, 1, random)
    on_made = sum(answer_error(critic(seen(x.detach())), 0, softness, random) for x in made)
    return maker, (len(made) * on_real + on_made) / (2 * len(made))


def adversarial_terms(
    weight: float, *games: tuple[nn.Module, torch.Tensor, *tuple[torch.Tensor, ...]], **how: Any
) -> dict[str, torch.Tensor]:
    """The loss terms of several least-squares games, each (critic, real, made, ...), played as `how` says; see
    `least_squares_game`.

    "adversarial": the sum of the makers' losses times `weight`; "critics": the sum of the critics'.
    """
    makers, critics = zip(*(least_squares_game(*game, **how) for game in games))
    return {"adversarial": weight * sum(makers), "critics": sum(critics)}
