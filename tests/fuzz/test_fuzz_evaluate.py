"""`ucdr evaluate` on .npz files: the score of exact arithmetic, or a refusal."""

import io
import json
import math
import tempfile
import zipfile
from fractions import Fraction
from pathlib import Path
from unittest.mock import patch

import numpy as np
import strategies
from cases import Case, answered, bounded, held, ucdr, unchanged
from hypothesis import given

from ucdr_core.retrieval import metrics

NEAR = Fraction(1, 10**9)  # distances that differ by less, relatively, may rank either way


def check(case: Case, folder: Path) -> str:
    case.lay(folder)
    files, distance = [folder / "q.npz", folder / "g.npz"], case.values["distance"]
    with bounded(), unchanged(folder):
        arguments = ["evaluate", "--query", files[0], "--gallery", files[1], "--distance", distance, "--json"]
        result = ucdr(*arguments)
        with patch.object(metrics, "SWEEP_FROM", 0):
            held(ucdr(*arguments) == result, "the compiled pass answers otherwise than a search")
    if not answered(result, "q.npz", "g.npz"):
        held(not case.values["ordinary"], f"refuses ordinary arrays: {result[2]}")
        return "refused"
    answer = json.loads(result[1])
    (queries, query_labels), (gallery, gallery_labels) = map(read, files)
    held((answer["queries"], answer["gallery"]) == (len(queries), len(gallery)), "counts other rows than there are")
    low, high = bounds(queries, query_labels, gallery, gallery_labels, distance)
    for name in low:
        held(
            low[name] - 1e-9 <= answer[name] <= high[name] + 1e-9,
            f"{name} is {answer[name]:.6f}, by exact arithmetic {low[name]:.6f} to {high[name]:.6f}",
        )
    return "scored"


@given(strategies.evaluations())
def test_arrays_are_scored_right_or_refused(case):
    with tempfile.TemporaryDirectory() as folder:
        check(case, Path(folder))


# -------------------------------------------------------------------------------------------------------- the oracle


def read(path: Path) -> tuple[list[list[Fraction]], list]:
    """Embeddings as exact numbers, and labels.  What is not whole, or says two things, is broken."""
    arrays = {}
    try:
        with zipfile.ZipFile(path) as pack:
            held(pack.testzip() is None, f"scores {path.name}, whose checksum is wrong")
            held(not any(one.flag_bits & 1 for one in pack.infolist()), f"scores {path.name}, which is encrypted")
            names = [name.removesuffix(".npy") for name in pack.namelist()]
            for name in ("embeddings", "labels"):
                held(names.count(name) == 1, f"scores {path.name}, which holds {names.count(name)} arrays {name!r}")
                content = io.BytesIO(pack.read(pack.infolist()[names.index(name)]))
                arrays[name] = np.lib.format.read_array(content, allow_pickle=False)
                held(not content.read(), f"scores {path.name}, where bytes follow {name}")
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, RuntimeError) as error:
        held(False, f"scores {path.name}, which an independent reader refuses: {error}")
    embeddings, labels = arrays["embeddings"], arrays["labels"]
    held(embeddings.dtype.kind in "fiub" and embeddings.ndim == 2, f"scores {embeddings.dtype} {embeddings.shape}")
    held(labels.shape == embeddings.shape[:1] and labels.dtype.kind != "O", f"scores labels {labels.shape}")
    return [[Fraction(*_ratio(value)) for value in row] for row in embeddings], [_comparable(one) for one in labels]


def _ratio(value) -> tuple[int, int]:
    held(bool(np.isfinite(value)), "scores what is not finite")
    return value.as_integer_ratio() if value.dtype.kind == "f" else (int(value), 1)


def _comparable(label):
    if isinstance(label, np.longdouble):
        return Fraction(*label.as_integer_ratio())
    label = label.item()
    held(label == label, "scores a label NaN")
    return label.decode("latin1") if isinstance(label, bytes) else label


def bounds(queries, query_labels, gallery, gallery_labels, distance: str) -> tuple[dict, dict]:
    """The least and the largest mean of each metric that an order of the near-ties gives; galleries below 100 rows."""
    sums: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for query, label in zip(queries, query_labels):
        keys = [_key(query, item, distance) for item in gallery]
        relevant = [other == label for other in gallery_labels]
        for best, total in zip((False, True), sums):
            for name, value in _metrics(_precisions(keys, relevant, distance, best), len(gallery)).items():
                total[name] = total.get(name, 0.0) + value / len(queries)
    return sums


def _key(query, item, distance: str) -> Fraction:
    """Smaller is nearer: the squared distance, or the negative of the squared cosine with its sign."""
    if distance == "euclidean":
        return sum(((a - b) ** 2 for a, b in zip(query, item)), Fraction(0))
    product = sum((a * b for a, b in zip(query, item)), Fraction(0))
    lengths = sum(a * a for a in query) * sum(b * b for b in item)
    return -product * abs(product) / lengths if lengths else Fraction(0)


def _near(one: Fraction, other: Fraction, distance: str) -> bool:
    if distance == "euclidean":
        return abs(one - other) <= NEAR * max(one, other)
    return abs(_root(one) - _root(other)) <= 1e-12


def _root(value: Fraction) -> float:
    return math.copysign(math.sqrt(abs(value)), value)


def _precisions(keys, relevant, distance: str, best: bool) -> list[Fraction]:
    """Of each relevant item, best first; of equal items the precision at their end."""
    order = sorted(range(len(keys)), key=keys.__getitem__)
    groups: list[list[int]] = []
    for place in order:
        if groups and _near(keys[groups[-1][-1]], keys[place], distance):
            groups[-1].append(place)
        else:
            groups.append([place])
    result: list[Fraction] = []
    rank = hits = 0
    for group in groups:
        found = sum(relevant[place] for place in group)
        if not found:
            pass
        elif len({keys[place] for place in group}) == 1:
            result += [Fraction(hits + found, rank + len(group))] * found
        elif best:  # all relevant ones first, as equals
            result += [Fraction(hits + found, rank + found)] * found
        else:
            result += [Fraction(hits + n, rank + len(group) - found + n) for n in range(1, found + 1)]
        rank, hits = rank + len(group), hits + found
    return result


def _metrics(precisions: list[Fraction], gallery: int) -> dict[str, float]:
    count, total = len(precisions), float(sum(precisions))
    envelope = float(sum(max(precisions[place:]) for place in range(count)))
    whole = {"map_200_k": total / 200, "prec_100": count / gallery, "prec_200": count / gallery}
    for name in ("map_all", "map_200", "map_200_min"):
        whole[name] = total / count if count else 0.0
    return whole | {name: envelope / count if count else 0.0 for name in ("map_200_voc", "map_all_voc")}
