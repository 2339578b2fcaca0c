"""Explorers for notebooks, one for the idea that is each chapter's own.

They need a running kernel, and train the models that they ask, once: seconds to a minute on a CPU.  The published page
shows a static figure beside each.
"""

from __future__ import annotations

import html

import ipywidgets
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from ucdr_core.chapters.common import ZERO_SHOT
from ucdr_core.chapters.metrics import metric_panels
from ucdr_core.chapters.stl.figures import CALIBRATED, calibration_margins
from ucdr_core.chapters.stl.rows import runs_of as stl_runs
from ucdr_core.chapters.strad.rows import strad
from ucdr_core.chapters.tiers import Tier, tier_of
from ucdr_core.data import DataError
from ucdr_core.evidence.record import MissingRun
from ucdr_core.evidence.store import Store
from ucdr_core.methods import semantics
from ucdr_core.methods.doodle import ramp, semantic_negatives
from ucdr_core.render.drawing import COLOURS, Drawing, retrieval_grid
from ucdr_core.retrieval import evaluate
from ucdr_core.retrieval.ranking import rank, unit
from ucdr_core.training.spec import TrainSpec


def explorer(paper: str, tier: str | Tier = "embedded", **options) -> ipywidgets.Widget:
    """The explorer of a paper's chapter.  Raises DataError for a paper that has none."""
    if paper not in EXPLORERS:
        raise DataError(f"there is no explorer for {paper!r}; known: {', '.join(EXPLORERS)}")
    try:
        return EXPLORERS[paper](tier_of(tier), **options)
    except (MissingRun, IndexError, DataError) as problem:
        return ipywidgets.HTML(
            f"This explorer needs a trained run of tier {html.escape(str(tier))}: {html.escape(str(problem))}"
        )


def retrieval(tier: Tier, held_out: str = "sketch", k: int = 8) -> ipywidgets.Widget:
    """SnMpNet: pick a query domain, a class and one of its drawings: the first k of the gallery, and the class names
    nearest to its embedding."""
    record = _made(tier.runs("snmpnet", "domainnet", held_out=held_out)[0])
    evaluations = {e.split(":")[1]: e for e in record.evaluations if e.endswith(":unseen")}
    labels = record.spec.manifest().samples.class_name.to_numpy()
    split = record.spec.class_split()
    names = np.array([*split.train, *split.val, *split.test])
    vectors = semantics.prepare(semantics.class_vectors(names), dimension=record.spec.embedding_dim)

    domain = ipywidgets.Dropdown(options=list(evaluations), description="domain")
    class_name = ipywidgets.Dropdown(options=sorted(split.test), description="class")
    number = ipywidgets.IntSlider(min=0, max=5, description="drawing")
    picture, words = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def show(_=None) -> None:
        query = record.task(evaluations[domain.value]).query
        of_class = query[labels[query] == class_name.value]
        number.max = len(of_class) - 1
        chosen = of_class[[min(number.value, len(of_class) - 1)]]
        picture.value = retrieval_grid([("unseen classes", record, evaluations[domain.value])], chosen, k).png()
        nearest = names[rank(record.embed(chosen), vectors, "cosine")[0, :6]]
        words.value = "nearest class names: " + ", ".join(
            f"<b>{n}</b>" if n == class_name.value else n for n in nearest
        )

    return _linked([domain, class_name, number], [picture, words], show)


def reversal(tier: Tier) -> ipywidgets.Widget:
    """Doodle to Search: where the reversal ramp stands at an iteration, and which classes the hard negatives of a class
    come from."""
    spec = tier.runs("doodle", "sketchy")[0]
    split = spec.class_split()
    vectors = semantics.prepare(semantics.class_vectors(sorted(split.train)), length=1.0)
    names = np.array(sorted(split.train))

    iteration = ipywidgets.IntSlider(min=0, max=100, value=12, description="iteration")
    steps = ipywidgets.IntSlider(min=5, max=100, value=20, description="steps/epoch")
    anchor = ipywidgets.Dropdown(options=list(names), description="anchor")
    scale = ipywidgets.FloatLogSlider(min=-2, max=1, base=10, value=spec.options["negative_scale"], description="scale")
    picture, words = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def show(_=None) -> None:
        fig = Figure(figsize=(9, 2.8))
        left, right = fig.subplots(1, 2)
        iterations = np.arange(101)
        left.plot(iterations, [ramp(i) for i in iterations], color=COLOURS[0], label="paper")
        left.plot(iterations, [ramp(i % steps.value) for i in iterations], color=COLOURS[1], ls="--", label="code")
        left.axvline(iteration.value, color="grey", lw=0.8)
        left.set(xlabel="iteration", ylabel="$\\lambda_d$")
        left.legend(frameon=False)
        p = semantic_negatives(vectors, scale.value)[list(names).index(anchor.value)]
        first = np.argsort(-p)[:8]
        right.barh(names[first][::-1], p[first][::-1], color=COLOURS[2])
        right.set(xlabel="probability of the negative's class")
        sns.despine(fig)
        fig.tight_layout()
        picture.value = Drawing(fig, "").png()
        perplexity = np.exp(-(p[p > 0] * np.log(p[p > 0])).sum())
        words.value = (
            f"the encoder gets the domain classifier's gradient times {-ramp(iteration.value):.2f} (paper) or "
            f"{-ramp(iteration.value % steps.value):.2f} (code); negatives of <b>{anchor.value}</b> come from "
            f"{perplexity:.1f} classes (perplexity)"
        )

    return _linked([iteration, steps, anchor, scale], [picture, words], show)


