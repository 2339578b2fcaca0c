"""Embeddings of queries and gallery as points in double precision, whose products rank as their distances do.

    euclidean   the coordinates less a common centre: an offset that all share costs digits, and tells nothing
    cosine      rows of length 1

In each dimension the centre is rounded to a multiple of a power of two above the spread there.  So embeddings that lie
around 0 are left as they are, and whole numbers stay whole.  Values far from 1 are scaled by a power of two, which
costs nothing.

Codes of a few bits and counts are small whole numbers times one unit.  Their products need no rounding, in single
precision neither; they are recognised, because many of their distances are equal.
"""

from __future__ import annotations

import numpy as np

from ucdr_core.retrieval.inputs import PIECE

SCALED_BEYOND = 20  # sizes from 2^-20 to 2^20 are left as they are
DOUBLE_BITS = 53
# Bits of the squared length of whole-numbered points up to which products need no rounding, in single precision too up
# to the first.  For the cosine p^2 / |g|^2 of two such points then differ by 2^-48 of their size, or not at all.
EXACT_SINGLE, EXACT_BITS = 24, {"euclidean": 50, "cosine": 16}
FINEST_BITS = 24  # how much smaller than the largest number the unit may be


class Points:
    """Turns rows (n, d) of either side into points (n, d) float64.

    exact_bits  where the points are whole numbers whose products need no rounding, the bits of their largest squared
                length; else 0.  For the cosine they are then not of length 1

    Raises ValueError where one side has whole numbers that float64 cannot hold, and the other has others.
    """

    def __init__(self, queries: np.ndarray, gallery: np.ndarray, distance: str):
        self.distance, sides = distance, (queries, gallery)
        self._offset = _offset(sides, distance)
        low = np.minimum(*(self.values(side.min(axis=0)) for side in sides))
        high = np.maximum(*(self.values(side.max(axis=0)) for side in sides))
        exponent = int(np.frexp(np.maximum(np.abs(low), np.abs(high)).max())[1])
        self._exponent, self._centre = 0, None
        if distance == "euclidean":
            self._exponent = exponent if abs(exponent) > SCALED_BEYOND else 0
            centre = _centre(np.ldexp(low, -self._exponent), np.ldexp(high, -self._exponent))
            self._centre = centre if centre.any() else None
        self._unit, self.exact_bits = None, 0
        if not _has_long(sides, 0 if self._offset is None else self._offset):
            self._find_unit(sides)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        values = self._placed(rows)
        if self._unit is not None:
            return (values / self._unit).astype(np.float64)
        return unit_rows(values) if self.distance == "cosine" else values.astype(np.float64, copy=False)

    def values(self, rows: np.ndarray) -> np.ndarray:
        """The rows in float64 or wider; whole numbers that have more digits less a common one."""
        if self._offset is not None:  # modulo 2^64, and no difference is as large
            return (rows.astype(np.uint64) - np.uint64(self._offset % 2**64)).astype(np.float64)
        return rows.astype(np.result_type(rows.dtype, np.float64))

    def _scaled(self, rows: np.ndarray) -> np.ndarray:
        values = self.values(rows)
        return np.ldexp(values, -self._exponent) if self._exponent else values

    def _placed(self, rows: np.ndarray) -> np.ndarray:
        return self._scaled(rows) if self._centre is None else self._scaled(rows) - self._centre

    def _is_kept(self, rows: np.ndarray, placed: np.ndarray) -> bool:
        """Whether no digit was lost on the way."""
        scaled = placed if self._centre is None else placed + self._centre
        values = self.values(rows)
        return bool((scaled == self._scaled(rows)).all() and (np.ldexp(scaled, self._exponent) == values).all())

    def _find_unit(self, sides: tuple[np.ndarray, np.ndarray]) -> None:
        """Sets the number of which every coordinate is a small whole multiple, if there is one."""
        size = np.concatenate([np.abs(self._placed(side[:64])).ravel() for side in sides])
        smallest, largest = size[size > 0].min(initial=np.inf), size.max()
        if largest == 0:
            unit = 1.0
        elif smallest == largest:
            unit = largest
        else:
            unit = np.ldexp(largest / largest, np.frexp(largest)[1] - FINEST_BITS)
        bits, square = 0, 0.0
        for part in (side[start : start + PIECE] for side in sides for start in range(0, len(side), PIECE)):
            placed = self._placed(part)
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                multiples = placed / unit
            if not (np.rint(multiples) == multiples).all() or np.abs(multiples).max() > 2**48:
                return
            if not self._is_kept(part, placed):
                return
            bits |= int(np.bitwise_or.reduce(np.abs(multiples).astype(np.int64), axis=None))
            square = max(square, float(np.square(multiples).sum(axis=1).max()))
        common = (bits & -bits) or 1  # no bit below this one is set anywhere
        exact_bits = max(1, int(square / common**2).bit_length())
        if exact_bits <= EXACT_BITS[self.distance]:
            self._unit, self.exact_bits = unit * common, exact_bits


def unit_rows(values: np.ndarray) -> np.ndarray:
    """Rows of length 1 in float64, whatever their size; rows of zeros stay."""
    largest = np.abs(values).max(axis=1, keepdims=True)
    if (np.abs(np.frexp(largest)[1]) > SCALED_BEYOND).any():
        values = np.ldexp(values, -np.frexp(largest)[1])
    values = values.astype(np.float64, copy=False)
    length = np.sqrt(np.square(values).sum(axis=1, keepdims=True))
    return values / np.where(length > 0, length, 1)


def _has_long(sides: tuple[np.ndarray, ...], offset: int = 0) -> bool:
    """Whether a whole number, less the offset, has more digits than a float64."""
    return any(
        max(abs(int(side.min()) - offset), abs(int(side.max()) - offset)) > 2**DOUBLE_BITS
        for side in sides
        if side.dtype.kind in "iu"
    )


def _offset(sides: tuple[np.ndarray, np.ndarray], distance: str) -> int | None:
    """What is taken off whole numbers that have more digits than a float64; None where none has, and for the cosine."""
    if distance == "cosine" or not _has_long(sides):
        return None
    if not all(side.dtype.kind in "iu" for side in sides):
        raise ValueError(
            "embeddings of one side are whole numbers that have more digits than double precision, and those of the "
            "other are not whole; give both as whole numbers or both as floating-point numbers"
        )
    return min(int(side.min()) for side in sides)


def _centre(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The middle of each dimension, as a multiple of a power of two above its width; (d,)."""
    step = np.ldexp(np.ones_like(low), np.frexp(high - low)[1])
    return np.where(high > low, np.rint((low + (high - low) / 2) / step) * step, low)
