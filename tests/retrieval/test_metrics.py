"""Metrics against a plain loop, scikit-learn, hand-worked rankings and exact fractions, and under the tie rule."""

from fractions import Fraction
from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from ucdr_core import evaluate
from ucdr_core.retrieval import METRICS, exact, metrics

# Sums of at most some thousand float64 terms, in another order.
CLOSE = {"atol": 1e-10, "rtol": 0}


def loop(relevant, groups, k):
    """Every metric of one ranking by plain loops.  relevant: list of 0/1, best first; groups: tie group of each rank.

    Ties by averaging nothing and assuming nothing: each item of a group takes the precision at the group's end; a group
    that k cuts is replaced by its expected share.
    """
    n, r_all = len(relevant), sum(relevant)
    sizes = [groups.count(g) for g in groups]
    hits_of = {g: sum(x for x, h in zip(relevant, groups) if h == g) for g in set(groups)}
    precision, share, precision_top = [], [], []
    for place in range(n):
        g = groups[place]
        ahead = groups.index(g)
        hits_ahead = sum(relevant[:ahead])
        size = sizes[place]
        precision.append((hits_ahead + hits_of[g]) / (ahead + size))
        fits = min(1.0, max(0.0, (k - ahead) / size))
        share.append(fits)
        precision_top.append(precision[-1] if ahead + size <= k else (hits_ahead + fits * hits_of[g]) / k)
    hits = [place for place in range(n) if relevant[place]]
    top = [(share[p], precision_top[p]) for p in hits if share[p] > 0]
    total, hit_share = sum(s * p for s, p in top), sum(s for s, _ in top)
    return {
        "map_all": sum(precision[p] for p in hits) / r_all,
        "map_all_voc": sum(
            max(precision[q] for q in hits if groups.index(groups[q]) >= groups.index(groups[p])) for p in hits
        )
        / r_all,
        "map_200": total / hit_share if hit_share else 0.0,
        "map_200_k": total / k,
        "map_200_min": total / min(k, r_all),
        "map_200_voc": sum(s * max(p2 for _, p2 in top[i:]) for i, (s, _) in enumerate(top)) / min(k, r_all),
        "prec_100": sum(min(1.0, max(0.0, (100 - groups.index(groups[p])) / sizes[p])) for p in hits) / min(100, n),
        "prec_200": hit_share / min(k, n),
    }


def compare(q, ql, g, gl, distance, **options):
    scores = evaluate(q, ql, g, gl, distance, **options)
    for i in range(len(q)):
        if distance == "cosine":
            similarity = (g @ q[i]) / np.linalg.norm(g, axis=1) / np.linalg.norm(q[i])
        else:
            similarity = -np.square(g - q[i]).sum(1)
        similarity = np.round(similarity, 9)
        order = np.argsort(-similarity, kind="stable")
        groups = np.unique(-similarity[order], return_inverse=True)[1].tolist()
        expected = loop((gl[order] == ql[i]).astype(int).tolist(), groups, 200)
        for name in METRICS:
            np.testing.assert_allclose(scores.per_query[name][i], expected[name], err_msg=f"{name}, query {i}", **CLOSE)
    return scores


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("gallery", [40, 199, 200, 201, 700])
def test_every_metric_matches_the_loop(random, distance, gallery):
    q, g = random.standard_normal((7, 5)), random.standard_normal((gallery, 5))
    gl = random.integers(0, 4, gallery)
    gl[0] = 0
    compare(q, random.integers(0, 1, 7), g, gl, distance)


def test_ties_match_the_loop(random):
    """Codes of a few bits tie massively, and groups straddle rank 200."""
    q, g = random.integers(0, 2, (6, 4)).astype(float), random.integers(0, 2, (500, 4)).astype(float)
    compare(q, random.integers(0, 3, 6), g, random.integers(0, 3, 500), "euclidean")


