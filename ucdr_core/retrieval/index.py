"""Indexes of large galleries (faiss)."""

from __future__ import annotations

import faiss
import numpy as np

# Up to here a flat index compares with every vector: exact, and 9 ms at half as many.  Above, IVF: of a million it
# finds all but one in a thousand in 3 ms and is built in 60 to 84 s, where HNSW took 281 to 746 and of the real ones
# found nine in ten (`ucdr bench search`).
FLAT_AT_MOST = 200_000
LINKS, EF_CONSTRUCTION, EF_SEARCH = 32, 80, 128  # of HNSW
KINDS = ("flat", "hnsw", "ivf")


def nearest_index(vectors: np.ndarray, kind: str | None = None) -> faiss.Index:
    """A faiss index over unit vectors (n, D) float32 that finds the largest products.

    kind  flat, hnsw or ivf; default: flat up to FLAT_AT_MOST vectors, IVF above

    Raises ValueError for another kind.
    """
    count, dimension = vectors.shape
    kind = kind or ("flat" if count <= FLAT_AT_MOST else "ivf")
    if kind == "flat":
        index = faiss.IndexFlatIP(dimension)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dimension, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = EF_CONSTRUCTION, EF_SEARCH
    elif kind == "ivf":
        lists = max(1, int(4 * count**0.5))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.niter, index.cp.max_points_per_centroid = 10, 64
        index.train(vectors)
        index.nprobe = max(1, lists // 32)
    else:
        raise ValueError(f"unknown kind of index {kind!r}; known: {', '.join(KINDS)}")
    index.add(vectors)
    return index


def distance_index(vectors: np.ndarray) -> faiss.Index:
    """A flat faiss index over vectors (n, D) float32 that finds the smallest Euclidean distances, as their squares."""
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    return index
