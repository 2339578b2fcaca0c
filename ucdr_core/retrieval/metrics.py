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

How.  Embeddings become points whose products rank as their distances do (`points`).  Of a block of queries of one class
it is counted how many items are ahead of each relevant one (`ranks`): that decides every metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from ucdr_core.progress import bar as progress_bar
from ucdr_core.retrieval.inputs import class_codes, embeddings
from ucdr_core.retrieval.points import Points
from ucdr_core.retrieval.ranks import Counts, Ranks

METRICS = ("map_all", "map_200", "map_200_k", "map_200_min", "map_200_voc", "map_all_voc", "prec_100", "prec_200")
DISTANCES = ("euclidean", "cosine")
ARITHMETICS = ("auto", "float64", "float32")
CUT = 200

# From this many query-gallery pairs on the first product is computed in single precision, which is faster.  The ranks
# are the same.
SINGLE_FROM = 4_000_000
# From this many on a CPU uses compiled code (`sweep`), which takes half a second to load.
SWEEP_FROM = 200_000

# Queries of a thread's block on the CPU: as many as a product needs to be fast, or as fit into its caches.
BLOCK_QUERIES, BLOCK_BYTES = 256, 16_000_000


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

    query_embeddings (Q, d), gallery_embeddings (N, d): finite real numbers of any kind
    query_labels (Q,), gallery_labels (N,): all text, or all real numbers
    distance      "euclidean", or "cosine" (an all-zero embedding has similarity 0 to everything)
    precision_at  ranks K of `prec_K`
    arithmetic    of the product: "float64", "float32", or "auto": float64 below SINGLE_FROM pairs.  What is too near to
                  be told apart is computed again, so that ranks are the same with either
    block_mb      memory for one block of scores; default: 256, on a GPU 1,024
    device        where scores are computed

    Raises ValueError saying which array is wrong and how.
    """
    queries, gallery = embeddings(query_embeddings, "query"), embeddings(gallery_embeddings, "gallery")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query embeddings have {queries.shape[1]} dimensions, gallery embeddings {gallery.shape[1]}; they must "
            "agree"
        )
    if distance not in DISTANCES:
        raise ValueError(f"unknown distance {distance!r}; known: {', '.join(DISTANCES)}")
    query_codes, gallery_codes = class_codes(query_labels, gallery_labels, len(queries), len(gallery))
    if any(k < 1 for k in precision_at):
        raise ValueError(f"precision_at must be ranks from 1 on, not {tuple(precision_at)}")
    if arithmetic not in ARITHMETICS:
        raise ValueError(f"unknown arithmetic {arithmetic!r}; known: {', '.join(ARITHMETICS)}")
    pairs, on_cpu = len(queries) * len(gallery), torch.device(device).type == "cpu"
    if arithmetic == "auto":
        arithmetic = "float64" if pairs < SINGLE_FROM else "float32"
    block_mb = block_mb or (256 if on_cpu else 1024)

    # Items of one class side by side: a class's relevant scores are then one slice.
    by_class = np.argsort(gallery_codes, kind="stable")
    starts = np.searchsorted(gallery_codes[by_class], np.arange(query_codes.max() + 2))
    points = Points(queries, gallery, distance)

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
    has_relevant = starts[query_codes] < starts[query_codes + 1]
    sweep = on_cpu and pairs >= SWEEP_FROM and find_spec("numba") is not None
    ranks = Ranks(points, gallery, by_class, arithmetic == "float32", device, sweep)

    def score(members: np.ndarray) -> int:
        """Fills in the values of some queries, in the order of their classes."""
        block, codes = ranks.block(queries[members]), query_codes[members]
        for code in np.unique(codes):
            start, stop = np.searchsorted(codes, [code, code + 1])
            counts = ranks.counts(block.part(start, stop), starts[code], starts[code + 1])
            for name, values in _metrics(counts, len(gallery), precision_at).items():
                per_query[name][members[start:stop]] = values.cpu().numpy()
        return len(members)

    scored = np.flatnonzero(has_relevant)
    scored = scored[np.argsort(query_codes[scored], kind="stable")]
    threads = torch.get_num_threads() if pairs >= SINGLE_FROM else 1
    bytes_each = len(gallery) * (4 if sweep else 56) + int(np.diff(starts).max()) * 160
    size = block_mb * 1_000_000 // threads // bytes_each
    if on_cpu:
        size = min(size, max(BLOCK_QUERIES, BLOCK_BYTES // bytes_each))
    size = max(1, size)
    blocks = np.array_split(scored, -(-len(scored) // size)) if len(scored) else []
    with progress_bar(total=len(queries), unit="query", disable=not progress) as bar, _side_by_side(threads) as each:
        bar.update(len(queries) - len(scored))
        for done in each(score, blocks):
            bar.update(done)
    return Scores(per_query, len(gallery), int((~has_relevant).sum()), arithmetic)


_controller = cache(ThreadpoolController)  # looks through all libraries that are loaded


@contextmanager
def _side_by_side(threads: int) -> Iterator[Callable]:
    """A `map` in so many threads, in each of which the libraries use one."""
    if threads == 1:
        yield map
        return
    try:
        with (
            _controller().limit(limits=1, user_api="blas"),
            ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        ):
            yield pool.map
    finally:
        torch.set_num_threads(threads)


def _metrics(counts: Counts, gallery: int, precision_at) -> dict[str, torch.Tensor]:
    """The counts of the relevant items, worst first -> {name: (B,)}."""
    ahead, within, hits_ahead, hits_within = (count.double() for count in counts)
    relevant = ahead.shape[1]
    precision = hits_within / within

    def share(k: int) -> torch.Tensor:
        """Share of each relevant item's tie group in the first k ranks, less columns in front where it is 0."""
        some = relevant - max(1, int((ahead < k).sum(1).max()))
        return ((k - ahead[:, some:]) / (within - ahead)[:, some:]).clamp(0, 1)

    top = share(CUT)
    hits, some = top.sum(1), slice(relevant - top.shape[1], None)
    # A group that rank K cuts is closed at K.
    cut = (hits_ahead[:, some] + top * (hits_within - hits_ahead)[:, some]) / CUT
    precision_top = torch.where(within[:, some] <= CUT, precision[:, some], cut)
    total = (top * precision_top).sum(1)
    reachable = min(CUT, relevant)
    result = {
        "map_all": precision.mean(1),
        "map_all_voc": _envelope(precision).mean(1),
        "map_200": torch.where(hits > 0, total / hits.clamp(min=1e-12), 0.0),
        "map_200_k": total / CUT,
        "map_200_min": total / reachable,
        "map_200_voc": (top * _envelope(torch.where(top > 0, precision_top, 0.0))).sum(1) / reachable,
    }
    result.update({f"prec_{k}": share(k).sum(1) / min(k, gallery) for k in precision_at})
    return result


def _envelope(precision: torch.Tensor) -> torch.Tensor:
    """The largest of ranks that are no better: of earlier columns, itself included."""
    return precision.cummax(1).values
