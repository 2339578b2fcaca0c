"""Exact retrieval metrics for any size, in bounded memory, under every published definition by name.

For one query let r_k be the relevance at rank k, h_K the relevant items among the first K, P_k = h_k / k, R the
relevant items in the gallery and K = 200.

    map_all      (1/R)          sum_k r_k P_k                       library average precision: UCDR, doodle2search,
                 SEM-PCYC
    map_all_voc  (1/R)          sum_k r_k max_{j>=k} P_j            interpolated precision: SAKE, ZSE-SBIR
    map_200      (1/h_200)      sum_{k<=200} r_k P_k                "hits": UCDR, SEM-PCYC; 0 where no hit is found
    map_200_k    (1/200)        sum_{k<=200} r_k P_k                CVAE, STRAD
    map_200_min  (1/min(200,R)) sum_{k<=200} r_k P_k                the textbook's
    map_200_voc  (1/min(200,R)) sum_{k<=200} r_k max_{200>=j>=k} P_j   SAKE, ZSE-SBIR
    prec_100, prec_200          h_K / K; where the gallery has fewer than K items, its size for K: UCDR, SAKE

Ties.  Items of equal score are one group: each relevant item of the group has the precision at the group's end (as in
scikit-learn's average precision), and a group that rank K cuts counts with the share of it that fits.  So the order in
which the gallery is stored never changes a score.  Items of the same embedding always tie.

How.  Only the relevant items' ranks matter.  A block of queries of one class is scored by a matrix product, the scores
are sorted by value (no indices), and a binary search finds where the relevant scores stand.  Time is the product plus
one sort.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from ucdr_core.progress import bar as progress_bar

METRICS = ("map_all", "map_200", "map_200_k", "map_200_min", "map_200_voc", "map_all_voc", "prec_100", "prec_200")
DISTANCES = ("euclidean", "cosine")
CUT = 200

# Up to this many query-gallery pairs the scores are computed in double precision: near-ties then rank as in a float64
# reference, and it costs seconds.  Above it, single precision (measured difference of the means at 2,000 x 5,000: below
# 1e-6).
FLOAT64_PAIRS = 250_000_000


@dataclass(frozen=True)
class Scores:
    """Values per query, {name: (Q,) in [0, 1]}; `mean` averages over queries."""

    per_query: dict[str, np.ndarray]
    gallery: int
    without_relevant: int  # queries whose class the gallery lacks; they score 0
    arithmetic: str = "float64"
    mean: dict[str, float] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "mean", {name: float(values.mean()) for name, values in self.per_query.items()})

    def __getitem__(self, name: str) -> float:
        return self.mean[name]


def evaluate(
    query_embeddings,
    query_labels,
    gallery_embeddings,
    gallery_labels,
    distance: str = "euclidean",
    *,
    precision_at=(100, 200),
    arithmetic: str = "auto",
    block_mb: int | None = None,
    progress: bool = False,
    device: str = "cpu",
) -> Scores:
    """Every metric of every query: ranks the gallery for each, and scores the ranking.

    query_embeddings (Q, d), gallery_embeddings (N, d): finite numbers; labels (Q,), (N,): anything that compares equal
    distance      "euclidean", or "cosine" (an all-zero embedding has similarity 0 to everything)
    precision_at  ranks K of `prec_K`
    arithmetic    "float64", "float32", or "auto": float64 up to FLOAT64_PAIRS pairs
    block_mb      memory for one block of scores; default: 64, on a GPU 1,024
    device        where scores are computed and sorted

    Raises ValueError saying which array is wrong and how.
    """
    queries, gallery = _embeddings(query_embeddings, "query"), _embeddings(gallery_embeddings, "gallery")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query embeddings have {queries.shape[1]} dimensions, gallery embeddings {gallery.shape[1]}; they must "
            "agree"
        )
    query_labels = _labels(query_labels, len(queries), "query")
    gallery_labels = _labels(gallery_labels, len(gallery), "gallery")
    if distance not in DISTANCES:
        raise ValueError(f"unknown distance {distance!r}; known: {', '.join(DISTANCES)}")
    if arithmetic == "auto":
        arithmetic = "float64" if len(queries) * len(gallery) <= FLOAT64_PAIRS else "float32"
    block_mb = block_mb or (1024 if torch.device(device).type == "cuda" else 64)
    dtype = {"float64": torch.float64, "float32": torch.float32}[arithmetic]

    # Columns of one class side by side: a class's relevant scores are then one slice.
    classes, codes = np.unique(
        np.concatenate([_comparable(query_labels, gallery_labels), _comparable(gallery_labels, query_labels)]),
        return_inverse=True,
    )
    query_codes, gallery_codes = codes[: len(queries)], codes[len(queries) :]
    by_class = np.argsort(gallery_codes, kind="stable")
    starts = np.searchsorted(gallery_codes[by_class], np.arange(len(classes) + 1))
    # The last digits of a matrix product depend on the column: one of several equal items gives all of them its score.
    number, place = _number_of_equals(gallery), np.argsort(by_class)
    again = np.flatnonzero(number != np.arange(len(gallery)))
    copies, originals = place[again], place[number[again]]
    gallery = _rows(gallery, by_class, dtype, distance, device)
    half_square = gallery.square().sum(1) / 2 if distance == "euclidean" else None

    names = (
        "map_all",
        "map_200",
        "map_200_k",
        "map_200_min",
        "map_200_voc",
        "map_all_voc",
        *(f"prec_{k}" for k in precision_at),
    )
    per_query = {name: np.zeros(len(queries)) for name in names}
    without = 0
    with (
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
        progress_bar(total=len(queries), unit="query", disable=not progress) as bar,
    ):
        for code in np.unique(query_codes):
            members = np.flatnonzero(query_codes == code)
            first, last = starts[code], starts[code + 1]
            if first == last:
                without += len(members)
                bar.update(len(members))
                continue
            bytes_per_query = len(gallery) * dtype.itemsize + (last - first) * 128
            size = max(1, min(len(members), block_mb * 1_000_000 // bytes_per_query))
            for block in np.array_split(members, -(-len(members) // size)):
                # Monotone in the distance: q.g - |g|^2 / 2 falls as |q - g| grows, and q.g is the cosine of unit
                # vectors.
                scores = _rows(queries, block, dtype, distance, device) @ gallery.T
                if half_square is not None:
                    scores -= half_square
                if len(copies):
                    scores[:, copies] = scores[:, originals]
                relevant = scores[:, first:last].sort(dim=1, descending=True).values
                values = _block_metrics(_sorted(scores, pool), relevant, precision_at)
                for name in names:
                    per_query[name][block] = values[name].double().cpu().numpy()
                bar.update(len(block))
    return Scores(per_query, len(gallery), without, arithmetic)


def _block_metrics(ascending: torch.Tensor, relevant: torch.Tensor, precision_at) -> dict[str, torch.Tensor]:
    """ascending (B, N) all scores, relevant (B, R) the relevant ones, best first -> {name: (B,)}."""
    n, r = ascending.shape[1], relevant.shape[1]
    ahead = (n - torch.searchsorted(ascending, relevant, right=True)).double()  # items that score strictly more
    # Items that score as much or more: the rank of the tie group's end.
    within = (n - torch.searchsorted(ascending, relevant)).double()
    worst_first = relevant.flip(1).contiguous()
    hits_ahead = (r - torch.searchsorted(worst_first, relevant, right=True)).double()
    hits_within = (r - torch.searchsorted(worst_first, relevant)).double()
    precision = hits_within / within

    def share(k: int) -> torch.Tensor:
        """Share of each relevant item's tie group that fits into the first k ranks."""
        return ((k - ahead) / (within - ahead)).clamp(0, 1)

    top = share(CUT)
    hits = top.sum(1)
    # A group that rank K cuts is closed at K.
    precision_top = torch.where(within <= CUT, precision, (hits_ahead + top * (hits_within - hits_ahead)) / CUT)
    total = (top * precision_top).sum(1)
    reachable = min(CUT, r)
    result = {
        "map_all": precision.mean(1),
        "map_all_voc": _envelope(precision).mean(1),
        "map_200": torch.where(hits > 0, total / hits.clamp(min=1e-12), 0.0),
        "map_200_k": total / CUT,
        "map_200_min": total / reachable,
        "map_200_voc": (top * _envelope(torch.where(top > 0, precision_top, 0.0))).sum(1) / reachable,
    }
    result.update({f"prec_{k}": share(k).sum(1) / min(k, n) for k in precision_at})
    return result


