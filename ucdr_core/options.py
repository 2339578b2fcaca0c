"""Options: frozen dataclasses whose annotations say what a value may be, and the one place that checks them.

    dim: Width = 64
    noise: Annotated[float, Range(0, 1)] = 0.3
    kind: Literal["paper", "code"] = "paper"

A number is finite, and lies in its `Range` where it has one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


class OptionError(ValueError):
    """An option is unknown, of the wrong type, or out of range."""


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`; of a tuple, how many entries it may have.

    open   ends that are not among them: "low", "high" or "both"
    """

    low: float
    high: float = math.inf
    open: Literal["", "low", "high", "both"] = ""

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open in ("low", "both") else value >= self.low
        return above and (value < self.high if self.open in ("high", "both") else value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"above {self.low:g}" if self.open else f"at least {self.low:g}"
        left, right = "(" if self.open in ("low", "both") else "[", ")" if self.open in ("high", "both") else "]"
        return f"in {left}{self.low}, {self.high}{right}"


LONGEST_TEXT = 1000  # of a name or a path

Width = Annotated[int, Range(1, 1 << 14)]  # of a layer, or of what is embedded
Count = Annotated[int, Range(1, 1 << 20)]
Share = Annotated[float, Range(0, 1)]
ShareBelow1 = Annotated[float, Range(0, 1, open="high")]
Weight = Annotated[float, Range(0, 1e6)]
Positive = Annotated[float, Range(0, 1e6, open="low")]


def from_mapping(cls, values: Mapping[str, Any], what: str):
    """The dataclass `cls` from a mapping.

    An int is taken for a float; nothing else is converted.  Literal types list the allowed values, tuples take lists.
    Raises OptionError for unknown names, wrong types and values out of their range, naming what is allowed; it starts
    with `what`.
    """
    if not isinstance(values, Mapping):
        raise OptionError(f"{what} must be a mapping, not {_shown(values)}")
    known = {f.name for f in fields(cls) if f.init}
    unknown = sorted(set(values) - known, key=str)
    if unknown:
        raise OptionError(
            f"{what}: unknown option {', '.join(map(_shown, unknown))}; known: {', '.join(sorted(known)) or 'none'}"
        )
    hints = get_type_hints(cls, include_extras=True)
    typed = {name: checked(value, hints[name], f"{what}: {name}") for name, value in values.items()}
    try:
        return cls(**typed)
    except TypeError as error:
        raise OptionError(f"{what}: {error}") from error


def checked(value: Any, hint: Any, where: str) -> Any:
    """The value as the annotation has it.  Raises OptionError where it is not allowed; it starts with `where`."""
    kind = get_origin(hint)
    if kind is Annotated:
        hint, *bounds = get_args(hint)
        value = checked(value, hint, where)
        number = len(value) if isinstance(value, tuple) else value
        for bound in bounds:
            if number is not None and not bound.holds(number):
                what = "the number of its entries" if isinstance(value, tuple) else "it"
                raise OptionError(f"{where}: {what} must be {bound}, not {_shown(number)}")
        return value
    if kind is Literal:
        allowed = get_args(hint)
        if not any(type(value) is type(one) and value == one for one in allowed):
            raise OptionError(f"{where} must be one of {', '.join(map(repr, allowed))}, not {_shown(value)}")
        return value
    if kind is tuple:
        if not isinstance(value, (list, tuple)):
            raise OptionError(f"{where} must be a list of {_name(get_args(hint)[0])}, not {_shown(value)}")
        return tuple(checked(one, get_args(hint)[0], f"{where}, entry {place}") for place, one in enumerate(value))
    if kind is dict or hint is dict:
        if not isinstance(value, dict):
            raise OptionError(f"{where} must be a mapping, not {_shown(value)}")
        return value
    allowed = get_args(hint) or (hint,)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and (float in allowed or isinstance(value, float)) and not _finite(value):
        raise OptionError(f"{where} must be finite, not {_shown(value)}")
    if is_number and float in allowed:
        return float(value)
    if isinstance(value, bool) and bool not in allowed or not isinstance(value, allowed):
        raise OptionError(f"{where} must be {_name(hint)}, not {_shown(value)} ({type(value).__name__})")
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise OptionError(f"{where} must have at most {LONGEST_TEXT:,} characters, not {len(value):,}")
    return value


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float holds
        return False


def _name(hint: Any) -> str:
    hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return " or ".join("none" if one is type(None) else one.__name__ for one in get_args(hint) or (hint,))


def _shown(value: Any, length: int = 80) -> str:
    """On one line, and not the whole of it where that is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of thousands of digits, a mapping of endless depth
        text = f"a {type(value).__name__} too long to print"
    return text if len(text) <= length else f"{text[:length]}..."
