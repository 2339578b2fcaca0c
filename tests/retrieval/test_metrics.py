"""Metrics against a plain loop, against scikit-learn, against hand-worked rankings, and under the tie rule."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from ucdr_core import evaluate
from ucdr_core.retrieval import METRICS

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
