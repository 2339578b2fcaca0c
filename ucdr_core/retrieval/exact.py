"""Which items are nearer to a query, where double precision cannot tell: in whole numbers of any length."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ucdr_core.retrieval.points import unit_rows

# Numbers in the items' embeddings up to which whole numbers are used: some hundredths of a second.  Above it, where
# hundreds of items are alike to 14 digits and yet not the same, their differences from the query decide.
EXACT_AT_MOST = 200_000


def nearness(query: np.ndarray, items: np.ndarray, cluster: np.ndarray, distance: str) -> np.ndarray:
    """Ranks (n,) of items (n, d) by nearness to the query (d,), all as given, among those of their cluster (n,).

    0 is the farthest; the same rank where as near.  distance: "euclidean" or "cosine"
    """
    keys, some = np.zeros(len(items), int), np.ones(len(items), bool)
    if distance == "cosine":  # where no dimension has a part of both the product is 0, as of codes that are sparse
        some = ((items != 0) & (query != 0)).any(axis=1)
    if some.sum() * items.shape[1] > EXACT_AT_MOST:
        keys = _by_differences(query, items, distance)
    elif some.any():
        whole_query, *whole_items = _whole(query[None], items[some])
        if distance == "euclidean":
            exact = [-sum((q - g) ** 2 for q, g in zip(whole_query, item)) for item in whole_items]
        else:
            exact = [_cosine(whole_query, item) for item in whole_items]
        places = {key: place for place, key in enumerate(sorted({*exact, 0}))}
        keys[:] = places[0]
        keys[some] = [places[key] for key in exact]
    order = np.lexsort((keys, cluster))
    ranks = np.zeros(len(items), int)
    ranks[order[1:]] = np.cumsum(np.diff(keys[order]) != 0)
    return ranks


def _cosine(query: list[int], item: list[int]) -> Fraction:
    """The cosine's square times |query|^2, with the cosine's sign."""
    product, square = sum(q * g for q, g in zip(query, item)), sum(g * g for g in item)
    return Fraction(product * abs(product), square) if square else Fraction(0)


def _whole(*sides: np.ndarray) -> list[list[int]]:
    """All rows in turn, times one power of two that makes them whole."""
    parts = []
    for side in sides:
        if side.dtype.kind in "iu":
            parts.append((side.astype(object), np.zeros(side.shape, int)))
        else:
            digits = np.finfo(side.dtype).nmant + 1
            mantissa, exponent = np.frexp(side)
            whole = np.frompyfunc(int, 1, 1)(np.ldexp(mantissa.astype(np.result_type(side, np.float64)), digits))
            parts.append((whole, exponent.astype(int) - digits))
    lowest = min(int(exponent.min()) for _, exponent in parts)
    return [row for whole, exponent in parts for row in (whole << (exponent - lowest).astype(object)).tolist()]


def _by_differences(query: np.ndarray, items: np.ndarray, distance: str) -> np.ndarray:
    query, items = (rows.astype(np.result_type(rows, np.float64)) for rows in (query, items))
    if distance == "cosine":
        query, items = unit_rows(query[None]), unit_rows(items)
    apart = np.ldexp(items, -2) - np.ldexp(query, -2)  # the largest numbers' difference does not overflow
    exponent = np.frexp(np.abs(apart).max(axis=1))[1]
    # Added up by size, so that the same squares have the same sum whichever coordinates they are of.
    square = np.sort(np.square(np.ldexp(apart, -exponent[:, None])), axis=1).sum(axis=1)
    mantissa, more = np.frexp(square)
    size = np.where(square > 0, 2 * exponent.astype(int) + more, -(2**62))
    return np.unique(np.stack([-size, -mantissa]), axis=1, return_inverse=True)[1].ravel()
