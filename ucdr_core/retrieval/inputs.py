"""Embeddings and labels as anyone gives them: checked, and refused where a value would not be kept."""

from __future__ import annotations

import numbers
from fractions import Fraction
from typing import Any

import numpy as np
import torch

PIECE = 8192  # rows that are looked at together: no second copy of a large array
NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)


def embeddings(values: Any, name: str) -> np.ndarray:
    """The array (n, d) of finite numbers, in the kind of number that was given.

    Raises ValueError saying what is wrong with it.
    """
    what = f"{name} embeddings"
    array = _array(values, what)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{what} must be numbers, not {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{what} must have shape (n, d) with n, d >= 1, not {array.shape}")
    for start in range(0, len(array), PIECE):
        finite = np.isfinite(array[start : start + PIECE]).all(axis=1)
        if not finite.all():
            raise ValueError(f"{what} hold NaN or infinity, first in row {start + int(np.flatnonzero(~finite)[0])}")
    return array.view(np.uint8) if array.dtype.kind == "b" else array


def class_codes(query_labels: Any, gallery_labels: Any, queries: int, gallery: int) -> tuple[np.ndarray, np.ndarray]:
    """A number for each label, (queries,) and (gallery,) int: the same one where labels are equal.

    Labels are compared as Python compares them, so that 2**53 and 2**53 + 1 differ whatever arrays hold them; bytes are
    text in UTF-8.  Raises ValueError where one side holds text and the other numbers, or anything else.
    """
    codes: dict[Any, int] = {}
    sides, kinds = [], []
    for values, count, name in ((query_labels, queries, "query"), (gallery_labels, gallery, "gallery")):
        distinct, of_each = _distinct(values, count, f"{name} labels")
        kinds.append({"text" if isinstance(label, str) else "numbers" for label in distinct})
        sides.append(np.array([codes.setdefault(label, len(codes)) for label in distinct], int)[of_each])
    if len(kinds[0] | kinds[1]) > 1:
        raise ValueError(
            f"query and gallery labels are of different kinds ({' and '.join(sorted(kinds[0]))}; "
            f"{' and '.join(sorted(kinds[1]))}); give all as text or all as numbers"
        )
    return sides[0], sides[1]


def _distinct(values: Any, count: int, what: str) -> tuple[list[Any], np.ndarray]:
    """Distinct labels as Python's own, and for each item the position of its label there."""
    if isinstance(values, (list, tuple)):  # as an array, "a" and "a\0" would be the same, and 1 and "1"
        array = np.empty(len(values), object)
        for place, value in enumerate(values):
            array[place] = value
    else:
        array = _array(values, what)
    if array.shape != (count,):
        raise ValueError(f"{what} must have shape ({count},), one per embedding, not {array.shape}")
    if array.dtype.kind in "OT":
        numbered: dict[Any, int] = {}
        of_each = np.array([numbered.setdefault(_label(value, what), len(numbered)) for value in array], int)
        return list(numbered), of_each
    if array.dtype.kind not in "fiubSU":
        raise ValueError(f"{what} must be text or real numbers, not {array.dtype}")
    distinct, of_each = np.unique(array, return_inverse=True)
    return [_label(value, what) for value in distinct], of_each


def _label(value: Any, what: str) -> Any:
    if isinstance(value, (bytes, str)):  # bytes that are not UTF-8 are like no text
        return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)
    if isinstance(value, np.generic) and not isinstance(value, np.longdouble):
        value = value.item()
    if not isinstance(value, (numbers.Real, np.longdouble)):
        raise ValueError(f"{what} must be text or real numbers, not {type(value).__name__}")
    if isinstance(value, numbers.Rational):
        return value
    if not np.isfinite(value):
        raise ValueError(f"{what} hold NaN or infinity")
    return Fraction(*value.as_integer_ratio()) if isinstance(value, np.longdouble) else value


def _array(values: Any, what: str) -> np.ndarray:
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(f"{what} are masked in part; leave those rows out")
    try:
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
            if values.is_floating_point() and values.dtype not in NUMPY_FLOATS:
                values = values.float()  # bfloat16, which NumPy lacks, and the like
            values = values.resolve_conj().resolve_neg()
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} are no array of numbers or text ({error})") from error
