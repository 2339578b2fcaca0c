"""SAE: semantic auto-encoder (Kodirov, Xiang, Gong, CVPR 2017), for two domains.

A linear encoder W from features to class vectors whose transpose must decode: min |X - W' S|^2 + lambda |W X - S|^2, in closed form.
One W for sketches and one for photos; compared by the cosine of W x.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from .base import Method, by_side, scaled_features


class Sylvester:
    """S S' W + weight W X X' = (1 + weight) S X' for W (m, d) and any weight: features x (n, d), class vectors of the samples s (n, m).

    Both matrices are symmetric: between their eigenvectors the equation is one division for each entry.  Where the divisor is 0 so is the
    right side, and W is the smallest of the solutions.
    """

    def __init__(self, x: torch.Tensor, s: torch.Tensor):
        self.a, self.u = torch.linalg.eigh(s.T @ s)
        self.b, self.v = torch.linalg.eigh(x.T @ x)
        self.c = self.u.T @ (s.T @ x) @ self.v

    def solve(self, weight: float) -> torch.Tensor:
        divisor = self.a[:, None] + weight * self.b
        inside = torch.where(divisor > 1e-10 * divisor.max(), (1 + weight) * self.c / divisor, 0)
        return self.u @ inside @ self.v.T


class SAE(Method):
    @dataclass(frozen=True)
    class Options:
        grid: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)  # lambda is chosen among these on validation classes; without, the first

    distance = "cosine"
    uses_class_vectors = True
    frozen_features = True
    closed_form = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        self.register_buffer("w", torch.zeros(2, class_vectors.shape[1], channels))  # sketches, photos

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return by_side(scaled_features(inputs), photos, lambda x: x @ self.w[0].T, lambda x: x @ self.w[1].T)

    def fit_features(self, features: torch.Tensor, labels: torch.Tensor, photos: torch.Tensor) -> None:
        # In double precision: with fewer samples than channels most eigenvalues are 0, which single precision takes for many small ones.
        self.sides = [Sylvester(features[own].double(), self.class_vectors[labels[own]].double()) for own in (~photos, photos)]
        self.solve(self.options.grid[0])

    def solve(self, weight: float) -> None:
        for side, equation in enumerate(self.sides):
            self.w[side] = equation.solve(weight)

    def choose(self, score: Callable[[], float]) -> None:
        self.solve(max(self.options.grid, key=lambda weight: (self.solve(weight), round(score(), 9))[1]))
