"""STL's figures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import seaborn as sns
import torch
from matplotlib.figure import Figure

from ucdr_core.chapters.common import Absent, first_run
from ucdr_core.chapters.doodle.figures import map_beside_frozen
from ucdr_core.chapters.stl.rows import DIMS, INDUCTIVE, SWITCHES, dim_runs, generalised, runs_of
from ucdr_core.chapters.tiers import TITLES, Tier
from ucdr_core.evidence.record import RunRecord
from ucdr_core.evidence.store import Store
from ucdr_core.render import drawing
from ucdr_core.render.drawing import COLOURS, Drawing
from ucdr_core.training.spec import TrainSpec


def _figure4(view: str) -> Callable[[Tier, Store], Drawing]:
    def draw(tier: Tier, store: Store) -> Drawing:
        records = [
            (title, first_run(runs_of(tier, view, options), store))
            for title, options in (("STL, inductive", INDUCTIVE), ("STL", {}))
        ]
        queries = drawing.one_query_per_class(records[0][1], generalised(), 6)
        return drawing.retrieval_grid([(title, record, generalised()) for title, record in records], queries, k=6)

    return draw


def _figure5(tier: Tier, store: Store) -> Drawing:
    metric = tier.metric("map_all")
    fig = Figure(figsize=(9, 3.4))
    by_view = {view: runs for view, runs in dim_runs(tier).items() if any(runs.values())}
    if not by_view:
        raise Absent("this tier has no data for it")
    lines = []
    for axis, (view, by_dim) in zip(np.atleast_1d(fig.subplots(1, len(by_view), sharey=True)), by_view.items()):
        values = np.array(
            [[store.need(spec).scores(generalised())[metric] for spec in specs] for specs in by_dim.values()]
        )
        axis.errorbar(
            range(len(values)), values.mean(1), values.std(1, ddof=1), color=COLOURS[0], marker="o", capsize=3
        )
        axis.set(xticks=range(len(values)), xticklabels=list(DIMS), xlabel="dimensions", title=TITLES[view])
        lines += [
            f"{view}, {dim} dimensions: {metric} {row.mean():.3f} ± {row.std(ddof=1):.3f}"
            for dim, row in zip(by_dim, values)
        ]
    fig.axes[0].set(ylabel=f"{metric}, generalised", ylim=(0, None))  # once all are drawn, since they share it
    sns.despine(fig)
    fig.tight_layout()
    return Drawing(fig, "\n".join(lines))


def calibration_margins(record: RunRecord) -> np.ndarray:
    """max over seen classes less max over unseen classes of P, for each unlabelled photo of the test classes: (U,) in
    [-1, 1]."""

    def compute(run) -> np.ndarray:
        method, feed = run.model()
        with torch.inference_mode():
            rows = run.spec.training().unlabelled
            rows = rows[np.isin(run.spec.manifest().samples.class_name.to_numpy()[rows], run.spec.class_split().test)]
            p = method.log_probabilities(method.embed(feed(rows), torch.ones(len(rows), dtype=torch.bool))).exp()
        seen = len(method.class_vectors)
        return (p[:, :seen].max(1).values - p[:, seen:].max(1).values).float().numpy()

    return record.derive("calibration margins", compute).astype(float)


CALIBRATED = {"STL, inductive": INDUCTIVE, "STL": {}, "STL, weight 5 instead of 0.1": SWITCHES["$\\omega_2=5$"]}


def _calibration(tier: Tier, store: Store) -> Drawing:
    fig = Figure(figsize=(6, 3.2))
    axis, lines = fig.subplots(), []
    for (title, options), colour in zip(CALIBRATED.items(), COLOURS):
        record = first_run(runs_of(tier, "sketchy", options), store)
        margins = calibration_margins(record)
        axis.hist(margins, bins=np.linspace(-1, 1, 41), histtype="stepfilled", alpha=0.5, color=colour, label=title)
        lines.append(
            f"{title}: {len(margins)} photos of unseen classes, a seen class is predicted for "
            f"{np.mean(margins > 0):.2f} of them, "
            f"run {record.key}"
        )
    axis.axvline(0, color="black", lw=0.8)
    axis.set(xlabel="largest P of a seen class − largest P of an unseen class", ylabel="photos")
    axis.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    sns.despine(fig)
    return Drawing(fig, "\n".join(lines))


def _map(tier: Tier, store: Store) -> Drawing:
    return map_beside_frozen(runs_of(tier, "sketchy"), tier.runs("frozen", "sketchy"), "STL", store)


FIGURES: dict[str, Callable[[Tier, Store], Drawing]] = {
    "figure4_sketchy": _figure4("sketchy"),
    "figure4_tuberlin": _figure4("tuberlin"),
    "figure5": _figure5,
    "calibration": _calibration,
    "map": _map,
}


def figure_runs(tier: Tier) -> list[TrainSpec]:
    return [spec for by_dim in dim_runs(tier).values() for specs in by_dim.values() for spec in specs]