def calibration(tier: Tier) -> ipywidgets.Widget:
    """STL: how many photos of unseen classes are taken for a seen class, with and without calibration, and what a
    margin would ask."""
    margins = {
        title: calibration_margins(_made(stl_runs(tier, "sketchy", options)[0]))
        for title, options in CALIBRATED.items()
    }

    delta = ipywidgets.FloatSlider(min=0, max=0.5, step=0.01, value=0.01, description="margin δ", readout_format=".2f")
    picture, words = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def show(_=None) -> None:
        fig = Figure(figsize=(7, 2.8))
        axis = fig.subplots()
        for (title, margin), colour in zip(margins.items(), COLOURS):
            axis.hist(margin, bins=np.linspace(-1, 1, 41), alpha=0.5, color=colour, label=title)
        axis.axvspan(-delta.value, 1, color="grey", alpha=0.15)
        axis.set(xlabel="largest P of a seen class − largest P of an unseen class", ylabel="photos")
        axis.legend(frameon=False)
        sns.despine(fig)
        picture.value = Drawing(fig, "").png()
        words.value = "; ".join(
            f"<b>{title}</b>: {np.mean(margin + delta.value > 0):.0%} of the photos pay, mean loss "
            f"{np.clip(margin + delta.value, 0, None).mean():.3f}"
            for title, margin in margins.items()
        )

    return _linked([delta], [picture, words], show)


def spaces(tier: Tier, k: int = 5) -> ipywidgets.Widget:
    """STRAD: the weights of the three spaces, a query, and what each space and their fusion retrieve."""
    record = _made(strad(tier, "sketchy")[0])
    task = record.task(ZERO_SHOT)
    manifest = record.spec.manifest()
    labels = manifest.samples.class_name.to_numpy().astype(str)
    by_space = {}
    for name in ("sketch", "image", "structure"):
        by_space[name] = [unit(record.embed(rows, name)) for rows in (task.query, task.gallery)]

    weights = {name: ipywidgets.FloatSlider(min=0, max=1, step=0.1, value=0.3, description=name) for name in by_space}
    class_name = ipywidgets.Dropdown(options=sorted(set(labels[task.query])), description="class")
    picture, words = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def show(_=None) -> None:
        total = sum(slider.value for slider in weights.values()) or 1.0
        fused = [
            np.concatenate(
                [np.sqrt(weights[name].value / total) * pair[side] for name, pair in by_space.items()], axis=1
            )
            for side in range(2)
        ]
        score = evaluate(fused[0], labels[task.query], fused[1], labels[task.gallery], "cosine")["map_all"]
        query = task.query[labels[task.query] == class_name.value][:1]
        parts = [(f"{name} space", record, f"{ZERO_SHOT}@{name}") for name in by_space]
        picture.value = retrieval_grid(parts, query, k).png()
        row = int(np.flatnonzero(task.query == query[0])[0])
        first = labels[task.gallery[rank(fused[0][[row]], fused[1], "cosine")[0, :k]]]
        words.value = f"fused: mAP@all <b>{score:.3f}</b> over all queries; for this one {', '.join(first)}"

    return _linked([*weights.values(), class_name], [picture, words], show)


def definitions(_: Tier) -> ipywidgets.Widget:
    """Metrics chapter: how good the ranking is, how many are relevant, and K; every definition on what comes out."""
    relevant = ipywidgets.IntSlider(8, 1, 40, description="relevant R")
    gallery = ipywidgets.IntSlider(40, 10, 100, description="gallery")
    quality = ipywidgets.FloatSlider(1.0, min=0.0, max=4.0, step=0.25, description="quality")
    cut = ipywidgets.IntSlider(10, 1, 40, description="K")
    picture = ipywidgets.Image(format="png")

    def show(_=None) -> None:
        random = np.random.default_rng(0)
        right = np.arange(gallery.value) < min(relevant.value, gallery.value)
        order = np.argsort(-(random.standard_normal(gallery.value) + quality.value * right))
        picture.value = metric_panels(right[order], min(cut.value, gallery.value)).png()

    return _linked([relevant, gallery, quality, cut], [picture], show)


EXPLORERS = {"metrics": definitions, "snmpnet": retrieval, "doodle": reversal, "stl": calibration, "strad": spaces}


def _made(spec: TrainSpec):
    """The trained run of the spec, with its weights: made here on the embedded data, on others the user's own.

    Raises MissingRun where there is none.
    """
    store = Store()
    if spec.dataset.startswith("emoji"):
        return store.make(spec, progress=False)
    if (record := store.trained(spec)) is None:
        raise MissingRun(f"`ucdr reproduce --only {spec.key}` makes it")
    return record


def _linked(controls: list, results: list, show) -> ipywidgets.Widget:
    for control in controls:
        control.observe(show, "value")
    show()
    return ipywidgets.VBox([ipywidgets.HBox(controls, layout={"flex_flow": "row wrap"}), *results])
