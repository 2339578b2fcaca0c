"""STRAD's figures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import seaborn as sns
import torch
from matplotlib.figure import Figure

from ucdr_core.chapters.common import ZERO_SHOT, Absent, first_run
from ucdr_core.chapters.strad.rows import SPACES, simple, strad
from ucdr_core.chapters.tiers import Tier
from ucdr_core.evidence.record import RunRecord
from ucdr_core.evidence.rows import Runs
from ucdr_core.evidence.store import Store
from ucdr_core.render import drawing
from ucdr_core.render.drawing import COLOURS, Drawing, Points, neighbour_purity
from ucdr_core.retrieval.ranking import unit
from ucdr_core.training.loop import validate
from ucdr_core.training.spec import TrainSpec

FEATURES = (
    "image appearance",
    "image structure",
    "sketch structure",
    "image",
    "generated image",
    "sketch",
    "generated sketch",
)
OF_PHOTOS = ("image appearance", "image structure", "image", "generated sketch")


def features(record: RunRecord, rows: np.ndarray) -> list[Points]:
    """The seven features of Figure 3, each of the rows whose domain has it."""
    samples = record.spec.manifest().samples
    photos = (samples.domain == record.spec.gallery_domain).to_numpy()
    parts = []
    for name in FEATURES:
        of_feature = rows[photos[rows] == (name in OF_PHOTOS)]

        def compute(run, name: str = name, of_feature: np.ndarray = of_feature) -> np.ndarray:
            method, feed = run.model()
            with torch.inference_mode():
                return method.feature(name, feed(of_feature).flatten(1)).numpy()

        values = record.derive(f"feature {name}", compute).astype(float)
        parts.append(
            Points(
                name,
                values,
                samples.class_name.to_numpy()[of_feature],
                samples.domain.to_numpy()[of_feature],
                np.full(len(of_feature), name in OF_PHOTOS),
                f"run {record.key}",
            )
        )
    return parts


def _figure3(tier: Tier, store: Store) -> Drawing:
    record = first_run(strad(tier, "sketchy"), store)
    classes = sorted(np.random.default_rng(0).permutation(record.spec.class_split().test)[:10])
    parts = features(record, record.spec.manifest().rows(("sketch", "photo"), classes))
    drawn = drawing.embedding_maps(parts, [], planes=("t-SNE",), columns=3)
    # What the maps are looked at for, said by the numbers: t-SNE shows clusters where there are none.
    purity = {part.title: round(neighbour_purity(unit(part.embeddings), part.classes), 2) for part in parts}
    order = ", ".join(f"{name} {purity[name]:.2f}" for name in sorted(purity, key=lambda name: -purity[name]))
    return Drawing(drawn.figure, f"{drawn.fingerprint}\nfrom the purest by class: {order}")


def _figure4(tier: Tier, store: Store) -> Drawing:
    seed = strad(tier, "sketchy")[0].seed if tier.has("sketchy") else 0

    def of_seed(runs: Runs) -> Runs:
        return tuple(spec for spec in runs if spec.seed == seed)

    runs = {
        "SAKE": tier.runs("sake", "sketchy"),
        "Dutta & Biswas 2019 §": tier.runs("content_style", "sketchy"),
        "Simple SB": simple(tier, "sketchy", "sb"),
        "STRAD (D)": strad(tier, "sketchy", "db"),
        "STRAD (S)": strad(tier, "sketchy", "sb"),
    }
    parts = [(title, first_run(of_seed(specs), store), ZERO_SHOT) for title, specs in runs.items()]
    return drawing.retrieval_grid(parts, drawing.one_query_per_class(parts[0][1], ZERO_SHOT, 7), k=5)


def _figure5(tier: Tier, store: Store) -> Drawing:
    record = first_run(strad(tier, "sketchy"), store)
    titles = {"Comb": "all spaces", "Im": "image space", "Sk": "sketch space", "St": "structure space"}
    parts = [(title, record, ZERO_SHOT + SPACES[key]) for key, title in titles.items()]
    return drawing.retrieval_grid(parts, drawing.one_query_per_class(record, ZERO_SHOT, 7), k=5)


ASKED_CLASSES = ("validation classes", "test classes")


def fusion_scores(record: RunRecord) -> np.ndarray:
    """mAP@all on validation and on test classes for lambda_2 = 0, .1, ..., 1, the rest shared by the other spaces: (2,
    11)."""

    def compute(run) -> np.ndarray:
        method, feed = run.model()
        trained, task = run.spec.training(), run.task(ZERO_SHOT)
        scores = np.empty((2, 11))
        for tenths in range(11):
            method.fuse(tenths / 10)
            for place, rows in enumerate(((trained.val_query, trained.val_gallery), (task.query, task.gallery))):
                scores[place, tenths] = validate(method, trained, feed, "map_all", rows)
        return scores

    return record.derive("fusion scores", compute).astype(float)


def fusion_weight(record: RunRecord) -> float:
    """lambda_2 as it was chosen on validation classes."""
    return round(float(record.derive("fusion weight", lambda run: run.model()[0].fusion[-1:].numpy())[0]), 3)


def _fusion(tier: Tier, store: Store) -> Drawing:
    records = [store.need(spec) for spec in strad(tier, "sketchy")[:3]]
    if not records:
        raise Absent("this tier has no data for it")
    fig = Figure(figsize=(6, 3.4))
    axis, lines = fig.subplots(), []
    scores = np.array([fusion_scores(record) for record in records])
    for place, (name, colour, marker) in enumerate(zip(ASKED_CLASSES, COLOURS, "os")):
        values = scores[:, place]
        axis.errorbar(
            np.arange(11) / 10,
            values.mean(0),
            values.std(0, ddof=1),
            label=name,
            color=colour,
            marker=marker,
            capsize=3,
        )
        lines.append(
            f"{name}: structure alone {values[:, 10].mean():.3f}, without it {values[:, 0].mean():.3f}, "
            f"best at {values.mean(0).argmax() / 10:.1f}"
        )
    axis.set(xlabel="weight of the structure space, $\\lambda_2$", ylabel="mAP@all", ylim=(0, None))
    axis.legend(frameon=False)
    sns.despine(fig)
    chosen = ", ".join(f"{fusion_weight(record):.1f}" for record in records)
    keys = ", ".join(record.key for record in records)
    return Drawing(fig, "\n".join(lines) + f"\nchosen on validation classes: {chosen}; runs {keys}")


FIGURES: dict[str, Callable[[Tier, Store], Drawing]] = {
    "figure3": _figure3,
    "figure4": _figure4,
    "figure5": _figure5,
    "fusion": _fusion,
}


def figure_runs(tier: Tier) -> list[TrainSpec]:
    return []
