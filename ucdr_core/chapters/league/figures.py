"""The rankings as plots."""

from __future__ import annotations

from collections.abc import Callable

from ucdr_core.chapters.common import Absent
from ucdr_core.chapters.league.rows import QUESTIONS, ranking
from ucdr_core.chapters.systems import SYSTEMS, mark_of_system
from ucdr_core.chapters.tiers import Tier
from ucdr_core.evidence.statistics import ranking_answers
from ucdr_core.evidence.store import Store
from ucdr_core.render.drawing import Drawing, standings_plot
from ucdr_core.render.tables import SYMBOLS
from ucdr_core.training.spec import TrainSpec

KINDS = {  # how the methods of a ranking are coloured
    "reference": ("Chance", "Frozen features", "Frozen, means removed"),
    "triplets and pairs": (
        "SaN",
        "Siamese",
        "Doodle to Search",
        "STL, inductive, seen names only",
        "STL, inductive",
        "STL",
    ),
    "class names": ("ESZSL", "SAE", "CMT", "DeViSE", "EISNet-retrieval", "CuMix-retrieval", "SnMpNet"),
    "classification": ("Simple DB", "Simple SB", "SAKE", "SAKE, w/o label", "SAKE, 300, w/o label"),
    "generative": (
        "ZSIH",
        "CVAE",
        "SEM-PCYC",
        "Xu et al. 2019",
        "Dutta & Biswas 2019",
        "SketchGCN",
        "OCEAN",
        "STRAD (D)",
        "STRAD (S)",
    ),
}


def _standings(view: str) -> Callable[[Tier, Store], Drawing]:
    def draw(tier: Tier, store: Store) -> Drawing:
        answers = ranking_answers(ranking(tier, view, "map_all"), store)
        if not answers:
            raise Absent("no run of this ranking is there")
        symbols = {label: SYMBOLS[mark_of_system(label)] for label in SYSTEMS}
        return standings_plot(answers, QUESTIONS[view].title, KINDS, symbols)

    return draw


FIGURES = {view: _standings(view) for view in QUESTIONS}


def figure_runs(tier: Tier) -> list[TrainSpec]:
    return []
