"""Reference rows that stand in every table: what chance and the untrained trunk give."""
from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .base import Method, pooled


class Chance(Method):
    """Random embeddings, drawn anew per seed: what the gallery's size and balance alone are worth."""

    trained = False

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return torch.randn(len(inputs), 32, dtype=torch.float64)


class Frozen(Method):
    """Pooled ImageNet features of the trunk, compared by cosine."""

    trained = False
    distance = "cosine"

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options):
        super().__init__(upper, channels, class_vectors, options)
        self.upper = upper

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return pooled(self.upper(inputs))


class FrozenCentred(Frozen):
    """Frozen features less the mean of their side, taken over the test queries and over the gallery.

    Transductive: a query's embedding depends on the other queries.
    """

    transductive = True

    def together(self, queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return queries - queries.mean(axis=0), gallery - gallery.mean(axis=0)
