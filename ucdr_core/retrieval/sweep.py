"""One pass over the scores of a gallery on the CPU, compiled: where among a query's relevant items does each stand?

The range of the relevant scores is cut into many equal steps.  Most steps have no relevant score in reach, so that all
items there stand in the same place, and the step's number tells it.  The other items, some in a hundred, are looked at
one by one.
"""

from __future__ import annotations

import numpy as np
from numba import njit

STEPS_EACH, STEPS_LEAST, STEPS_MOST = 32, 1 << 10, 1 << 16  # steps for each relevant score; a core's cache holds those
SLACK = 0.05  # steps by which the number of a step may be off, in single precision


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})  # sums in any order: `off` allows for all
def _product(query, item):
    total = 0.0
    for place in range(len(query)):
        total += query[place] * item[place]
    return total


@njit(nogil=True, cache=True)
def _fill(table, relevant, reach, low, scale):
    """For each step the place of all its items, or -1 less the first that one of them may have."""
    start, count, last = 0, len(relevant), len(table) - 1
    for place in range(count):
        from_step = min(int((relevant[place] - reach - low) * scale - SLACK), last)
        to_step = min(int((relevant[place] + reach - low) * scale + SLACK), last)
        for step in range(start, from_step):
            table[step] = place
        for step in range(max(start, from_step), to_step + 1):
            table[step] = -1 - place
        start = max(start, to_step + 1)
    for step in range(start, len(table)):
        table[step] = count


@njit(nogil=True, cache=True)
def sweep(
    products, first, last, lift, narrow_lift, lengths_4, queries, length_4, items, relevant, reach, off, share,
    least, exact, below, ties, doubled, close_row, close_item, close_score, start,
):  # fmt: skip
    """Counts items by the place that they have among the relevant ones of their query; returns how far it came.

    products      (B, N) of queries and items; those of the relevant items, first to last - 1, become -inf
    lift, narrow_lift, lengths_4  (N,) of the items, see `Ranks`; the second as precise as the products
    queries, length_4, items      (B, d) and (B,) in double precision, (N, d)
    relevant      (B, R) scores in double precision, ascending
    reach         (B,) how far an item's score in the pass may be from a relevant one, and yet be equal
    off           (B,) how far a score in double precision may be from the true one
    share, least  the error of a product as a share of its size, and the least; share 0: it is in `off`
    exact         products need no rounding: scores are compared as they are
    below, ties   (B, R + 1) int64 zeros, to be filled: items above so many relevant ones, and +1 and -1 where
                  those that an item ties with begin and end
    doubled       (B,) int64, to be filled: how many items were scored again in double precision
    close_*       (C,) the rows, numbers and scores of items that double precision cannot tell from a relevant one
    start         (row, number of close items) to begin with; returned likewise, the row B when all is done
    """
    row, close = start
    count, size = relevant.shape[1], products.shape[1]
    table = np.empty(min(max(STEPS_LEAST, STEPS_EACH * count), STEPS_MOST), np.int32)
    steps, candidates = np.empty(size, np.int32), np.empty(size + 1, np.int32)
    top = narrow_lift.dtype.type(len(table) - 1)
    zero = narrow_lift.dtype.type(0)
    counts = np.empty(count + 2, np.int64)
    while row < len(products) and close + size <= len(close_row):
        scores, edges = products[row], relevant[row]
        scores[first:last] = -np.inf
        widest = max(abs(edges[0]), abs(edges[count - 1]))
        margin = reach[row] + widest * 2.0**-20 + least
        margin += 4 * (edges[count - 1] - edges[0]) / len(table)  # no relevant score is in reach of the outer steps
        low = edges[0] - margin
        scale = len(table) / (edges[count - 1] + margin - low)
        _fill(table, edges, reach[row], low, scale)
        narrow_low, narrow_scale = narrow_lift.dtype.type(low), narrow_lift.dtype.type(scale)
        for item in range(size):  # in a loop of its own several are computed at once
            step = (scores[item] - narrow_lift[item] - narrow_low) * narrow_scale
            step = step if step > zero else zero
            steps[item] = int(step if step < top else top)
        counts[:] = 0
        found = np.uint32(0)  # what may be negative would be looked at as a place from the end
        for item in range(size):
            place = table[np.uint32(steps[item])]
            counts[np.uint32(max(place, -1) + 1)] += 1
            candidates[found] = item
            found += np.uint32(place < 0)
        below[row] = counts[1:]
        for item in candidates[:found]:
            place = -1 - table[steps[item]]
            product = np.float64(scores[item])
            score = product - lift[item]
            if exact:
                while place < count and edges[place] < score:
                    place += 1
                ties[row, place] += 1
                below[row, place] += 1
                while place < count and edges[place] == score:
                    place += 1
                ties[row, place] -= 1
                continue
            bound = 2 * off[row]
            if share > 0:
                other = length_4[row] * lengths_4[item]
                wide = share * np.sqrt(product * product + other * other) + least
                while place < count and edges[place] < score - bound - wide:
                    place += 1
                if place < count and edges[place] <= score + bound + wide:
                    doubled[row] += 1
                    score = _product(queries[row], items[item]) - lift[item]
            while place > 0 and edges[place - 1] >= score - bound:
                place -= 1
            while place < count and edges[place] < score - bound:
                place += 1
            if place < count and edges[place] <= score + bound:
                close_row[close], close_item[close], close_score[close] = row, item, score
                close += 1
            else:
                below[row, place] += 1
        row += 1
    return row, close
