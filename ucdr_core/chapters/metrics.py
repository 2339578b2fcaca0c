"""The metrics chapter: one ranking under every published definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from ucdr_core.chapters.tiers import Tier
from ucdr_core.evidence.store import Store
from ucdr_core.render.drawing import COLOURS, Drawing
from ucdr_core.training.spec import TrainSpec


def definitions(relevant: np.ndarray, k: int) -> dict[str, tuple[np.ndarray, float, str]]:
    """{metric: (what it adds up at each rank (n,), what it divides by, that in words)} of one ranking, relevant (n,)
    bool, best first.

    The formulas as they stand in the chapter, with K in the place of 200; their quotients are what `retrieval.metrics`
    gives at K = 200.
    """
    precision = relevant.cumsum() / np.arange(1, len(relevant) + 1)
    first = np.arange(len(relevant)) < k
    above = np.maximum.accumulate(precision[::-1])[::-1]
    above_k = np.where(first, np.maximum.accumulate(np.where(first, precision, 0)[::-1])[::-1], 0)
    hits, total = relevant[:k].sum(), relevant.sum()
    return {
        "map_all": (relevant * precision, total, f"R = {total}"),
        "map_all_voc": (relevant * above, total, f"R = {total}"),
        f"map_{k}": (relevant * precision * first, max(hits, 1), f"hits = {hits}"),
        f"map_{k}_k": (relevant * precision * first, k, f"K = {k}"),
        f"map_{k}_min": (relevant * precision * first, min(k, total), f"min(K, R) = {min(k, total)}"),
        f"map_{k}_voc": (relevant * above_k * first, min(k, total), f"min(K, R) = {min(k, total)}"),
        f"prec_{k}": (relevant * first * 1.0, min(k, len(relevant)), f"min(K, N) = {min(k, len(relevant))}"),
    }


EXAMPLE = np.array([1, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1], bool)


def metric_panels(relevant: np.ndarray = EXAMPLE, k: int = 10) -> Drawing:
    """One ranking under each definition: bars are what it adds up, beside what it divides by."""
    every = definitions(relevant, k)
    fig = Figure(figsize=(10, 4.4))
    axes = fig.subplots(2, 4, sharex=True, sharey=True).ravel()
    ranks, lines = np.arange(1, len(relevant) + 1), []
    for axis, (name, (terms, divisor, words)) in zip(axes, every.items()):
        axis.bar(ranks, terms, color=np.where(relevant[:, None], [COLOURS[0]], [(0.8, 0.8, 0.8)]), width=0.8)
        axis.plot(ranks, relevant.cumsum() / ranks, color=COLOURS[1], lw=1)
        axis.plot(ranks[relevant], np.full(relevant.sum(), -0.06), "s", color=COLOURS[0], ms=3)
        axis.axvline(k + 0.5, color="black", lw=0.6)
        axis.set_title(f"{name} = {terms.sum() / divisor:.3f}\nsum {terms.sum():.2f} by {words}", fontsize=9)
        lines.append(f"{name} {terms.sum() / divisor:.3f} = {terms.sum():.3f} / {divisor}")
    axes[-1].axis("off")
    axes[-1].text(0, 0.6, "squares: relevant\nline: precision $P_k$\nbars: what is added up", fontsize=9, va="center")
    for axis in axes[4:7]:
        axis.set_xlabel("rank")
    axes[0].set(ylim=(-0.1, 1.05), ylabel="precision")
    sns.despine(fig)
    fig.tight_layout()
    return Drawing(fig, "\n".join(lines))


TABLES: dict = {}
CLAIMS: dict = {}
FIGURES: dict[str, Callable[[Tier, Store], Drawing]] = {"definitions": lambda _, __: metric_panels()}


def figure_runs(tier: Tier) -> list[TrainSpec]:
    return []
