"""Progress: a bar on a terminal, and where the errors go to a file or a log one plain line every half minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 30.0


def bar(
    iterable: Iterable | None = None,
    total: int | None = None,
    desc: str = "",
    unit: str = "it",
    disable: bool = False,
    initial: int = 0,
    unit_scale: bool = False,
) -> tqdm | Lines:
    """Shows how far a loop is on stderr: iterate over it, or use it as a context manager and call `update`.

    total       of the iterable; default: its length, where it has one
    initial     how many were done before
    unit_scale  write thousands as k, millions as M: of bytes
    """
    if disable or sys.stderr.isatty():
        return tqdm(
            iterable,
            desc=desc,
            total=total,
            unit=unit,
            disable=disable,
            initial=initial,
            unit_scale=unit_scale,
            dynamic_ncols=True,
        )
    return Lines(iterable, total, desc, unit if unit_scale else "", initial)


class Lines:
    """What tqdm shows, as lines: `runs: 120 of 935 done, 2 failed, about 12 min left`.

    A loop of less than half a minute prints none.
    """

    def __init__(self, iterable: Iterable | None, total: int | None, desc: str, scaled_unit: str, initial: int):
        self.iterable, self.desc, self.scaled_unit = iterable, desc, scaled_unit
        self.total = len(iterable) if total is None and hasattr(iterable, "__len__") else total  # type: ignore[arg-type]
        self.n = self.initial = initial
        self.postfix: dict[str, Any] = {}
        self.started = self.printed = time.monotonic()

    def __iter__(self) -> Iterator:
        with self:
            for item in self.iterable or ():
                yield item
                self.update()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        self.n += n
        self.refresh()

    def set_postfix(self, ordered_dict: dict[str, Any] | None = None, refresh: bool = True, **values: Any) -> None:
        """Counts are written `2 failed`, other values `loss 0.31`."""
        self.postfix = {**(ordered_dict or {}), **values}

    def set_description(self, desc: str = "", refresh: bool = True) -> None:
        self.desc = desc

    def refresh(self) -> None:
        """Prints a line if the last one is half a minute old."""
        now = time.monotonic()
        if now - self.printed < LINE_SECONDS:
            return
        self.printed = now
        fresh = self.n - self.initial
        if fresh and self.total is not None and self.n < self.total:
            self._print(f"about {duration((now - self.started) / fresh * (self.total - self.n))} left")
        else:
            self._print(f"{duration(now - self.started)} so far")

    def close(self) -> None:
        """Prints a last line after a loop that took half a minute or more."""
        seconds = time.monotonic() - self.started
        if seconds >= LINE_SECONDS:
            self._print(f"{duration(seconds)} in all")

    def _print(self, time_text: str) -> None:
        done = self._number(self.n) + (f" of {self._number(self.total)}" if self.total is not None else "") + " done"
        values = [
            f"{value} {name}" if isinstance(value, int) else f"{name} {value}" for name, value in self.postfix.items()
        ]
        print(f"{self.desc}: {', '.join([done, *values, time_text])}", file=sys.stderr, flush=True)

    def _number(self, count: int) -> str:
        return tqdm.format_sizeof(count, self.scaled_unit) if self.scaled_unit else str(count)


def duration(seconds: float) -> str:
    """3 s, 5 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
