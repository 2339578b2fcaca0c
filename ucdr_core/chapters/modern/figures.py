"""Frozen features by trunk and mending."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from ucdr_core.chapters.common import Absent
from ucdr_core.chapters.modern.rows import trunks
from ucdr_core.chapters.tiers import Tier
from ucdr_core.evidence.store import Store
from ucdr_core.render.drawing import COLOURS, MARKERS, Drawing
from ucdr_core.training.spec import TrainSpec


def _trunks(tier: Tier, store: Store) -> Drawing:
    """Frozen features by trunk and mending, and two trained methods; trunks without runs are left out."""
    points = []
    for row in trunks(tier).rows:
        cell = row.cells[0]
        records = [record for spec in cell.runs if (record := store.get(spec)) is not None]
        if records and len(records) == len(cell.runs):
            points.append(
                (row, float(np.mean([store.need(spec).scores(cell.evaluation)[cell.metric] for spec in cell.runs])))
            )
    if not points:
        raise Absent("no run of these trunks is there")
    groups, series = (
        list(dict.fromkeys(values)) for values in ([row.group for row, _ in points], [row.label for row, _ in points])
    )
    fig = Figure(figsize=(7, 3.2))
    axis, lines, labelled = fig.subplots(), [], set()
    for row, value in points:
        place = series.index(row.label)
        label = None if row.label in labelled else row.label
        labelled.add(row.label)
        axis.plot(value, groups.index(row.group), MARKERS[place], color=COLOURS[place], ms=8, label=label)
        lines.append(f"{row.group}, {row.label}: {value:.3f}")
    axis.set_yticks(range(len(groups)), groups)
    axis.invert_yaxis()
    axis.set(xlabel="mAP@all")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    sns.despine(fig)
    fig.tight_layout()
    return Drawing(fig, "\n".join(lines))


FIGURES: dict[str, Callable[[Tier, Store], Drawing]] = {"trunks": _trunks}


def figure_runs(tier: Tier) -> list[TrainSpec]:
    return []
