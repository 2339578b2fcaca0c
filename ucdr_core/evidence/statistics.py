"""Seeds, folds, paired differences, verdicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ucdr_core.evidence import committed
from ucdr_core.evidence.record import MissingRun, RunRecord
from ucdr_core.evidence.rows import Claim, Ranking
from ucdr_core.evidence.store import Store


def _score(record: RunRecord, evaluation: str, metric: str) -> float:
    """To the digits that the evidence keeps, so that a run of one's own and its evidence print the same."""
    return round(record.scores(evaluation)[metric], committed.DIGITS)


def _per_query(record: RunRecord, evaluation: str, metric: str) -> np.ndarray:
    """(Q,), to the digits that the evidence keeps."""
    return np.round(record.per_query(evaluation, metric).astype(np.float64) * committed.UNIT) / committed.UNIT


@dataclass(frozen=True)
class Spread:
    """Mean of a metric over runs and its standard deviation (n - 1); no deviation for one run or for runs that cannot
    differ."""

    mean: float
    deviation: float | None
    count: int


def spread(columns: list[tuple[list[RunRecord], str]], metric: str) -> Spread:
    """Over seeds, of the metric averaged over the columns: each is (one record per seed, evaluation)."""
    values = np.mean(
        [[_score(record, evaluation, metric) for record in records] for records, evaluation in columns], axis=0
    )
    return Spread(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Difference:
    """a - b with its 95% interval, and what it was computed over.

    degrees   of freedom of the standard error: classes or folds less one, infinite for a bootstrap
    """

    mean: float
    standard_error: float
    low: float
    high: float
    over: str
    degrees: float = np.inf

    @property
    def detectable(self) -> float:
        """The smallest true difference that four in five repetitions would have told from 0."""
        return float(stats.t.ppf(0.975, self.degrees) + stats.t.ppf(0.8, self.degrees)) * self.standard_error


def _student(mean: float, error: float, degrees: int, over: str) -> Difference:
    """With Student's interval."""
    half = float(stats.t.ppf(0.975, degrees)) * error
    return Difference(mean, error, mean - half, mean + half, over, degrees)


PairOfFolds = tuple[list[list[RunRecord]], list[list[RunRecord]], str]  # a[fold][seed], b[fold][seed], evaluation


def _differences_of_folds(pairs: list[PairOfFolds], metric: str) -> np.ndarray:
    """(folds,): a - b, averaged over pairs and seeds."""

    def means(folds: list[list[RunRecord]], evaluation: str) -> np.ndarray:
        return np.array([np.mean([_score(record, evaluation, metric) for record in seeds]) for seeds in folds])

    return np.mean([means(a, evaluation) - means(b, evaluation) for a, b, evaluation in pairs], axis=0)


def over_folds(pairs: list[PairOfFolds], metric: str) -> Difference:
    """Paired over class folds, which have no test class in common; pairs and seeds are averaged.

    The standard error is that of the fold means (folds share training classes, so it is somewhat too small); the
    interval is Student's with folds - 1 degrees of freedom.
    """
    differences, seeds = _differences_of_folds(pairs, metric), len(pairs[0][0][0])
    error = float(differences.std(ddof=1) / np.sqrt(len(differences)))
    over = f"{len(differences)} folds" + (f" x {seeds} seeds" if seeds > 1 else "")
    return _student(float(differences.mean()), error, len(differences) - 1, over)


def over_choices(pairs: list[PairOfFolds], metric: str, test_classes: list[frozenset[str]]) -> Difference:
    """Paired over choices of test classes that overlap: a class is in many choices, so these are not independent.

    test_classes   of each choice
    The mean over choices is a U-statistic of the classes; its standard error is the jackknife's over classes
    (Arvesen, Annals of Mathematical Statistics 1969), and the interval Student's with classes - 1 degrees of freedom.
    """
    differences = _differences_of_folds(pairs, metric)
    classes = sorted(frozenset.union(*test_classes))
    without = np.array(
        [np.mean([d for d, of in zip(differences, test_classes) if left_out not in of]) for left_out in classes]
    )
    error = float(np.sqrt((len(classes) - 1) * np.mean((without - without.mean()) ** 2)))
    over = f"{len(differences)} choices of {len(classes)} classes"
    return _student(float(differences.mean()), error, len(classes) - 1, over)


@dataclass(frozen=True, eq=False)
class Answers:
    """One metric of the queries of an evaluation: values (seeds, queries), their classes (queries,)."""

    values: np.ndarray
    classes: np.ndarray


def over_classes(pairs: list[tuple[list[RunRecord], list[RunRecord], str]], metric: str) -> Difference:
    """Paired on one split: bootstrap over seeds, over classes and then over the queries of a class; see `bootstrap`.

    A reference row without seeds is compared with every seed of the other.
    """
    differences = [_paired(a, b, evaluation, metric) for a, b, evaluation in pairs]
    low, high, error = bootstrap(*differences)
    seeds, queries = differences[0].values.shape
    classes = len(set(np.concatenate([one.classes for one in differences]).tolist()))
    mean = float(np.mean([one.values.mean() for one in differences]))
    return Difference(mean, error, low, high, f"{seeds} seeds x {classes} classes with {queries} queries")


def _paired(a: list[RunRecord], b: list[RunRecord], evaluation: str, metric: str) -> Answers:
    """Differences.  Raises ValueError where the seeds cannot be paired."""

    def values(records: list[RunRecord]) -> np.ndarray:
        return np.stack([_per_query(record, evaluation, metric) for record in records])

    ours, other = values(a), values(b)
    seeds = max(len(ours), len(other))
    if min(len(ours), len(other)) not in (1, seeds):
        raise ValueError(f"runs of {len(ours)} and of {len(other)} seeds cannot be paired")
    differences = np.broadcast_to(ours, (seeds, ours.shape[1])) - np.broadcast_to(other, (seeds, other.shape[1]))
    return Answers(differences, a[0].query_classes(evaluation))


def bootstrap(*answers: Answers, draws: int = 2000) -> tuple[float, float, float]:
    """Percentile interval (95%) and standard error of the mean over queries, averaged over several evaluations.

    Seeds are redrawn, classes are, and then the queries of each class that was drawn: queries of one class are easy or
    hard together.  Evaluations are asked the same classes, so these are redrawn for all of them at once.
    """
    random = np.random.default_rng(0)
    counts = _class_counts([one.classes for one in answers], draws, random)
    means = np.mean(
        [
            np.einsum("bs,sq,bq->b", _shares(len(one.values), draws, random), one.values, weights, optimize=True)
            for one in answers
            for weights in [_query_weights(one.classes, counts, random)]
        ],
        axis=0,
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high), float(means.std(ddof=1))


def _shares(count: int, draws: int, random: np.random.Generator) -> np.ndarray:
    """How often each of `count` things is redrawn, as shares: (draws, count)."""
    return random.multinomial(count, np.full(count, 1 / count), draws) / count


def _class_counts(classes: list[np.ndarray], draws: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """How often each class is redrawn: {class: (draws,)}."""
    names = sorted(set(np.concatenate(classes).tolist()))
    counts = random.multinomial(len(names), np.full(len(names), 1 / len(names)), draws)
    return dict(zip(names, counts.T))


def _query_weights(classes: np.ndarray, counts: dict[str, np.ndarray], random: np.random.Generator) -> np.ndarray:
    """(draws, queries), rows sum to 1: how often each query is redrawn, as often as its class was times its queries."""
    draws = len(next(iter(counts.values())))
    weights = np.zeros((draws, len(classes)))
    for name, times in counts.items():
        queries = np.flatnonzero(classes == name)
        if len(queries):
            weights[:, queries] = random.multinomial(times * len(queries), np.full(len(queries), 1 / len(queries)))
    return weights / weights.sum(1, keepdims=True)


def difference_of(claim: Claim, store: Store) -> Difference:
    """What a claim's rows differ by.  Raises MissingRun with a count where runs are missing."""
    specs = {id(spec): spec for spec in claim.runs}
    records = {key: record for key, spec in specs.items() if (record := store.get(spec)) is not None}
    if len(records) < len(specs) or not specs:
        raise MissingRun(f"{len(records)} of {len(specs)} runs")

    def side(folds) -> list[list[RunRecord]]:
        return [[records[id(spec)] for spec in fold] for fold in folds]

    pairs = [(side(pair.ours), side(pair.other), pair.evaluation) for pair in claim.pairs]
    folds = claim.pairs[0].ours
    if len(folds) == 1:
        return over_classes([(ours[0], other[0], evaluation) for ours, other, evaluation in pairs], claim.metric)
    test_classes = [frozenset(fold[0].named_split().test) for fold in folds]
    if sum(map(len, test_classes)) == len(frozenset.union(*test_classes)):
        return over_folds(pairs, claim.metric)
    return over_choices(pairs, claim.metric, test_classes)


def ranking_answers(ranking: Ranking, store: Store) -> dict[str, Answers]:
    """The answers of the rows whose runs are there, by label."""
    answers = {}
    for row in ranking.rows:
        records = [record for spec in row.runs if (record := store.get(spec)) is not None]
        if not records or len(records) < len(row.runs):
            continue
        evaluation = row.cells[0].evaluation
        try:
            per_query = [_per_query(record, evaluation, ranking.metric) for record in records]
            classes = records[0].query_classes(evaluation)
        except MissingRun:  # of some runs the evidence keeps means alone
            continue
        if len({len(one) for one in per_query}) == 1:  # runs over choices of classes have queries of their own
            answers[row.label] = Answers(np.stack(per_query), classes)
    return answers


MARGIN = 0.01  # within which a number of ours is the printed one, where its seeds do not say more


def agreement(ours: Spread, printed: float, printed_deviation: float | None) -> str:
    """Whether a number on the paper's terms is the printed one: within 0.01, or within two deviations of either's
    seeds."""
    margin = max(MARGIN, 2 * (ours.deviation or 0.0), 2 * (printed_deviation or 0.0))
    difference = ours.mean - printed
    return (
        "as printed"
        if abs(difference) <= margin
        else f"{'higher' if difference > 0 else 'lower'} by {abs(difference):.3f}"
    )


def random_average_precision(relevant: int, gallery: int) -> float:
    """Expected average precision of a random ranking: `relevant` of `gallery` items, in (0, 1].

    1/N sum over ranks k of 1/k (1 + (k - 1) (R - 1) / (N - 1)): the item at rank k is relevant with probability R/N,
    and each of those before it then with (R - 1) / (N - 1).
    """
    harmonic = float(np.sum(1 / np.arange(1, gallery + 1)))
    return (harmonic + (relevant - 1) / max(gallery - 1, 1) * (gallery - harmonic)) / gallery


@dataclass(frozen=True)
class Standing:
    """A method's mean with its 95% interval, and the ranks (best is 1) of those that it cannot be told apart from, its
    own among them."""

    name: str
    mean: float
    deviation: float | None  # over seeds
    low: float
    high: float
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Standings:
    """Methods from best to worst; `critical` standard errors of their difference tell two apart, `typical` is that for
    the median pair."""

    methods: tuple[Standing, ...]
    critical: float
    typical: float


def standings(answers: dict[str, Answers], draws: int = 2000) -> Standings:
    """Ranks methods, and says which pairs differ, at 95% for all pairs together.

    answers   by method, of the same queries in the same order

    Classes and then their queries are redrawn together for all methods (the comparison is paired over queries), seeds
    for each.  A pair's critical difference is its standard error times one number for all pairs: the 95th percentile of
    the largest studentised error of any pair.  With independent normal errors of one size it is Tukey's honestly
    significant difference; it stays valid where one method's seeds differ far more.
    Raises ValueError where a method was asked other queries.
    """
    random = np.random.default_rng(0)
    classes = next(iter(answers.values())).classes
    weights = _query_weights(classes, _class_counts([classes], draws, random), random)
    values, drawn = {name: one.values for name, one in answers.items()}, {}
    for name, one in answers.items():
        if not np.array_equal(one.classes, classes):
            raise ValueError(f"{name} was asked {len(one.classes)} queries, others {len(classes)}, or other classes")
        drawn[name] = (_shares(len(one.values), draws, random) * (weights @ one.values.T)).sum(1)
    order = sorted(values, key=lambda name: -values[name].mean())
    means = np.array([float(values[name].mean()) for name in order])
    errors = np.stack([drawn[name] for name in order]) - means[:, None]
    apart = errors[:, None] - errors  # (methods, methods, draws)
    standard_error = apart.std(2)
    studentised = np.abs(apart) / np.where(standard_error > 0, standard_error, np.inf)[:, :, None]
    critical = float(np.percentile(studentised.max((0, 1)), 95))
    near = np.abs(means[:, None] - means) <= critical * standard_error
    np.fill_diagonal(near, True)

    def standing(name: str, mean: float, row: np.ndarray) -> Standing:
        of_method = values[name]
        deviation = float(of_method.mean(1).std(ddof=1)) if len(of_method) > 1 else None
        low, high = np.percentile(drawn[name], [2.5, 97.5])
        return Standing(name, mean, deviation, float(low), float(high), tuple((np.flatnonzero(row) + 1).tolist()))

    methods = tuple(standing(*one) for one in zip(order, means.tolist(), near))
    pairs = np.triu_indices(len(order), 1)
    return Standings(methods, critical, float(np.median(critical * standard_error[pairs])))