def test_order_of_the_gallery_never_matters_even_with_ties(random):
    q, g = random.integers(0, 2, (6, 4)).astype(float), random.integers(0, 2, (500, 4)).astype(float)
    ql, gl = random.integers(0, 3, 6), random.integers(0, 3, 500)
    order = random.permutation(500)
    one, other = evaluate(q, ql, g, gl), evaluate(q, ql, g[order], gl[order])
    for name in METRICS:
        np.testing.assert_allclose(one.per_query[name], other.per_query[name], **CLOSE)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_items_of_the_same_embedding_tie(random, distance):
    """Whatever the last digits of a matrix product are from one column to another; 0 and -0 are the same."""
    for _ in range(8):
        d, n = random.integers(2, 40), random.integers(20, 250)
        distinct = random.standard_normal((12, d))
        distinct[:, 1] = 0.0
        g, gl = distinct[random.integers(0, 12, n)], random.permutation(np.arange(n) % 3)
        g[random.random(n) < 0.5, 1] = -0.0
        q, ql, order = random.standard_normal((5, d)), random.integers(0, 3, 5), random.permutation(n)
        scores, other = compare(q, ql, g, gl, distance), evaluate(q, ql, g[order], gl[order], distance)
        for name in METRICS:
            np.testing.assert_allclose(other.per_query[name], scores.per_query[name], **CLOSE)


@pytest.mark.parametrize("tied", [False, True])
def test_map_all_is_scikit_learns(random, tied):
    q, g = random.standard_normal((20, 8)), random.standard_normal((300, 8))
    if tied:
        q, g = np.sign(q), np.sign(g)
    ql, gl = random.integers(0, 5, 20), random.integers(0, 5, 300)
    scores = evaluate(q, ql, g, gl)
    expected = [average_precision_score(gl == label, -np.square(g - row).sum(1)) for row, label in zip(q, ql)]
    np.testing.assert_allclose(scores.per_query["map_all"], expected, atol=1e-6)


def test_hand_worked_ranking():
    """Relevant at ranks 1, 3 and 6 of 6: P = 1, 2/3, 1/2."""
    g = np.arange(1, 7, dtype=float)[:, None]
    scores = evaluate(np.zeros((1, 1)), ["a"], g, list("abaxya"))
    assert scores["map_all"] == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert scores["map_200"] == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert scores["map_200_k"] == pytest.approx((1 + 2 / 3 + 1 / 2) / 200)
    assert scores["prec_200"] == pytest.approx(3 / 6)  # the gallery has six


