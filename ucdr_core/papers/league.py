"""All methods on all analogues, one protocol and one metric at a time."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..runs import Store, TrainSpec
from . import Cell, Computed, Listing, Ranking, Row, seeds_of, sketchy25
from .embedded import DEFAULTS, SEEDED, SYSTEMS, mark_of_system, seeds_for, system
from .snmpnet import without

METRICS = {"map_all": "mAP@all", "prec_10": "P@10"}


@dataclass(frozen=True)
class Question:
    """What is trained on and asked: values of a TrainSpec, and the evaluation.

    but   methods that it is not put to, since they take minutes a seed on its five domains
    """

    title: str
    values: dict
    evaluation: str
    but: tuple[str, ...] = ()


_SKETCHES = {"train_domains": ("sketch", "photo"), "gallery_domain": "photo"}
QUESTIONS = {
    "sketchy": Question("Unseen classes from sketches, analogue of Sketchy", {"dataset": "emoji-sketchy", **_SKETCHES}, "zs_sbir:sketch:unseen"),
    "tuberlin": Question("Unseen classes from sketches, analogue of TU-Berlin", {"dataset": "emoji-tuberlin", **_SKETCHES}, "zs_sbir:sketch:unseen"),
    "quickdraw": Question("Unseen classes from sketches, analogue of QuickDraw", {"dataset": "emoji-quickdraw", **_SKETCHES}, "zs_sbir:sketch:unseen"),
    # The row "sketch" of SnMpNet's Table 2.
    "domainnet": Question("Unseen classes from an unseen domain (sketch), analogue of DomainNet",
                          {"dataset": "emoji-domainnet", "train_domains": without("sketch"), "gallery_domain": "real", "gallery_held_out": 0.25},
                          "ucdr:sketch:unseen", ("SaN", "Doodle to Search", "STL, inductive", "STL")),
}


def spec(question: str, label: str) -> TrainSpec:
    return TrainSpec.from_mapping({**system(label), **QUESTIONS[question].values})


def ranking(question: str, metric: str) -> Ranking:
    asked = QUESTIONS[question]
    rows = tuple(Row(label, (Cell(seeds_of(spec(question, label), seeds_for(own.method, question)), asked.evaluation, metric),),
                     mark=mark_of_system(label))
                 for label, own in SYSTEMS.items() if label not in asked.but)
    left_out = f" Without {', '.join(asked.but)}: minutes a seed on five domains." if asked.but else ""
    if question in SEEDED:
        left_out += f" One seed but for {', '.join(DEFAULTS[method].label for method in SEEDED[question])}: the intervals of the others leave the seeds out."
    else:
        left_out += " SaN has one seed: its interval leaves the seeds out."
    return Ranking("league", f"{question}-{metric}", f"{asked.title}, by {METRICS[metric]}.{left_out}", rows, metric)


def _table(question: str, metric: str) -> Callable[[], Ranking]:
    return lambda: ranking(question, metric)


def overview() -> Computed:
    """Rank of every method in every ranking by mAP@all, and the mean of its ranks."""
    built = {question: ranking(question, "map_all") for question in QUESTIONS}
    return Computed(tuple(spec for one in built.values() for spec in one.specs), lambda store: _overview(built, store))


def _overview(built: dict[str, Ranking], store: Store) -> Listing:
    from ..tables import SYMBOLS, values_of

    values = {**{question: values_of(one, store) for question, one in built.items()}, "sketchy25": sketchy25.values_of("map_all")}
    places = {question: {label: place for place, label in enumerate(sorted(one, key=lambda label: -one[label].mean()), 1)} for question, one in values.items()}
    own_places = {label: [place[label] for place in places.values() if label in place] for label in SYSTEMS}
    mean = {label: sum(own) / len(own) for label, own in own_places.items()}
    rows = tuple((label + SYMBOLS[mark_of_system(label)], f"{mean[label]:.1f}", *(str(place.get(label, "")) for place in places.values()))
                 for label in sorted(SYSTEMS, key=mean.get))
    return Listing("league", "overview", "Rank by mAP@all in each ranking, sorted by their mean. Most neighbours cannot be told apart: see the rankings.",
                   ("Method", "Mean rank", *places), rows, "The runs of the five rankings on this page.")


TABLES = {"overview": overview, **{f"{question}-{metric}": _table(question, metric) for question in QUESTIONS for metric in METRICS}}
CLAIMS: dict = {}


def figure_specs() -> list[TrainSpec]:
    return []
