"""Files of word vectors: the values that they hold, or a refusal by their name."""

import tempfile
from pathlib import Path

import numpy as np
import strategies
from cases import Case, bounded, held, refusal, unchanged
from hypothesis import given

from ucdr_core.data import DataError
from ucdr_core.methods import semantics

NAMES = strategies.CLASSES  # the last, house, has other words
WORDS = (*NAMES[:-1], "the", "home")


def check(case: Case, folder: Path) -> str:
    case.lay(folder)
    path = folder / case.values["name"]
    with bounded(), unchanged(folder):
        taken, _ = refusal(
            lambda: semantics.class_vectors(NAMES, path, {"house": "the home"}), (DataError,), case.values["name"]
        )
    rows = case.values["rows"]
    if taken is None:
        held(rows is None, "refuses good vectors")
        return "refused"
    held(taken.ndim == 2 and len(taken) == len(NAMES) and taken.dtype == np.float64, f"gives {taken.shape}")
    held(bool(np.isfinite(taken).all()), "gives vectors that are not finite")
    if rows is not None:
        known = {**rows, "house": np.mean([rows["the"], rows["home"]], axis=0)}
        held(np.array_equal(taken, [known[name] for name in NAMES]), "gives other values than the file holds")
    elif path.suffix in (".txt", ".vec"):
        written = text(path)
        for name, row in zip(NAMES[:-1], taken):
            held(
                written.get(name) is not None,
                f"takes {name!r}, which the file holds not once as {taken.shape[1]} numbers",
            )
            held(np.array_equal(row, written[name]), f"gives other values for {name!r} than the file holds")
    return "taken"


def text(path: Path) -> dict[str, np.ndarray | None]:
    """{word: its numbers}, None where it is written more than once, unless as the same."""
    found: dict[str, np.ndarray | None] = {}
    for line in path.read_bytes().decode().split("\n"):
        word, _, numbers = line.partition(" ")
        if word in WORDS:
            values = np.array([float(one) for one in numbers.split()])
            held(values.size > 0, f"takes the line {line!r}")
            before = found.get(word, values)
            found[word] = values if before is not None and np.array_equal(before, values) else None
    return found


@given(strategies.vectors())
def test_vectors_are_taken_as_written_or_refused(case):
    with tempfile.TemporaryDirectory() as folder:
        check(case, Path(folder))
