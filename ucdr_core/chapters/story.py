"""The story of the four papers: the difference that each ingredient makes here."""

from __future__ import annotations

from collections.abc import Callable

import seaborn as sns
from matplotlib.figure import Figure

from ucdr_core import chapters
from ucdr_core.chapters.common import Absent
from ucdr_core.chapters.tiers import Tier
from ucdr_core.evidence.record import MissingRun
from ucdr_core.evidence.statistics import difference_of
from ucdr_core.evidence.store import Store
from ucdr_core.render.drawing import COLOURS, MARKERS, Drawing
from ucdr_core.training.spec import TrainSpec

# What each paper adds, by its own claims: (paper, table, beginning of the claim's text, what it is).
INGREDIENTS = (
    ("doodle", "table3", "Triplet + attention −", "attention"),
    ("doodle", "table3", "Triplet + attention + domain −", "forgetting the domain"),
    ("doodle", "table3", "Triplet + attention + semantic −", "word vectors"),
    ("snmpnet", "table5", "Base N/W + $L_{SN}$ −", "distances between classes"),
    ("snmpnet", "table5", "Base N/W + mixing −", "mixing domains"),
    ("snmpnet", "table5", "SnMpNet (all) − Base N/W + mixing", "predicting the mixture"),
    ("strad", "table1", "Sketchy: STRAD − Simple SB", "structure and appearance apart"),
    ("stl", "table3", "Sketchy: semi-heterogeneous − one", "shared upper layers"),
    ("stl", "table3", "Sketchy: + semantic", "word vectors"),
    ("stl", "table3", "Sketchy: + unlabelled", "unlabelled photos of the gallery"),
)
TITLES = {"doodle": "Doodle to Search, 2019", "strad": "STRAD, 2019–21", "snmpnet": "SnMpNet, 2021", "stl": "STL, 2023"}


def _ingredients(tier: Tier, store: Store) -> Drawing:
    """The difference that each paper's ingredients make here, with its interval, in the order of the story."""
    fig = Figure(figsize=(8, 4.6))
    axis, lines, labelled = fig.subplots(), [], set()
    for place, (paper, table, beginning, what) in enumerate(INGREDIENTS):
        claim = next(one for one in chapters.load(paper).CLAIMS[table](tier) if one.text.startswith(beginning))
        try:
            difference = difference_of(claim, store)
        except MissingRun as missing:
            lines.append(f"{TITLES[paper]}, {what}: {missing}")
            continue
        colour, marker = COLOURS[list(TITLES).index(paper)], MARKERS[list(TITLES).index(paper)]
        label = None if paper in labelled else TITLES[paper]
        labelled.add(paper)
        axis.plot([difference.low, difference.high], [-place, -place], color=colour, lw=2)
        axis.plot(difference.mean, -place, marker, color=colour, ms=8, label=label)
        lines.append(
            f"{TITLES[paper]}, {what}: {difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
        )
    if not labelled:
        raise Absent("no claim of the story has its runs")
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks([-place for place in range(len(INGREDIENTS))], [what for *_, what in INGREDIENTS])
    axis.set(xlabel=f"difference in mAP@all on {tier.title}, 95% interval")
    axis.legend(frameon=False, fontsize=9)
    sns.despine(fig)
    fig.tight_layout()
    return Drawing(fig, "\n".join(lines))


TABLES: dict = {}
CLAIMS: dict = {}
FIGURES: dict[str, Callable[[Tier, Store], Drawing]] = {"ingredients": _ingredients}


def figure_runs(tier: Tier) -> list[TrainSpec]:
    return []