def _envelope(precision: torch.Tensor) -> torch.Tensor:
    """max over later columns, itself included."""
    return precision.flip(1).cummax(1).values.flip(1)


def _sorted(scores: torch.Tensor, pool: ThreadPoolExecutor) -> torch.Tensor:
    """Each row ascending; on the CPU sorted in place."""
    if scores.is_cuda:
        return scores.sort(dim=1).values
    rows = scores.numpy()  # NumPy's vectorised sort of values is several times faster than torch's
    list(pool.map(lambda part: part.sort(axis=1), np.array_split(rows, min(len(rows), pool._max_workers))))
    return scores


def _rows(embeddings: np.ndarray, rows: np.ndarray, dtype: torch.dtype, distance: str, device: str) -> torch.Tensor:
    """These rows on the device, (n, d); of length 1 for the cosine."""
    values = torch.from_numpy(np.ascontiguousarray(embeddings[rows])).to(device, dtype)
    if distance != "cosine":
        return values
    return torch.nn.functional.normalize(values, dim=1, eps=1e-300 if dtype == torch.float64 else 1e-30)


def _number_of_equals(rows: np.ndarray) -> np.ndarray:
    """Of each row (n, d) the position of the first that equals it, (n,) int."""
    number = np.arange(len(rows))
    _, group, size = np.unique(rows[:, 0], return_inverse=True, return_counts=True)
    candidates = np.flatnonzero(size[group] > 1)  # no other row can have an equal
    if len(candidates):
        values = np.ascontiguousarray(rows[candidates] + 0.0)  # -0 becomes 0, which has other bytes
        whole = values.view(np.dtype((np.void, values.itemsize * values.shape[1])))[:, 0]
        _, first, group = np.unique(whole, return_index=True, return_inverse=True)
        number[candidates] = candidates[first[group]]
    return number


def _embeddings(values, name: str) -> np.ndarray:
    values = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{name} embeddings must be numbers, not {values.dtype}")
    if values.dtype.kind != "f" or values.dtype.itemsize < 4:
        values = values.astype(np.float32)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"{name} embeddings must have shape (n, d) with n, d >= 1, not {values.shape}")
    for start in range(0, len(values), 8192):  # in pieces: no second copy of a large array
        finite = np.isfinite(values[start : start + 8192]).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"{name} embeddings hold NaN or infinity, first in row {start + int(np.flatnonzero(~finite)[0])}"
            )
    return values


def _labels(values, count: int, name: str) -> np.ndarray:
    values = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    if values.shape != (count,):
        raise ValueError(f"{name} labels must have shape ({count},), one per embedding, not {values.shape}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"{name} labels hold NaN or infinity")
    return values


def _comparable(labels: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Labels of both sides in one kind: numbers stay numbers; text and numbers meet only as an error."""
    text = {labels.dtype.kind in "USO", other.dtype.kind in "USO"}
    if len(text) == 2:
        raise ValueError(
            f"query and gallery labels are of different kinds ({labels.dtype}, {other.dtype}); give both as text or "
            "both as numbers"
        )
    return labels.astype(str) if True in text else labels
