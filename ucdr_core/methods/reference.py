"""Reference rows: what chance and the untrained trunk give, and what mends the trunk's features without training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ucdr_core.methods.base import Method, pooled
from ucdr_core.options import Weight


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

    def transform_test_embeddings(self, queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return queries - queries.mean(axis=0), gallery - gallery.mean(axis=0)


class FrozenWhitened(FrozenCentred):
    """Frozen features less the mean of their side, then whitened: all directions of the two sides count alike.

    x -> (S + shrinkage t I)^(-1/2) x with S (D, D) the covariance of test queries and gallery, each side weighing a
    half, and t its mean eigenvalue: without the second term the directions in which so few samples hardly vary would
    count most.  Transductive.
    """

    @dataclass(frozen=True)
    class Options:
        shrinkage: Weight = 1.0  # 0: plain whitening; the larger, the closer to centring alone

    def transform_test_embeddings(self, queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        queries, gallery = super().transform_test_embeddings(queries, gallery)
        covariance = (queries.T @ queries / len(queries) + gallery.T @ gallery / len(gallery)) / 2
        values, vectors = np.linalg.eigh(covariance)
        scale = np.sqrt(np.clip(values, 0, None) + self.options.shrinkage * values.mean())
        whiten = vectors / np.where(scale > 0, scale, np.inf) @ vectors.T
        return queries @ whiten, gallery @ whiten
