"""SAE: semantic auto-encoder (Kodirov, Xiang, Gong, CVPR 2017), for two domains.

A linear encoder W from features to class vectors whose transpose must decode: min |X - W' S|^2 + lambda |W X - S|^2, in
closed form.  One W for sketches and one for photos; compared by the cosine of W x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from ucdr_core.methods.base import LinearMaps
from ucdr_core.options import Positive, Range


class Sylvester:
    """S S' W + weight W X X' = (1 + weight) S X' for W (m, d) and any weight.

    x (n, d) are the features, s (n, m) the class vectors of the samples.  Both matrices are symmetric: between their
    eigenvectors the equation is one division for each entry.  Where the divisor is 0 so is the right side, and W is the
    smallest of the solutions.
    """

    def __init__(self, x: torch.Tensor, s: torch.Tensor):
        self.a, self.u = torch.linalg.eigh(s.T @ s)
        self.b, self.v = torch.linalg.eigh(x.T @ x)
        self.c = self.u.T @ (s.T @ x) @ self.v

    def solve(self, weight: float) -> torch.Tensor:
        divisor = self.a[:, None] + weight * self.b
        inside = torch.where(divisor > 1e-10 * divisor.max(), (1 + weight) * self.c / divisor, 0)
        return self.u @ inside @ self.v.T


class SAE(LinearMaps):
    @dataclass(frozen=True)
    class Options:
        grid: Annotated[tuple[Positive, ...], Range(1, 100)] = (0.001, 0.01, 0.1, 1.0)  # of lambda

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        self.register_buffer("w", torch.zeros(2, class_vectors.shape[1], channels))  # sketches, photos

    def candidates(self) -> list[tuple[float, ...]]:
        return [(weight,) for weight in self.options.grid]

    def prepare(self, x: torch.Tensor, labels: torch.Tensor) -> Sylvester:
        return Sylvester(x, self.class_vectors[labels].double())

    def solve(self, weight: float) -> None:
        for side, equation in enumerate(self.sides):
            self.w[side] = equation.solve(weight)

    def apply_map(self, x: torch.Tensor, side: int) -> torch.Tensor:
        return x @ self.w[side].T