def test_interpolation_lifts_a_late_peak():
    """Relevant at ranks 2, 3: P = 1/2, 2/3; interpolated 2/3, 2/3."""
    scores = evaluate(np.zeros((1, 1)), [1], np.array([[1.0], [2.0], [3.0]]), [0, 1, 1])
    assert scores["map_all"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert scores["map_all_voc"] == pytest.approx(2 / 3)


def test_hits_normalisation_ignores_what_was_missed():
    """One hit at rank 1 and the other beyond 200: map_200 is 1, map_200_min a half."""
    g = np.arange(1, 302, dtype=float)[:, None]
    gl = np.zeros(301, int)
    gl[[0, 300]] = 1
    scores = evaluate(np.zeros((1, 1)), [1], g, gl)
    assert (scores["map_200"], scores["map_200_min"], scores["map_200_k"]) == pytest.approx((1, 0.5, 1 / 200))


def test_a_strict_definition_never_exceeds_precision(random):
    scores = evaluate(
        random.standard_normal((50, 3)),
        random.integers(0, 3, 50),
        random.standard_normal((900, 3)),
        random.integers(0, 3, 900),
    )
    assert (scores.per_query["map_200_k"] <= scores.per_query["prec_200"] + 1e-12).all()


def test_blocks_do_not_change_the_result(random):
    arguments = (
        random.standard_normal((300, 6)),
        random.integers(0, 3, 300),
        random.standard_normal((5000, 6)),
        random.integers(0, 3, 5000),
    )
    whole, blocks = evaluate(*arguments), evaluate(*arguments, block_mb=1)
    for name in METRICS:
        np.testing.assert_allclose(whole.per_query[name], blocks.per_query[name], **CLOSE)


def test_single_precision_agrees_with_double(random):
    arguments = (
        random.standard_normal((500, 32)),
        random.integers(0, 10, 500),
        random.standard_normal((4000, 32)),
        random.integers(0, 10, 4000),
    )
    double, single = evaluate(*arguments), evaluate(*arguments, arithmetic="float32")
    assert (double.arithmetic, single.arithmetic) == ("float64", "float32")
    for name in METRICS:
        assert abs(double[name] - single[name]) < 1e-6


def test_random_embeddings_score_what_chance_says(random):
    """Expected AP of a random ranking of N items with R relevant: (H_N + (R - 1) (N - H_N) / (N - 1)) / N."""
    n, r = 100, 10
    gl = np.repeat(np.arange(n // r), r)
    scores = evaluate(
        random.standard_normal((4000, 16)), random.integers(0, n // r, 4000), random.standard_normal((n, 16)), gl
    )
    harmonic = (1 / np.arange(1, n + 1)).sum()
    assert scores["map_all"] == pytest.approx((harmonic + (r - 1) * (n - harmonic) / (n - 1)) / n, abs=0.01)


def test_queries_without_a_relevant_item_score_zero_and_are_counted(random):
    scores = evaluate(random.standard_normal((3, 2)), ["a", "b", "z"], random.standard_normal((4, 2)), list("aabb"))
    assert scores.without_relevant == 1
    assert all(scores.per_query[name][2] == 0 for name in METRICS)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"q": np.zeros(3)}, "query embeddings must have shape"),
        ({"g": np.zeros((0, 2))}, "gallery embeddings must have shape"),
        ({"g": np.zeros((4, 3))}, "3"),
        ({"ql": [1, 2]}, r"query labels must have shape \(3,\)"),
        ({"gl": [[1, 2, 3, 4]]}, "gallery labels must have shape"),
        ({"q": np.array([[0, 1], [np.nan, 0], [0, 0]])}, "query embeddings hold NaN or infinity, first in row 1"),
        ({"g": np.array([["a", "b"]] * 4)}, "must be numbers"),
        ({"gl": ["1", "2", "3", "4"]}, "different kinds"),
        ({"distance": "manhattan"}, "unknown distance"),
    ],
)
def test_wrong_arrays_are_named(change, message):
    arrays = {
        "q": np.zeros((3, 2)),
        "ql": [1, 2, 3],
        "g": np.ones((4, 2)),
        "gl": [1, 2, 3, 1],
        "distance": "euclidean",
        **change,
    }
    with pytest.raises(ValueError, match=message):
        evaluate(arrays["q"], arrays["ql"], arrays["g"], arrays["gl"], arrays["distance"])


# ------------------------------------------------------------------------------------------------ every finite input


def fraction(value) -> Fraction:
    return Fraction(*value.as_integer_ratio()) if isinstance(value, np.floating) else Fraction(int(value))


def exact_distance(query, item, distance):
    """Smaller is nearer: the squared distance, or the negative of the squared cosine with its sign."""
    if distance == "euclidean":
        return sum((q - g) ** 2 for q, g in zip(query, item))
    product, square = sum(q * g for q, g in zip(query, item)), sum(g * g for g in item)
    return -product * abs(product) / square if square else Fraction(0)


def every_way(*arguments):
    """Scores in both arithmetics, by a search for each item and by the compiled pass."""
    for sweep_from in (10**9, 0):
        with patch.object(metrics, "SWEEP_FROM", sweep_from):
            yield from (evaluate(*arguments, arithmetic=arithmetic) for arithmetic in ("float64", "float32"))


