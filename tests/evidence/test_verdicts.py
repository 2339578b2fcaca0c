"""Intervals against independent computations, and the verdicts that follow from them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ucdr_core.evidence import statistics, verdicts
from ucdr_core.evidence.statistics import Answers, Difference
from ucdr_core.training.spec import TrainSpec

CLASSES = np.repeat([f"class {number}" for number in range(12)], 7)


def answers(seed: int, spread_of_classes: float, seeds: int = 1) -> Answers:
    """Normal values with an effect of each class."""
    random = np.random.default_rng(seed)
    of_class = spread_of_classes * np.repeat(random.standard_normal(12), 7)
    return Answers(0.1 + of_class + random.standard_normal((seeds, len(CLASSES))), CLASSES)


@pytest.mark.parametrize("spread_of_classes", [0.0, 2.0])
def test_the_bootstraps_error_is_that_of_two_stages(spread_of_classes):
    """Redrawing C classes and then n queries of each: variance (V + W / n) / C, with V the variance of the class means
    and W the mean variance within a class."""
    one = answers(0, spread_of_classes)
    values = one.values.reshape(12, 7)
    expected = np.sqrt((values.mean(1).var() + values.var(1).mean() / 7) / 12)
    low, high, error = statistics.bootstrap(one, draws=20000)
    assert error == pytest.approx(expected, rel=0.02)
    assert (high - low) / 2 == pytest.approx(1.96 * expected, rel=0.05)
    assert low < one.values.mean() < high


def test_queries_as_if_independent_would_give_a_shorter_interval():
    one = answers(0, 2.0)
    each_its_own_class = replace(one, classes=np.arange(len(CLASSES)).astype(str))
    assert statistics.bootstrap(each_its_own_class)[2] == pytest.approx(one.values.std() / np.sqrt(84), rel=0.05)
    assert statistics.bootstrap(one)[2] > 1.8 * statistics.bootstrap(each_its_own_class)[2]


def test_the_bootstrap_agrees_with_drawing_one_after_another():
    """Seeds, classes of unequal size, and two evaluations that are asked the same classes."""
    random = np.random.default_rng(1)
    classes = np.array(["a"] * 3 + ["b"] * 8 + ["c"] * 1 + ["d"] * 5)
    of_class = {"a": 0.4, "b": -0.3, "c": 0.9, "d": 0.0}
    level = np.array([of_class[name] for name in classes])
    pair = [Answers(level + 0.3 * random.standard_normal((3, len(classes))), classes) for _ in range(2)]
    means = []
    for _ in range(4000):
        drawn = random.choice(sorted(of_class), 4)
        of_pair = []
        for one in pair:
            seeds = one.values[random.integers(0, 3, 3)].mean(0)
            of_pair.append(
                np.concatenate([random.choice(seeds[classes == name], (classes == name).sum()) for name in drawn])
            )
        means.append(np.mean([own.mean() for own in of_pair]))
    low, high, error = statistics.bootstrap(*pair, draws=4000)
    assert error == pytest.approx(np.std(means, ddof=1), rel=0.05)
    assert [low, high] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.05)


class Record:
    """A run whose score is known."""

    def __init__(self, score: float):
        self.score = score

    def scores(self, evaluation: str) -> dict[str, float]:
        return {"map_all": self.score}


def pairs(differences) -> list:
    return [([[Record(0.5 + d)] for d in differences], [[Record(0.5)] for _ in differences], "zs_sbir")]


def test_folds_have_students_interval():
    differences = [0.02, -0.01, 0.05, 0.03, 0.0]
    found = statistics.over_folds(pairs(differences), "map_all")
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high]) and found.over == "5 folds"


def test_choices_that_share_classes_are_not_independent():
    """Where a choice's difference is the mean of its two classes' own, the mean over all choices is that of the
    classes, and so must its error be: that of 7 values, not of 21."""
    of_class = dict(zip("abcdefg", [0.05, -0.02, 0.01, 0.08, 0.0, 0.03, -0.04]))
    choices = [frozenset(pair) for pair in ("ab ac ad ae af ag bc bd be bf bg cd ce cf cg de df dg ef eg fg").split()]
    differences = [np.mean([of_class[name] for name in choice]) for choice in choices]
    found = statistics.over_choices(pairs(differences), "map_all", choices)
    values = list(of_class.values())
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    half = (found.high - found.low) / 2
    assert found.mean == pytest.approx(np.mean(values))
    assert half == pytest.approx((expected.high - expected.low) / 2)
    assert half > 1.5 * np.diff(stats.ttest_1samp(differences, 0).confidence_interval(0.95))[0] / 2


@pytest.mark.parametrize("degrees", [4, 20, np.inf])
def test_the_detectable_difference_is_seen_in_four_of_five_repetitions(degrees):
    difference = Difference(0.0, 1.0, -1, 1, "", degrees)
    if degrees == np.inf:
        power = stats.norm.sf(1.95996 - difference.detectable)
    else:
        power = stats.nct.sf(stats.t.ppf(0.975, degrees), degrees, difference.detectable)
    assert power == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(
    "low, high, printed, kind, detail",
    [
        (0.01, 0.05, 0.04, "as claimed", ""),
        (0.01, 0.05, 0.05, "as claimed", ""),
        (0.06, 0.09, 0.05, "as claimed", ""),
        (0.01, 0.05, 0.06, "same sign, smaller", ""),
        (-0.05, -0.01, -0.04, "as claimed", ""),
        (-0.05, -0.01, -0.06, "same sign, smaller", ""),
        (-0.05, -0.01, 0.04, "opposite", ""),
        (0.01, 0.05, -0.04, "opposite", ""),
        (-0.004, 0.01, 0.05, "no effect", "within ±0.01"),
        (-0.004, 0.008, 0.005, "no effect", "within ±0.01"),
        (-0.03, 0.02, 0.05, "no effect", "excludes the printed +0.050"),
        (-0.03, 0.02, -0.05, "no effect", "excludes the printed -0.050"),
        (-0.03, 0.06, 0.05, "cannot tell", "from 0.028 on it would show"),
        (-0.06, 0.02, -0.05, "cannot tell", "from 0.028 on it would show"),
        (0.01, 0.05, None, "higher", ""),
        (-0.05, -0.01, None, "lower", ""),
        (-0.01, 0.01, None, "no effect", "within ±0.01"),
        (-0.01, 0.02, None, "cannot tell", "from 0.028 on it would show"),
        (-0.01, 0.02, 0.0, "cannot tell", "from 0.028 on it would show"),
    ],
)
def test_a_verdict_follows_from_the_interval_and_the_printed_difference(low, high, printed, kind, detail):
    found = verdicts.verdict(
        Difference((low + high) / 2, 0.01, low, high, ""), printed, "on a frozen trunk, embedded data"
    )
    assert (found.kind, found.detail) == (kind, detail)
    assert found.kind in (verdicts.OF_CLAIMS if printed else verdicts.WITHOUT_PRINTED)
    assert str(found).endswith(", on a frozen trunk, embedded data")


def test_a_setting_names_the_trunk_and_the_data():
    frozen = TrainSpec("snmpnet")
    assert verdicts.setting([frozen], "embedded") == "on a frozen trunk, embedded data"
    tuned = replace(frozen, method="strad", features={"method": "simple", "regime": "finetune"})
    assert verdicts.setting([tuned], "paper") == "fine-tuned, the papers' data"
    assert verdicts.setting([frozen, replace(frozen, regime="finetune")], "real") == (
        "on a frozen trunk or fine-tuned, real pictures"
    )
