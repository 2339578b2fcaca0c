"""All methods on one question at a time, by one metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ucdr_core.chapters.common import ZERO_SHOT
from ucdr_core.chapters.systems import DEFAULTS, SEEDED, SYSTEMS, mark_of_system, seeds_for
from ucdr_core.chapters.tiers import TITLES, Tier
from ucdr_core.evidence.record import MissingRun
from ucdr_core.evidence.rows import METRIC_TITLES, Cell, Computed, Listing, Ranking, Row
from ucdr_core.evidence.statistics import ranking_answers
from ucdr_core.evidence.store import Store
from ucdr_core.render.tables import SYMBOLS

METRICS = ("map_all", "prec_10")


@dataclass(frozen=True)
class Question:
    """What every method is asked of a view: the evaluation, and what is held out of training.

    but   systems that it is not put to on small machines, since they take minutes a seed on its five domains
    """

    title: str
    evaluation: str = ZERO_SHOT
    held_out: dict = field(default_factory=dict)
    but: tuple[str, ...] = ()


QUESTIONS = {
    **{
        view: Question(f"Unseen classes from sketches, {TITLES[view]}") for view in ("sketchy", "tuberlin", "quickdraw")
    },
    # The row "sketch" of SnMpNet's Table 2.
    "domainnet": Question(
        "Unseen classes from an unseen domain (sketch), DomainNet",
        "ucdr:sketch:unseen",
        {"held_out": "sketch"},
        ("SaN", "Doodle to Search", "STL, inductive, seen names only", "STL, inductive", "STL"),
    ),
}


def ranking(tier: Tier, view: str, metric: str) -> Ranking:
    question = QUESTIONS[view]
    rows = tuple(
        Row(
            label,
            (
                Cell(
                    tier.system(label, view, seeds_for(system.method, view), **question.held_out),
                    question.evaluation,
                    metric,
                ),
            ),
            mark=mark_of_system(label),
        )
        for label, system in SYSTEMS.items()
        if label not in question.but
    )
    remark = ""
    if question.but:
        remark = f" Without {', '.join(question.but)}: minutes a seed on five domains."
    if view in SEEDED and not tier.same_terms:
        methods = ", ".join(DEFAULTS[method].label for method in SEEDED[view])
        remark += f" One seed but for {methods}: the intervals of the others leave the seeds out."
    else:
        remark += " SaN has one seed: its interval leaves the seeds out."
    return Ranking(
        "league",
        f"{view}-{metric}",
        f"{question.title}, {tier.title}, by {METRIC_TITLES[metric]}.{remark}",
        rows,
        metric,
    )


def _table(view: str, metric: str) -> Callable[[Tier], Ranking]:
    return lambda tier: ranking(tier, view, metric)


def overview(tier: Tier) -> Computed:
    """Rank of every method in every ranking by mAP@all, and the mean of its ranks."""
    rankings = {view: ranking(tier, view, "map_all") for view in QUESTIONS if tier.has(view)}
    title = "Rank by mAP@all in each ranking"
    return Computed(
        title,
        tuple(spec for one in rankings.values() for spec in one.runs),
        lambda store: _overview(rankings, title, store),
    )


def _overview(rankings: dict[str, Ranking], title: str, store: Store) -> Listing:
    places = {}
    for view, one in rankings.items():
        means = {label: answers.values.mean() for label, answers in ranking_answers(one, store).items()}
        places[view] = {label: place for place, label in enumerate(sorted(means, key=lambda of: -means[of]), 1)}
    ranks = {label: [place[label] for place in places.values() if label in place] for label in SYSTEMS}
    mean = {label: sum(of_label) / len(of_label) for label, of_label in ranks.items() if of_label}
    if not mean:
        raise MissingRun("no run of these rankings is there yet")
    rows = tuple(
        (
            label + SYMBOLS[mark_of_system(label)],
            f"{mean[label]:.1f}",
            *(str(place.get(label, "")) for place in places.values()),
        )
        for label in sorted(mean, key=mean.__getitem__)
    )
    return Listing(
        "league",
        "overview",
        f"{title}, sorted by their mean. Most neighbours cannot be told apart: see the rankings.",
        ("Method", "Mean rank", *(TITLES[view] for view in places)),
        rows,
        f"The runs of the {len(rankings)} rankings on this page.",
    )


TABLES = {
    "overview": overview,
    **{f"{view}-{metric}": _table(view, metric) for view in QUESTIONS for metric in METRICS},
}
CLAIMS: dict = {}