def compare_exactly(q, ql, g, gl, distance):
    """Every way against the loop over distances that are fractions."""
    queries, items = ([[fraction(value) for value in row] for row in np.asarray(rows)] for rows in (q, g))
    ways = list(every_way(q, ql, g, gl, distance))
    for i, query in enumerate(queries):
        keys = [exact_distance(query, item, distance) for item in items]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        place = {key: number for number, key in enumerate(sorted(set(keys)))}
        expected = loop([int(gl[n] == ql[i]) for n in order], [place[keys[n]] for n in order], 200)
        for scores in ways:
            for name in METRICS:
                np.testing.assert_allclose(scores.per_query[name][i], expected[name], err_msg=name, **CLOSE)


def spread(random, low, high):
    """Numbers of sizes from 10^low to 10^high, by row."""
    return lambda n: random.standard_normal((n, 6)) * 10.0 ** random.integers(low, high + 1, (n, 1))


def whole(random, low, high, kind=np.int64):
    return lambda n: random.integers(low, high, (n, 6), kind, endpoint=True)


ROWS = {
    "offset 1e8": lambda r: lambda n: r.standard_normal((n, 6)) + 1e8,
    "offset 3,000 in float32": lambda r: lambda n: (r.standard_normal((n, 6)) + 3000).astype(np.float32),
    "offset 1e15, all but one row": lambda r: lambda n: np.vstack([np.ones(6), r.standard_normal((n - 1, 6)) + 1e15]),
    "float16": lambda r: lambda n: (r.standard_normal((n, 6)) + 100).astype(np.float16),
    "long double": lambda r: lambda n: r.standard_normal((n, 6)).astype(np.longdouble) / 3 + np.longdouble(10) ** 12,
    "1e160": lambda r: spread(r, 160, 160),
    "1e307": lambda r: lambda n: r.uniform(-1, 1, (n, 6)) * 1.7e308,
    "1e-170": lambda r: spread(r, -170, -170),
    "below normal": lambda r: spread(r, -312, -312),
    "1e160 and 1e-170": lambda r: spread(r, -170, 160),
    "int8": lambda r: whole(r, -128, 127, np.int8),
    "uint8": lambda r: whole(r, 0, 255, np.uint8),
    "above 2^24": lambda r: whole(r, 2**40, 2**40 + 9),
    "above 2^53": lambda r: whole(r, 2**62, 2**62 + 9),
    "the whole range": lambda r: whole(r, -(2**63), 2**63 - 1),
    "uint64": lambda r: whole(r, 2**64 - 9, 2**64 - 1, np.uint64),
    "bool": lambda r: lambda n: r.random((n, 6)) < 0.5,
    "codes times 0.1": lambda r: lambda n: r.integers(0, 2, (n, 6)) * 0.1,
    "one decimal": lambda r: lambda n: r.standard_normal((n, 6)).round(1),
    "parallel": lambda r: lambda n: np.outer(r.integers(1, 9, n), np.ones(6)) * r.integers(1, 3, (n, 6)),
    "same numbers in another order": lambda r: (
        lambda n: np.array([r.permutation([0.1, 0.2, 0.3, 1, 1, 7]) for _ in range(n)])
    ),
    "zeros": lambda r: lambda n: r.standard_normal((n, 6)) * (r.random((n, 1)) < 0.6),
    "constant": lambda r: lambda n: np.full((n, 6), 7.3),
    "last digit": lambda r: lambda n: 1 + r.integers(0, 3, (n, 6)) * 2.0**-52,
}


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.filterwarnings("error")
def test_ranks_are_those_of_exact_arithmetic(random, name, distance):
    rows = ROWS[name](random)
    compare_exactly(rows(3), random.integers(0, 2, 3), rows(30), np.arange(30) % 2, distance)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_relevant_items_that_only_rounding_parts_tie(random, distance):
    """The same numbers in another order are as near to a query of one number: each has the precision of them all, also
    where no other item is near."""
    same = np.array([random.permutation([0.1, 0.2, 0.3, 1, 1, 7]) for _ in range(12)]) / 3
    q = np.full((2, 6), 0.1)
    others = np.array([random.permutation([0.1, 0.2, 0.3, 1, 1, 9]) for _ in range(5)]) / 3
    nearer = np.full((5, 6), 0.2) + 0.01 * random.standard_normal((5, 6))
    compare_exactly(q, [0, 1], np.vstack([same, others, nearer]), [0] * 12 + [1] * 10, distance)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_kinds_of_both_sides_may_differ(random, distance):
    q, g = random.integers(-9, 9, (3, 4)).astype(np.int8), random.integers(0, 9, (30, 4)).astype(np.uint64)
    compare_exactly(q, [0, 1, 0], g, np.arange(30) % 2, distance)
    compare_exactly(q, [0, 1, 0], g.astype(np.float32) / 3, np.arange(30) % 2, distance)


