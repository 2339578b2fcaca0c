"""ESZSL: an embarrassingly simple approach to zero-shot learning (Romera-Paredes, Torr, ICML 2015), for two domains.

A bilinear map between features and class vectors, in closed form: x' V s is large where s is the class of x.  One V for
sketches and one for photos; a sketch and a photo are compared by the cosine of V' x, which lies in the space of the
class vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Annotated

import torch
from torch import nn

from ucdr_core.methods.base import LinearMaps
from ucdr_core.options import Positive, Range


def solve(x: torch.Tensor, labels: torch.Tensor, s: torch.Tensor, gamma: float, penalty: float) -> torch.Tensor:
    """V = (X X' + gamma I)^-1 X Y S' (S S' + penalty I)^-1, (d, m).

    x (n, d) are the columns of X, labels (n,) make Y (n, c) of 1 and -1, class vectors s (c, m) are the columns of S.
    gamma and penalty are in units of the mean eigenvalue of the matrix that they are added to.
    """
    y = torch.where(labels[:, None] == torch.arange(len(s), device=x.device), 1.0, -1.0).to(x)

    def ridge(matrix: torch.Tensor, share: float) -> torch.Tensor:
        return matrix + share * matrix.trace() / len(matrix) * torch.eye(len(matrix), dtype=x.dtype, device=x.device)

    left = torch.linalg.solve(ridge(x.T @ x, gamma), x.T @ y @ s)
    return torch.linalg.solve(ridge(s.T @ s, penalty), left.T).T


class ESZSL(LinearMaps):
    @dataclass(frozen=True)
    class Options:
        shared: bool = False  # one V for both domains
        grid: Annotated[tuple[Positive, ...], Range(1, 100)] = (0.01, 0.1, 1.0, 10.0)  # of gamma and lambda

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        self.register_buffer("v", torch.zeros(2, channels, class_vectors.shape[1]))  # sketches, photos

    def candidates(self) -> list[tuple[float, ...]]:
        return list(product(self.options.grid, repeat=2))

    def rows_of_sides(self, photos: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        all_rows = torch.ones_like(photos)
        return (all_rows, all_rows) if self.options.shared else super().rows_of_sides(photos)

    def prepare(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, labels

    def solve(self, gamma: float, penalty: float) -> None:
        for side, (x, labels) in enumerate(self.sides):
            self.v[side] = solve(x, labels, self.class_vectors.double(), gamma, penalty)

    def apply_map(self, x: torch.Tensor, side: int) -> torch.Tensor:
        return x @ self.v[side]
