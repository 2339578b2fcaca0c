"""Loss terms, gradient reversal, dropout, and the mixing of samples that several methods share."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def sent(array: np.ndarray, device: torch.device | str, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The array on the device.  A copy to a GPU goes through pinned memory and is not waited for."""
    tensor = torch.from_numpy(array)
    tensor = tensor if dtype is None else tensor.to(dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if torch.device(device).type == "cuda" else tensor.to(device)


def cosine_logits(f: torch.Tensor, class_vectors: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """cos(f, a_k) / temperature: f (B, D), class_vectors (C, D) -> (B, C).  SnMpNet, equation 6, has no temperature (1)."""
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


def mixing_schedule(epoch: int, beta: float, step: int) -> tuple[float, float]:
    """(beta of this epoch, probability gamma that the partner has the sample's own domain).

    Epochs 0 to s mix within domains, up to epoch 2s ever more across them, then only across; s = step.
    Source: options and trainer of mvp18/UCDR, after mancinimassimiliano/CuMix.
    """
    if step <= 0:
        return beta, 0.0
    return min(beta, max(beta * epoch / step, 0.1)), float(np.clip((2 * step - epoch) / step, 0, 1))


def draw_mixing(domains: torch.Tensor, beta: float, gamma: float, random: np.random.Generator, like: torch.Tensor) -> Mixing:
    """Partners for a batch whose domains (B,), on the CPU, stand in blocks of equal size; on the device and of the type of `like`.

    r ~ Beta(beta, beta) per sample; the partner is of the own domain with probability gamma, else of another one, which a
    random cyclic shift of the domains names for the whole batch.
    """
    sizes = torch.unique_consecutive(domains, return_counts=True)[1].tolist()
    count, blocks, size = len(domains), len(sizes), max(sizes, default=0)
    if len(set(sizes)) > 1:
        raise ValueError(f"a batch of {count} samples does not divide into {blocks} equal blocks, one per domain; methods that mix need recipe.photo_share 0")
    block, place = np.divmod(np.arange(count), size)
    across = (random.random(count) >= gamma) & (blocks > 1)
    shift = random.integers(1, blocks) if blocks > 1 else 0
    own, other = (np.concatenate([random.permutation(size) for _ in range(blocks)]) for _ in range(2))
    partner = np.where(across, (block + shift) % blocks * size + other, block * size + own)
    r = random.beta(beta, beta, count)
    return Mixing(sent(partner, like.device), sent(r, like.device, like.dtype))


def mixed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, mixing: Mixing) -> torch.Tensor:
    """r l(., y_i) + (1 - r) l(., y_j), averaged over the batch.  SnMpNet, equations 5 and 8."""
    log_p = logits.log_softmax(1)
    own = -log_p.gather(1, labels[:, None])[:, 0]
    partner = -log_p.gather(1, labels[mixing.partner][:, None])[:, 0]
    return (mixing.r * own + (1 - mixing.r) * partner).mean()


def triplet_loss(positive: torch.Tensor, negative: torch.Tensor, margin: float) -> torch.Tensor:
    """max(0, margin + d(a, p) - d(a, n)), averaged: distances (T,) of the anchors to their positives and negatives -> scalar.

    Doodle to Search, equation 1 (Euclidean distances); STL, equations 3 and 14 (cosine distances).
    """
    return (margin + positive - negative).clamp(min=0).mean()


def cosine_distance(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """1 - cos(u, v): (B, D), (B, D) -> (B,) in [0, 2].  STL, equation 4."""
    return 1 - functional.cosine_similarity(u, v, dim=1)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(context, x: torch.Tensor, strength: float) -> torch.Tensor:
        context.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient: torch.Tensor):
        return -context.strength * gradient, None


def reverse_gradient(x: torch.Tensor, strength: float) -> torch.Tensor:
    """x forwards; backwards the gradient times -strength.  Ganin and Lempitsky (ICML 2015); Doodle to Search, section 4.3."""
    return _Reverse.apply(x, strength)


def dropout(x: torch.Tensor, share: float, random: np.random.Generator) -> torch.Tensor:
    """Each value is 0 with probability `share`, else divided by 1 - share; call it in training only.

    torch's own draws other masks on an Intel than on an AMD processor from the same seed (MKL's generator), so that no two
    machines would print the same table.
    """
    if not share:
        return x
    kept = sent(random.random(tuple(x.shape)) >= share, x.device, x.dtype)
    return x * kept / (1 - share)


def standard_normal(like: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Independent N(0, 1) values of the shape, type and device of `like`; NumPy's, for the reason given at `dropout`."""
    return sent(random.standard_normal(tuple(like.shape)), like.device, like.dtype)


def kl_to_standard_normal(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mu, sigma) || N(0, 1)), summed over dimensions, averaged over the batch: (B, d), (B, d) -> scalar >= 0.

    STRAD, equation 5; also of the conditional auto-encoders.
    """
    return ((mean.square() + log_variance.exp() - log_variance - 1) / 2).sum(1).mean()


def least_squares_game(
    critic: nn.Module, real: torch.Tensor, made: torch.Tensor, random: np.random.Generator | None = None, noise: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss of what made `made`, loss of the critic), scalars: a step on their sum moves each player by its own loss alone.

    The maker wants the critic, held fixed, to answer 1; the critic answers 1 to `real` and 0 to `made`, held fixed.
    noise   the critic's targets are drawn from [1 - noise, 1 + noise] and [0, noise] instead of 1 and 0
    Source: least-squares GAN (Mao et al., ICCV 2017), as SEM-PCYC uses it.
    """
    fixed = {name: value.detach() for name, value in critic.named_parameters()}
    maker = (torch.func.functional_call(critic, fixed, (made,)) - 1).square().mean()
    on_real, on_made = critic(real.detach()), critic(made.detach())

    def target(answer: torch.Tensor, low: float, high: float) -> torch.Tensor:
        drawn = random.uniform(low, high, tuple(answer.shape)) if noise else np.full(tuple(answer.shape), (low + high) / 2)
        return sent(drawn, answer.device, answer.dtype)

    judged = (on_real - target(on_real, 1 - noise, 1 + noise)).square().mean() + (on_made - target(on_made, 0, noise)).square().mean()
    return maker, judged / 2