numbers_of_any_size = st.one_of(
    st.integers(-3, 3).map(float), st.floats(-10, 10), st.floats(allow_nan=False, allow_infinity=False)
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(numbers_of_any_size, min_size=2, max_size=2), min_size=3, max_size=12), st.booleans())
def test_any_small_gallery_is_ranked_exactly(rows, cosine):
    rows = np.array(rows)
    compare_exactly(rows[:1], [0], rows[1:], np.arange(len(rows) - 1) % 2, "cosine" if cosine else "euclidean")


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("offset", [0, 1000, 3000])
def test_single_precision_ranks_as_double_where_near_ties_abound(random, distance, offset):
    """Of 3,000 items with scores in a narrow range hundreds are too near for a float32."""
    centres = random.standard_normal((5, 24))
    ql, gl = random.integers(0, 5, 40), random.integers(0, 5, 3000)
    q, g = (centres[labels] + random.standard_normal((len(labels), 24)) + offset for labels in (ql, gl))
    q, g = q.astype(np.float32), g.astype(np.float32)
    double, *others = every_way(q, ql, g, gl, distance)
    for name, single in product(METRICS, others):
        np.testing.assert_array_equal(single.per_query[name], double.per_query[name])
    if distance == "euclidean" and offset:
        near = evaluate(q - np.float32(offset), ql, g - np.float32(offset), gl)  # these differences are exact
        np.testing.assert_array_equal(near.per_query["map_all"], double.per_query["map_all"])


