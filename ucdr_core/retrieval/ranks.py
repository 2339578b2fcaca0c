"""Where the relevant items stand in the ranking of a gallery: exactly, for little more than the price of a product.

Only this matters of a query's ranking: how many items score more than each relevant one, and how many as much.

1. The product of the points, in single precision, scores every item.  A bound says how far a score may be off.
2. The relevant items are scored in double precision.
3. Every item gets its place among the relevant ones: how many of them it is above.  On the CPU, where there is much to
   do, one compiled pass finds it (`sweep`), elsewhere a binary search.
4. An item that is too near to a relevant one to tell is scored in double precision too.
5. What double precision cannot tell apart either is compared exactly (`exact`), unless it is the same embedding.

The bound.  A product p of d terms is rounded d times, each time by at most u = 2^-24 of the sum so far.  With the
coordinates in a random order that sum goes from 0 to p, off the straight line by about the root of the sum of squared
terms, which is at most |q|_4 |g|_4 (lengths in the 4-norm).  Roundings go up as often as down, so that their sum is
about u sqrt(d) hypot(p, |q|_4 |g|_4) / 6.  The bound is SAFETY times the whole; of 190 million products of eight kinds
of embeddings the worst came to 1.3 times.  In double precision there is room for a bound that no rounding can exceed.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from ucdr_core.retrieval.exact import nearness
from ucdr_core.retrieval.inputs import PIECE
from ucdr_core.retrieval.points import EXACT_SINGLE, Points

SINGLE, DOUBLE = 2.0**-24, 2.0**-53  # the largest relative error of one rounding
SAFETY = 3.0
TINY = 2.0**-100  # more than a float32 loses that becomes too small to be normal
CACHED = 65_536  # numbers that stay in a core's cache
MANY = 1 / 8  # of the items: if more are near, products are computed in double precision


class Counts(NamedTuple):
    """Of each relevant item, worst first, (B, R) int64: how many items score more, and how many as much or more.

    The item itself counts among the latter; the relevant ones are also counted on their own, (1, R) if none tie.
    """

    ahead: torch.Tensor
    within: torch.Tensor
    relevant_ahead: torch.Tensor
    relevant_within: torch.Tensor


class Block(NamedTuple):
    """Queries, their products with every item, and what bounds the rounding of those."""

    rows: np.ndarray  # (B, d) as given
    queries: torch.Tensor  # (B, d) float64
    products: torch.Tensor  # (B, N) float32 or float64
    off: torch.Tensor  # (B, 1), how far a score in double precision may be from the true one
    length_4: torch.Tensor  # (B, 1)

    def part(self, start: int, stop: int) -> Block:
        return Block(*(each[start:stop] for each in self))


class Places(NamedTuple):
    """Where the items stand among the relevant scores (B, R) of each query, ascending."""

    below: torch.Tensor  # (B, R + 1) int64, how many items are above so many relevant ones
    ties: torch.Tensor  # (B, R + 1) int64, +1 and -1 where the relevant ones that an item ties with begin and end
    row: torch.Tensor  # (T,) of items that are near a relevant one, and not counted yet
    item: torch.Tensor  # (T,)
    scores: torch.Tensor  # (T,) float64


class Ranks:
    """A gallery in which the relevant items of blocks of queries are ranked.

    gallery  (N, d) as given; order (N,) its rows, those of one class side by side: items first to last - 1
    single   whether the products are computed in single precision; device: where
    sweep    whether items are placed by the compiled pass, on the CPU
    """

    def __init__(self, points: Points, gallery: np.ndarray, order: np.ndarray, single: bool, device: str, sweep: bool):
        self._points, self._gallery, self._order, self._device = points, gallery, order, device
        items, dimension = gallery.shape
        self._shuffled = np.random.default_rng(0).permutation(dimension)
        step = max(1, CACHED // dimension)
        pieces = [slice(start, start + step) for start in range(0, items, step)]
        single = single and not points.exact_bits > EXACT_SINGLE
        narrow, lossless = np.empty((items * single, dimension), np.float32), single
        square, length_4 = np.empty(items), np.empty(items)
        for piece in pieces:
            values = points(gallery[order[piece]]).take(self._shuffled, axis=1)
            squares = np.square(values)
            square[piece], length_4[piece] = squares.sum(axis=1), np.einsum("nd,nd->n", squares, squares) ** 0.25
            if single:
                narrow[piece] = values
                lossless = lossless and (narrow[piece] == values).all()
        if lossless:  # single precision holds the points as they are: they need not be held twice
            values = narrow
        else:
            values = np.concatenate([points(gallery[order[piece]]).take(self._shuffled, axis=1) for piece in pieces])
        self._longest = float(np.sqrt(square.max()))
        # Euclidean: q.g - |g|^2 / 2 falls as |q - g| grows; less what most have in common, so that scores are small.
        lift = (square - np.rint(np.median(square))) / 2 * (points.distance == "euclidean")
        self._items, self._square, self._lift, self._length_4 = (
            torch.from_numpy(each).to(device) for each in (values, square, lift, length_4)
        )
        self._single = torch.from_numpy(narrow).to(device) if single else None
        self._narrow_lift = lift.astype(np.float32)
        self._share, self._least = SAFETY * SINGLE * (values.shape[1] ** 0.5 + 4), values.shape[1] * TINY
        self._largest_lift, self._largest_4 = float(np.abs(lift).max()), float(length_4.max())
        self._sweep = sweep
        self._memory = threading.local()  # fresh memory costs more than what is done with it

    def block(self, rows: np.ndarray) -> Block:
        """Queries (B, d), as given, of any classes.  It holds until the thread's next one, which is no larger."""
        values = self._points(rows).take(self._shuffled, axis=1)
        queries = torch.from_numpy(values).to(self._device)
        single, out = self._single, None
        left, items = (queries, self._items.double()) if single is None else (queries.float(), single)
        if not queries.is_cuda:
            kind = "float64" if single is None else "float32"
            out = self._kept(len(rows), len(items), kind)
        products = _product(left, items, out)
        off = np.zeros(len(rows))
        squares = np.square(values)
        if not self._points.exact_bits:
            length = np.sqrt(squares.sum(axis=1))
            off = 4 * (values.shape[1] + 4) * DOUBLE * (length + self._longest) * self._longest + TINY**2
        length_4 = np.square(squares).sum(axis=1) ** 0.25
        off, length_4 = (torch.from_numpy(each[:, None]).to(self._device) for each in (off, length_4))
        return Block(rows, queries, products, off, length_4)

    def _kept(self, rows: int, columns: int, dtype: str) -> np.ndarray:
        """Memory (rows, columns) that the thread uses again and again, with what was there."""
        kept = getattr(self._memory, dtype, None)
        if kept is None or len(kept) < rows:
            kept = np.empty((rows, columns), dtype)
            setattr(self._memory, dtype, kept)
        return kept[:rows]

    def counts(self, block: Block, first: int, last: int) -> Counts:
        """For queries whose class has the items first to last - 1."""
        relevant = _ascending(
            self._scores(_product(block.queries, self._items[first:last].double()), slice(first, last))
        )
        places = (self._swept if self._sweep else self._searched)(block, relevant, first, last)
        if places is None:  # too many are near: so it will be for the next block
            self._single = None
            return self.counts(block._replace(products=_product(block.queries, self._items.double())), first, last)
        if not self._points.exact_bits:
            # Relevant items that tie have the precision of the last of them, whether or not another item is near.
            twins = (relevant.diff(dim=1) <= 2 * block.off).any(1).nonzero()[:, 0]
            close = places.row
            if len(close):
                close = close[_apart(relevant, places) <= 2 * block.off[close, 0]]
            for row in torch.cat([close, twins]).unique().tolist():
                self._settle(block, row, relevant[row], places, first)
        if len(places.row):
            _count(places, relevant)
        up_to = places.below.cumsum(1)
        ahead = up_to[:, -1:] - up_to[:, :-1]
        return _counts(relevant, ahead, ahead + places.ties.cumsum(1)[:, :-1])

    # ------------------------------------------------------------------------------------------------------- scores

    def _scores(self, products: torch.Tensor, items: slice | torch.Tensor = slice(None)) -> torch.Tensor:
        """Scores (..., n) float64 that fall as the distance grows, of the products with those items."""
        scores = products.double()
        if self._points.distance == "euclidean":
            return scores - self._lift[items]
        if self._points.exact_bits:  # p |p| / |g|^2 has the cosine's order, and one rounding: what is equal stays equal
            return scores * scores.abs() / self._square[items].clip(1)
        return scores.clone() if scores is products else scores

    def _bound(self, block: Block, size: torch.Tensor) -> torch.Tensor:
        """How far the score of any item may be from a relevant one of at most that size, and yet be equal, (B, 1)."""
        bound = 2 * block.off
        if block.products.dtype == torch.float32 and not self._points.exact_bits:
            largest = size + self._largest_lift + block.length_4 * self._largest_4
            bound = bound + self._share * largest + self._least
        return bound

    # ------------------------------------------------------------------------------------------------------- places

    def _swept(self, block: Block, relevant: torch.Tensor, first: int, last: int) -> Places | None:
        """The places by `sweep`; None where too many items are near."""
        from ucdr_core.retrieval.sweep import sweep  # takes a moment, and is not always needed

        products, exact = block.products.numpy(), self._points.exact_bits > 0
        if exact and self._points.distance == "cosine":
            products = self._scores(block.products).numpy()
            lift = narrow = np.zeros(len(self._items))
        else:
            lift = self._lift.numpy()
            narrow = self._narrow_lift if products.dtype == np.float32 else lift
        single = products.dtype == np.float32
        size = relevant.abs().amax(1, keepdim=True)
        rounding = 8 * (SINGLE if single else DOUBLE) * (size + self._largest_lift)  # of the pass itself
        reach = (self._bound(block, size) + rounding).numpy()[:, 0]
        share = self._share * (single and not exact)
        items, (queries, count) = len(self._items), relevant.shape
        below, ties = (np.zeros((queries, count + 1), np.int64) for _ in range(2))
        doubled, start, found = np.zeros(queries, np.int64), (0, 0), []
        row, item, score = np.empty(2 * items, np.int32), np.empty(2 * items, np.int32), np.empty(2 * items)
        while start[0] < queries:
            start = sweep(
                products, first, last, lift, narrow, self._length_4.numpy(), block.queries.numpy(),
                block.length_4.numpy()[:, 0], self._items.numpy(), relevant.numpy(), reach, block.off.numpy()[:, 0],
                share, self._least, exact, below, ties, doubled, row, item, score, (start[0], 0),
            )  # fmt: skip
            if doubled[: start[0]].sum() > MANY * items * start[0]:
                return None
            found.append([each[: start[1]].copy() for each in (row, item, score)])
        row, item, score = (torch.from_numpy(np.concatenate(each)) for each in zip(*found))
        return Places(torch.from_numpy(below), torch.from_numpy(ties), row.long(), item.long(), score)

    def _searched(self, block: Block, relevant: torch.Tensor, first: int, last: int) -> Places | None:
        """The same by a binary search for each item."""
        scores = self._scores(block.products)
        scores[:, first:last] = -torch.inf
        place = torch.searchsorted(relevant, scores)
        edges = torch.nn.functional.pad(relevant, (1, 1), value=torch.inf)
        edges[:, 0] = -torch.inf
        apart = torch.minimum(scores - edges.gather(1, place), edges.gather(1, place + 1) - scores)  # relevant: NaN
        row, item = (apart <= self._bound(block, relevant.abs().amax(1, keepdim=True))).nonzero(as_tuple=True)
        scores = scores[row, item]
        if block.products.dtype == torch.float32 and not self._points.exact_bits:
            length_4 = block.length_4[row, 0] * self._length_4[item]
            wide = self._share * torch.hypot(block.products[row, item].double(), length_4) + self._least
            some = apart[row, item] <= 2 * block.off[row, 0] + wide
            row, item = row[some], item[some]
            if len(row) > MANY * block.products.numel():
                return None
            scores = self._scores(self._products(block.queries, row, item), item)
        queries, count = relevant.shape
        place[row, item] = 0  # they are counted later, and nothing is below place 0
        place += torch.arange(queries, device=place.device)[:, None] * (count + 1)
        below = place.flatten().bincount(minlength=queries * (count + 1)).view(queries, count + 1)
        return Places(below, torch.zeros_like(below), row, item, scores)

    def _products(self, queries: torch.Tensor, row: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Of pairs of a query and an item, (T,) float64."""
        pairs = zip(row.split(PIECE), items.split(PIECE))
        return torch.cat([torch.linalg.vecdot(queries[some], self._items[others].double()) for some, others in pairs])

    def _settle(self, block: Block, row: int, relevant: torch.Tensor, near: Places, first: int) -> None:
        """Puts whole numbers in the order of nearness in the place of one query's scores, relevant (R,) and near."""
        mine = (near.row == row).nonzero()[:, 0]
        stop = first + len(relevant)
        items = torch.cat([torch.arange(first, stop, device=mine.device), near.item[mine]]).cpu().numpy()
        own = self._scores(torch.mv(self._items[first:stop].double(), block.queries[row]), slice(first, stop))
        scores = torch.cat([own, near.scores[mine]]).cpu().numpy()
        order, cluster = np.argsort(scores), np.zeros(len(items), int)
        cluster[order[1:]] = np.cumsum(np.diff(scores[order]) > 2 * float(block.off[row]))
        # One entry for each cluster and embedding in it: the same embedding needs no arithmetic to be as near.
        entries, of_each = np.unique(cluster * len(self._items) + self._first_equal[items], return_inverse=True)
        cluster, gallery_row = np.divmod(entries, len(self._items))
        several = np.bincount(cluster)[cluster] > 1
        within = np.zeros(len(entries), int)
        if several.any():
            embeddings = self._gallery[gallery_row[several]]
            within[several] = nearness(block.rows[row], embeddings, cluster[several], self._points.distance)
        rank = (cluster * (len(items) + 1) + within)[of_each]
        ranks = torch.from_numpy(rank.astype(float)).to(relevant)
        relevant[:] = ranks[: len(relevant)].sort().values
        near.scores[mine] = ranks[len(relevant) :]

    @cached_property
    def _first_equal(self) -> np.ndarray:
        """Of each item the row of the gallery that is the first with its embedding, (N,)."""
        return _first_equal(self._gallery)[self._order]


def _counts(relevant: torch.Tensor, ahead: torch.Tensor, within: torch.Tensor) -> Counts:
    """Of relevant scores (B, R), ascending, and the numbers of other items ahead of each, and ahead or equal."""
    if (relevant.diff(dim=1) == 0).any():
        relevant_ahead, relevant_within = _above(relevant, relevant), _above(relevant, relevant, or_equal=True)
    else:
        relevant_within = torch.arange(relevant.shape[1], 0, -1, device=relevant.device)[None]
        relevant_ahead = relevant_within - 1
    return Counts(ahead + relevant_ahead, within + relevant_within, relevant_ahead, relevant_within)


def _count(places: Places, relevant: torch.Tensor) -> None:
    """Adds the items that are near to the others."""
    row, one = places.row, torch.ones_like(places.row)
    place, beyond = (_place(relevant, row, places.scores, right) for right in (False, True))
    places.below.index_put_((row, place), one, accumulate=True)
    places.ties.index_put_((row, place), one, accumulate=True)
    places.ties.index_put_((row, beyond), -one, accumulate=True)


def _place(relevant: torch.Tensor, row: torch.Tensor, scores: torch.Tensor, or_equal: bool = False) -> torch.Tensor:
    """How many of the relevant scores (B, R), ascending, of its row each score (T,) is above, or as much as."""
    low, high = torch.zeros_like(row), torch.full_like(row, relevant.shape[1])
    for _ in range(relevant.shape[1].bit_length()):
        middle = (low + high) // 2
        value = relevant[row, middle.clamp(max=relevant.shape[1] - 1)]
        above = (low < high) & ((value <= scores) if or_equal else (value < scores))
        low, high = torch.where(above, middle + 1, low), torch.where(above, high, middle)
    return low


def _apart(relevant: torch.Tensor, places: Places) -> torch.Tensor:
    """How far each near item is from the nearest relevant score of its row, (T,)."""
    place, last = _place(relevant, places.row, places.scores), relevant.shape[1] - 1
    sides = (relevant[places.row, side.clamp(0, last)] for side in (place - 1, place))
    return torch.minimum(*((each - places.scores).abs() for each in sides))


def _above(scores: torch.Tensor, edges: torch.Tensor, or_equal: bool = False) -> torch.Tensor:
    """How many of each row's scores (B, M), ascending, are above each edge (B, R)."""
    return scores.shape[1] - torch.searchsorted(scores, edges, right=not or_equal)


def _ascending(scores: torch.Tensor) -> torch.Tensor:
    """Each row (B, M) sorted; on the CPU in place."""
    if scores.is_cuda:
        return scores.sort(dim=1).values
    scores.numpy().sort(axis=1)
    return scores


def _product(queries: torch.Tensor, items: torch.Tensor, out: np.ndarray | None = None) -> torch.Tensor:
    """(B, N); on the CPU by NumPy, whose library is up to 1.5 times as fast as torch's there."""
    if queries.is_cuda:
        return queries @ items.T
    return torch.from_numpy(np.matmul(queries.numpy(), items.numpy().T, out=out))


def _first_equal(rows: np.ndarray) -> np.ndarray:
    """Of each row (n, d) the position of the first that equals it, (n,) int."""
    number = np.arange(len(rows))
    if rows.dtype.itemsize > 8:  # a long double has bytes that mean nothing
        return number
    _, group, size = np.unique(rows[:, 0], return_inverse=True, return_counts=True)
    candidates = np.flatnonzero(size[group] > 1)  # no other row can have an equal
    if len(candidates):
        values = np.ascontiguousarray(rows[candidates] + rows.dtype.type(0))  # -0 becomes 0, which has other bytes
        whole = values.view(np.dtype((np.void, values.itemsize * values.shape[1])))[:, 0]
        _, first, group = np.unique(whole, return_index=True, return_inverse=True)
        number[candidates] = candidates[first[group]]
    return number
