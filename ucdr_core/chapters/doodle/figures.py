"""Doodle to Search's figures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from ucdr_core.chapters.common import ZERO_SHOT, first_run, one_of
from ucdr_core.chapters.doodle.rows import VIEWS
from ucdr_core.chapters.tiers import TITLES, Tier
from ucdr_core.evidence.rows import Runs
from ucdr_core.evidence.store import Store
from ucdr_core.methods.doodle import ramp
from ucdr_core.render import drawing
from ucdr_core.render.drawing import COLOURS, Drawing
from ucdr_core.training.spec import TrainSpec

SKETCHY_TRAINING_SKETCHES = 57_000  # about: those of the 93 training classes, one rendering each


def _sheet(*domains: str) -> Callable[[Tier, Store], Drawing]:
    """Figures 1 and 2: the same classes in the data sets, from careful to hasty."""

    def draw(tier: Tier, _: Store) -> Drawing:
        manifests = {view: one_of(tier.runs("frozen", view)).manifest() for view in VIEWS if tier.has(view)}
        shared = sorted(set.intersection(*(set(manifest.classes) for manifest in manifests.values())))
        wished = [name for name in ("airplane", "bear", "city", "fish", "knife", "tree") if name in shared]
        columns = {
            f"{TITLES[view]}, {domain}": (manifest, domain)
            for view, manifest in manifests.items()
            for domain in domains
        }
        return drawing.contact_sheet(columns, wished or shared[:6])

    return draw


def _figure4(view: str) -> Callable[[Tier, Store], Drawing]:
    def draw(tier: Tier, store: Store) -> Drawing:
        records = [
            (title, first_run(tier.runs(method, view), store))
            for title, method in (("Frozen features", "frozen"), ("Doodle to Search", "doodle"))
        ]
        queries = drawing.one_query_per_class(records[0][1], ZERO_SHOT, 7)
        return drawing.retrieval_grid([(title, record, ZERO_SHOT) for title, record in records], queries)

    return draw


def map_beside_frozen(trained: Runs, frozen: Runs, title: str, store: Store, number: int = 8) -> Drawing:
    """Queries and gallery of `number` unseen classes, frozen and trained side by side."""
    record, reference = first_run(trained, store), first_run(frozen, store)
    classes = sorted(np.random.default_rng(0).permutation(record.spec.class_split().test)[:number])
    rows = record.spec.manifest().rows(record.spec.train_domains, classes)
    points = [drawing.points_of("Frozen features", reference, rows), drawing.points_of(title, record, rows)]
    return drawing.embedding_maps(points, classes)


def _map(tier: Tier, store: Store) -> Drawing:
    return map_beside_frozen(tier.runs("doodle", "sketchy"), tier.runs("frozen", "sketchy"), "Doodle to Search", store)


def _ramp(tier: Tier, _: Store) -> Drawing:
    """lambda_d over the first epochs, by iteration (paper) and by place in the epoch (code), for the tier's Sketchy and
    for Sketchy."""
    spec = one_of(tier.runs("doodle", "sketchy"))
    split, counts, batch = spec.class_split(), spec.manifest().counts(), spec.recipe["batch_size"]
    steps_of = {
        f"Sketchy, tier {tier.name}": max(1, int(counts.loc["sketch", list(split.train)].sum()) // batch),
        "Sketchy": SKETCHY_TRAINING_SKETCHES // batch,
    }
    fig = Figure(figsize=(9, 2.8))
    lines = []
    for axis, (title, steps) in zip(fig.subplots(1, 2, sharey=True), steps_of.items()):
        iterations = np.arange(4 * steps if steps < 200 else steps + 60)
        axis.plot(iterations, [ramp(i) for i in iterations], color=COLOURS[0], label="by iteration (paper)")
        axis.plot(
            iterations,
            [ramp(i % steps) for i in iterations],
            color=COLOURS[1],
            ls="--",
            label="by place in the epoch (code)",
        )
        axis.set(title=f"{title}: {steps:,} steps an epoch", xlabel="iteration", ylim=(-0.05, 1.05))
        one_epoch = [ramp(i) for i in range(steps)]
        lines.append(
            f"{title}: {steps} steps an epoch; the code's lambda_d is 0 in {min(6, steps)} steps of each, "
            f"reaches {max(one_epoch):.2f}, mean {np.mean(one_epoch):.2f}"
        )
    fig.axes[0].set_ylabel("$\\lambda_d$")
    fig.axes[1].legend(frameon=False, fontsize=8, loc="center")
    sns.despine(fig)
    fig.tight_layout()
    return Drawing(fig, "\n".join(lines))


FIGURES: dict[str, Callable[[Tier, Store], Drawing]] = {
    "figure1": _sheet("sketch"),
    "figure2": _sheet("sketch", "photo"),
    "figure4_sketchy": _figure4("sketchy"),
    "figure4_quickdraw": _figure4("quickdraw"),
    "ramp": _ramp,
    "map": _map,
}


def figure_runs(tier: Tier) -> list[TrainSpec]:
    return []