MANY_ROWS = {
    "float64": lambda x: x,
    "lengths that differ widely": lambda x: x * np.exp(4 * np.abs(x[:, :1])),
    "exponential": lambda x: np.exp(3 * x),
    "sparse": lambda x: np.maximum(x - 1.2, 0).astype(np.float32),
    "codes": lambda x: (x > 0).astype(np.uint8),
    "alike in fives": lambda x: np.repeat(x[: len(x) // 5 + 1], 5, axis=0)[: len(x)],
    "two decimals": lambda x: x.round(2),
    "close together": lambda x: 1 + x * 1e-12,
}


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("name", MANY_ROWS)
def test_all_ways_rank_large_galleries_alike(random, name, distance):
    q, g = (MANY_ROWS[name](random.standard_normal((n, 16))) for n in (12, 4000))
    double, *others = every_way(q, np.arange(12) % 4, g, np.arange(4000) % 7, distance)
    for name, other in product(METRICS, others):
        np.testing.assert_array_equal(other.per_query[name], double.per_query[name])


def test_threads_do_not_change_the_result(random, monkeypatch):
    arguments = random.standard_normal((90, 6)), np.arange(90) % 7, random.standard_normal((800, 6)), np.arange(800) % 7
    alone = evaluate(*arguments)
    monkeypatch.setattr(metrics, "SINGLE_FROM", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = evaluate(*arguments, block_mb=1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    for name in METRICS:
        np.testing.assert_allclose(together.per_query[name], alone.per_query[name], **CLOSE)


def test_many_near_ties_are_told_apart_by_differences(random, monkeypatch):
    """Where there are too many for whole numbers the same squares in another order still tie."""
    monkeypatch.setattr(exact, "EXACT_AT_MOST", 0)
    for name in ("same numbers in another order", "constant", "offset 1e8", "1e307"):
        rows = ROWS[name](random)
        compare_exactly(rows(3), [0, 1, 0], rows(30), np.arange(30) % 2, "euclidean")


def test_tensors_of_every_kind_are_read(random):
    g, gl = random.integers(-8, 8, (30, 4)), np.arange(30) % 3
    expected = evaluate(g[:3], gl[:3], g, gl)
    for kind in (torch.bfloat16, torch.float16, torch.float64, torch.int8):
        tensor = torch.from_numpy(g).to(kind).requires_grad_(kind.is_floating_point)
        assert evaluate(tensor[:3], torch.from_numpy(gl[:3]), tensor, torch.from_numpy(gl)).mean == expected.mean


@pytest.mark.parametrize(
    "query, gallery, relevant",
    [
        (np.array([2**53 + 1]), np.array([2**53, 2**53 + 1], np.uint64), 1),
        (np.array([2**64 - 1], np.uint64), np.array([-1, 0]), 0),
        (np.array([2.0**53]), np.array([2**53 + 1, 2**53]), 1),
        (np.array([True]), np.array([1, 2]), 1),
        ([1], [Fraction(1), 2], 1),
        (["a"], ["a\0", "a "], 0),
        (["a\0"], ["a\0", "a"], 1),
        (np.array([b"cat"]), np.array(["cat", "dog"]), 1),
        (np.array([b"\xff"]), np.array([b"\xff", b"\xfe"]), 1),
        (["b'cat'"], np.array([b"cat", b"dog"], object), 0),
    ],
)
def test_labels_are_equal_as_values_are(query, gallery, relevant):
    """Distances 1 and 2: the second is relevant, or the first, or none."""
    scores = evaluate(np.zeros((1, 1)), query, np.array([[1.0], [2.0]]), gallery)
    assert scores.without_relevant == (1 - relevant)


@pytest.mark.parametrize(
    "labels, message",
    [
        ([1, "1", 1, 1], "different kinds"),
        ([1, None, 1, 1], "must be text or real numbers, not NoneType"),
        ([1, 2j, 1, 1], "must be text or real numbers, not complex"),
        ([1, float("nan"), 1, 1], "gallery labels hold NaN"),
        (np.array([1, np.inf, 1, 1]), "gallery labels hold NaN or infinity"),
        (np.array([1, 2, 3, 4], "M8[ns]"), r"must be text or real numbers, not datetime64\[ns\]"),
    ],
)
def test_labels_that_cannot_be_compared_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate(np.zeros((1, 2)), [1], np.ones((4, 2)), labels)


@pytest.mark.parametrize(
    "embeddings, message",
    [
        (np.ones((4, 2), complex), "must be numbers, not complex128"),
        (np.ones((4, 2), object), "must be numbers, not object"),
        (np.zeros((4, 2), "M8[s]"), "must be numbers"),
        (np.ma.masked_equal(np.arange(8.0).reshape(4, 2), 3), "gallery embeddings are masked in part"),
        ([[1, 2], [3]] * 2, "gallery embeddings are no array"),
        (np.full((4, 2), 2**62 + 1), "of one side are whole numbers that have more digits"),
    ],
)
def test_embeddings_that_would_not_be_kept_are_refused(embeddings, message):
    with pytest.raises(ValueError, match=message):
        evaluate(np.full((1, 2), 0.5), [1], embeddings, [1, 2, 1, 2])
