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
    """a - b with its 95% interval, and what it was computed over."""

    mean: float
    standard_error: float
    low: float
    high: float
    over: str

    @property
    def verdict(self) -> str:
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "undecided"


def over_folds(pairs: list[tuple[list[list[RunRecord]], list[list[RunRecord]], str]], metric: str) -> Difference:
    """Paired over class folds: each pair is (a[fold][seed], b[fold][seed], evaluation); pairs and seeds are averaged.

    The standard error is that of the fold means (folds share training classes, so it is somewhat too small); the
    interval is Student's with folds - 1 degrees of freedom.
    """

    def means(folds: list[list[RunRecord]], evaluation: str) -> np.ndarray:
        return np.array([np.mean([_score(record, evaluation, metric) for record in seeds]) for seeds in folds])

    differences = np.mean([means(a, evaluation) - means(b, evaluation) for a, b, evaluation in pairs], axis=0)
    error = float(differences.std(ddof=1) / np.sqrt(len(differences)))
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    centre = float(differences.mean())
    seeds = len(pairs[0][0][0])
    return Difference(
        centre,
        error,
        centre - half,
        centre + half,
        f"{len(differences)} folds" + (f" x {seeds} seeds" if seeds > 1 else ""),
    )


def over_queries(pairs: list[tuple[list[RunRecord], list[RunRecord], str]], metric: str) -> Difference:
    """Paired over queries on one split: bootstrap over (seed, query), percentile interval; pairs of rows are averaged.

    A reference row without seeds is compared with every seed of the other.
    """
    differences = [_paired(a, b, evaluation, metric) for a, b, evaluation in pairs]
    low, high, error = bootstrap(*differences)
    seeds, queries = differences[0].shape
    mean = float(np.mean([one.mean() for one in differences]))
    return Difference(mean, error, low, high, f"{seeds} seeds x {queries} queries")


def _paired(a: list[RunRecord], b: list[RunRecord], evaluation: str, metric: str) -> np.ndarray:
    """(seeds, queries) differences.  Raises ValueError where the seeds cannot be paired."""

    def values(records: list[RunRecord]) -> np.ndarray:
        return np.stack([_per_query(record, evaluation, metric) for record in records])

    ours, other = values(a), values(b)
    seeds = max(len(ours), len(other))
    if min(len(ours), len(other)) not in (1, seeds):
        raise ValueError(f"runs of {len(ours)} and of {len(other)} seeds cannot be paired")
    return np.broadcast_to(ours, (seeds, ours.shape[1])) - np.broadcast_to(other, (seeds, other.shape[1]))


def bootstrap(*values: np.ndarray, draws: int = 2000) -> tuple[float, float, float]:
    """Percentile interval (95%) and standard error of the mean of values (seeds, queries), both redrawn; of the mean of
    several."""
    random = np.random.default_rng(0)
    means = np.zeros(draws)
    for one in values:
        seeds, queries = one.shape
        for draw in range(draws):
            chosen = one[random.integers(0, seeds, seeds)]
            means[draw] += chosen[:, random.integers(0, queries, queries)].mean() / len(values)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high), float(means.std(ddof=1))


def difference_of(claim: Claim, store: Store) -> Difference:
    """What a claim's rows differ by.  Raises MissingRun with a count where runs are missing."""
    specs = {id(spec): spec for spec in claim.runs}
    records = {key: record for key, spec in specs.items() if (record := store.get(spec)) is not None}
    if len(records) < len(specs) or not specs:
        raise MissingRun(f"{len(records)} of {len(specs)} runs")

    def side(folds) -> list[list[RunRecord]]:
        return [[records[id(spec)] for spec in fold] for fold in folds]

    pairs = [(side(pair.ours), side(pair.other), pair.evaluation) for pair in claim.pairs]
    if len(pairs[0][0]) > 1:
        return over_folds(pairs, claim.metric)
    return over_queries([(ours[0], other[0], evaluation) for ours, other, evaluation in pairs], claim.metric)


def verdict(claim: Claim, difference: Difference) -> str:
    """The interval's verdict, or against the paper's where it printed one."""
    if claim.reported is None or difference.verdict == "undecided":
        return difference.verdict
    return "as in the paper" if (claim.reported > 0) == (difference.mean > 0) else "opposite to the paper"


def ranking_values(ranking: Ranking, store: Store) -> dict[str, np.ndarray]:
    """{label: (seeds, queries)} of the rows whose runs are there."""
    values = {}
    for row in ranking.rows:
        records = [record for spec in row.runs if (record := store.get(spec)) is not None]
        if not records or len(records) < len(row.runs):
            continue
        try:
            per_query = [_per_query(record, row.cells[0].evaluation, ranking.metric) for record in records]
        except MissingRun:  # of some runs the evidence keeps means alone
            continue
        if len({len(one) for one in per_query}) == 1:  # runs over choices of classes have queries of their own
            values[row.label] = np.stack(per_query)
    return values


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


def standings(values: dict[str, np.ndarray], draws: int = 2000) -> Standings:
    """Ranks methods, and says which pairs differ, at 95% for all pairs together.

    values   {name: (seeds, queries)}, the same queries in the same order for all

    Queries are redrawn together for all methods (the comparison is paired over queries), seeds for each.  A pair's
    critical difference is its standard error times one number for all pairs: the 95th percentile of the largest
    studentised error of any pair.  With independent normal errors of one size it is Tukey's honestly significant
    difference; it stays valid where one method's seeds differ far more.
    """
    random = np.random.default_rng(0)
    queries = next(iter(values.values())).shape[1]
    weights = random.multinomial(queries, np.full(queries, 1 / queries), draws) / queries  # (draws, queries)
    drawn: dict[str, np.ndarray] = {}
    for name, of_method in values.items():
        if of_method.shape[1] != queries:
            raise ValueError(f"{name} was asked {of_method.shape[1]} queries, others {queries}")
        count = len(of_method)
        seeds = random.multinomial(count, np.full(count, 1 / count), draws) / count  # (draws, seeds)
        drawn[name] = (seeds * (weights @ of_method.T)).sum(1)
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
