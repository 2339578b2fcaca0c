"""Figures of the audit that need no run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from ucdr_core.chapters.audit.rows import PAPER_NAMES, VARIANTS, example_rankings, printed_pairs, ranking
from ucdr_core.chapters.tiers import Tier
from ucdr_core.evidence.store import Store
from ucdr_core.render.drawing import COLOURS, MARKERS, Drawing
from ucdr_core.training.spec import TrainSpec


def _variants(_: Tier, __: Store) -> Drawing:
    """The precision at each rank that every definition sums over the relevant ranks, and the interpolated one."""
    rankings = example_rankings()
    fig = Figure(figsize=(10, 3.3))
    lines = []
    for axis, (name, relevant) in zip(fig.subplots(1, len(rankings), sharey=True), rankings.items()):
        precision = relevant.cumsum() / np.arange(1, len(relevant) + 1)
        interpolated = np.maximum.accumulate(precision[::-1])[::-1]
        axis.plot(np.arange(1, len(relevant) + 1), precision, color=COLOURS[0], label="precision $P_k$")
        axis.plot(np.arange(1, len(relevant) + 1), interpolated, color=COLOURS[1], ls="--", label="interpolated")
        axis.plot(
            np.flatnonzero(relevant) + 1, np.full(relevant.sum(), -0.04), "|", color="0.4", ms=5, label="relevant"
        )
        axis.axvline(200, color="black", lw=0.8)
        scores = ranking(relevant)
        text = "\n".join(f"{variant} {scores[variant]:.3f}" for variant in VARIANTS)
        axis.text(
            0.97,
            0.97,
            text,
            transform=axis.transAxes,
            ha="right",
            va="top",
            fontsize=7,
            family="monospace",
            bbox={"fc": "white", "ec": "none", "alpha": 0.8},
        )
        axis.set(title=name.replace(", ", ",\n", 1) if len(name) > 35 else name, xlabel="rank", ylim=(-0.08, 1.02))
        axis.title.set_fontsize(9)
        lines.append(
            f"{name}: {relevant.sum()} relevant, {relevant[:200].sum()} of them in the first 200, map_200 "
            f"{scores['map_200']:.3f}, map_200_k {scores['map_200_k']:.3f}"
        )
    fig.axes[0].set_ylabel("precision")
    fig.axes[1].legend(framealpha=1, edgecolor="none", fontsize=8, loc="upper left")
    sns.despine(fig)
    fig.tight_layout()
    return Drawing(fig, "\n".join(lines))


def _inequality(_: Tier, __: Store) -> Drawing:
    """Every printed pair of Prec@200 and mAP@200."""
    pairs = printed_pairs()
    fig = Figure(figsize=(5.2, 4.6))
    axis, lines = fig.subplots(), []
    for (paper, rows), colour, marker in zip(pairs.groupby("paper", sort=False), COLOURS, MARKERS):
        axis.plot(
            rows.prec_200, rows.map_200, marker, color=colour, ms=5, alpha=0.7, label=f"tables of {PAPER_NAMES[paper]}"
        )
        lines.append(
            f"{PAPER_NAMES[paper]}: {len(rows)} rows, mAP@200 above Prec@200 in "
            f"{int((rows.map_200 > rows.prec_200).sum())}"
        )
    limit = float(max(pairs.prec_200.max(), pairs.map_200.max())) * 1.05
    axis.plot([0, limit], [0, limit], color="black", lw=0.8)
    axis.text(limit * 0.98, limit * 0.03, "divided by 200:\nbelow the line", ha="right", va="bottom", fontsize=8)
    axis.set(xlabel="printed Prec@200", ylabel="printed mAP@200", xlim=(0, limit), ylim=(0, limit), aspect="equal")
    axis.legend(frameon=False, loc="upper left", fontsize=8)
    sns.despine(fig)
    return Drawing(fig, "\n".join(lines))


FIGURES: dict[str, Callable[[Tier, Store], Drawing]] = {"variants": _variants, "inequality": _inequality}


def figure_runs(tier: Tier) -> list[TrainSpec]:
    return []
