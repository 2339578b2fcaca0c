"""Order of a gallery by distance, and indexes for galleries that are large."""

from __future__ import annotations

import numpy as np


def rank(queries: np.ndarray, gallery: np.ndarray, distance: str) -> np.ndarray:
    """Gallery positions by distance, nearest first: (Q, N).  distance: "euclidean" or "cosine"."""
    if distance == "cosine":
        queries, gallery = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (queries, gallery))
    return np.argsort(np.square(gallery).sum(1) / 2 - queries @ gallery.T, axis=1, kind="stable")


def unit(values: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; rows of zeros stay."""
    return values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-12)
