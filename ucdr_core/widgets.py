"""Explorers for notebooks, one for the idea that is each chapter's own.

They need a running kernel; the published page shows a static figure beside each.
"""
from __future__ import annotations

import io

import anywidget
import ipywidgets
import numpy as np
import seaborn as sns
import traitlets
from matplotlib.figure import Figure
from PIL import Image

from . import paths, semantics
from .encoder import unit
from .figures import COLOURS, Drawing, calibration_margins, metric_panels, rank, retrieval_grid
from .methods.doodle import ramp, semantic_negatives
from .papers import seeds_of, snmpnet, stl, strad
from .papers.embedded import sketch_photo
from .retrieval import evaluate
from .runs import Store

WEB = paths.PACKAGE / "web"


def explorer(paper: str, **options) -> ipywidgets.Widget:
    """The explorer of a paper's chapter.  Raises KeyError for a paper that has none."""
    if paper not in EXPLORERS:
        raise KeyError(f"there is no explorer for {paper!r}; known: {', '.join(EXPLORERS)}")
    return EXPLORERS[paper](**options)


def retrieval(held_out: str = "sketch", k: int = 8) -> ipywidgets.Widget:
    """SnMpNet: pick a query domain, a class and one of its drawings: the first k of the gallery, and the class names nearest to its embedding."""
    record = Store().need(snmpnet.multi_domain("snmpnet", snmpnet.without(held_out)))
    asked = {e.split(":")[1]: e for e in record.evaluations if e.endswith(":unseen")}
    labels = record.spec.manifest().samples.class_name.to_numpy()
    split = record.spec.class_split()
    names = np.array([*split.train, *split.val, *split.test])
    vectors = semantics.prepare(semantics.class_vectors(names), dimension=record.spec.embedding_dim)

    domain = ipywidgets.Dropdown(options=list(asked), description="domain")
    class_name = ipywidgets.Dropdown(options=sorted(split.test), description="class")
    number = ipywidgets.IntSlider(min=0, max=5, description="drawing")
    picture, words = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def show(_=None) -> None:
        query = record.task(asked[domain.value]).query
        own = query[labels[query] == class_name.value]
        number.max = len(own) - 1
        chosen = own[[min(number.value, len(own) - 1)]]
        picture.value = retrieval_grid([("unseen classes", record, asked[domain.value])], chosen, k).png()
        nearest = names[rank(record.embeddings(chosen), vectors, "cosine")[0, :6]]
        words.value = "nearest class names: " + ", ".join(f"<b>{n}</b>" if n == class_name.value else n for n in nearest)

    return _shown([domain, class_name, number], [picture, words], show)


def reversal() -> ipywidgets.Widget:
    """Doodle to Search: where the reversal ramp stands at an iteration, and which classes the hard negatives of a class come from."""
    spec = sketch_photo("sketchy", "doodle")
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
        shown = np.arange(101)
        left.plot(shown, [ramp(i) for i in shown], color=COLOURS[0], label="paper")
        left.plot(shown, [ramp(i % steps.value) for i in shown], color=COLOURS[1], ls="--", label="code")
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
        words.value = (f"the encoder gets the domain classifier's gradient times {-ramp(iteration.value):.2f} (paper) or "
                       f"{-ramp(iteration.value % steps.value):.2f} (code); negatives of <b>{anchor.value}</b> come from {perplexity:.1f} classes (perplexity)")

    return _shown([iteration, steps, anchor, scale], [picture, words], show)


def calibration() -> ipywidgets.Widget:
    """STL: how many photos of unseen classes are taken for a seen class, with and without calibration, and what a margin would ask."""
    records = {title: Store().need(stl.stl("sketchy", options=options)) for title, options in (("inductive", stl.INDUCTIVE), ("STL", {}), ("weight 5", stl.SWITCHES["$\\omega_2=5$"]))}
    margins = {title: calibration_margins(record) for title, record in records.items()}

    delta = ipywidgets.FloatSlider(min=0, max=0.5, step=0.01, value=0.01, description="margin δ", readout_format=".2f")
    picture, words = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def show(_=None) -> None:
        fig = Figure(figsize=(7, 2.8))
        axis = fig.subplots()
        for (title, own), colour in zip(margins.items(), COLOURS):
            axis.hist(own, bins=np.linspace(-1, 1, 41), alpha=0.5, color=colour, label=title)
        axis.axvspan(-delta.value, 1, color="grey", alpha=0.15)
        axis.set(xlabel="largest P of a seen class − largest P of an unseen class", ylabel="photos")
        axis.legend(frameon=False)
        sns.despine(fig)
        picture.value = Drawing(fig, "").png()
        words.value = "; ".join(f"<b>{title}</b>: {np.mean(own + delta.value > 0):.0%} of the photos pay, mean loss {np.clip(own + delta.value, 0, None).mean():.3f}"
                                for title, own in margins.items())

    return _shown([delta], [picture, words], show)


def spaces(k: int = 5) -> ipywidgets.Widget:
    """STRAD: the weights of the three spaces, a query, and what each space and their fusion retrieve."""
    record = Store().need(seeds_of(strad.strad("sketchy"), strad.SEEDS)[0])
    task = record.task(strad.ASKED)
    manifest = record.spec.manifest()
    labels = manifest.samples.class_name.to_numpy().astype(str)
    by_space = {}
    for name in ("sketch", "image", "structure"):
        by_space[name] = [unit(record.embeddings(rows, name)) for rows in (task.query, task.gallery)]

    weights = {name: ipywidgets.FloatSlider(min=0, max=1, step=0.1, value=0.3, description=name) for name in by_space}
    class_name = ipywidgets.Dropdown(options=sorted(set(labels[task.query])), description="class")
    picture, words = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def show(_=None) -> None:
        total = sum(slider.value for slider in weights.values()) or 1.0
        fused = [np.concatenate([np.sqrt(weights[name].value / total) * pair[side] for name, pair in by_space.items()], axis=1) for side in range(2)]
        score = evaluate(fused[0], labels[task.query], fused[1], labels[task.gallery], "cosine")["map_all"]
        query = task.query[labels[task.query] == class_name.value][:1]
        parts = [(f"{name} space", record, f"{strad.ASKED}@{name}") for name in by_space]
        picture.value = retrieval_grid(parts, query, k).png()
        row = int(np.flatnonzero(task.query == query[0])[0])
        first = labels[task.gallery[rank(fused[0][[row]], fused[1], "cosine")[0, :k]]]
        words.value = f"fused: mAP@all <b>{score:.3f}</b> over all queries; for this one {', '.join(first)}"

    return _shown([*weights.values(), class_name], [picture, words], show)


def definitions() -> ipywidgets.Widget:
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

    return _shown([relevant, gallery, quality, cut], [picture], show)


class Canvas(anywidget.AnyWidget):
    """The doodle page's drawing pad in a notebook; `picture()` is what stands on it."""

    _esm = (WEB / "pad.mjs").read_text() + """
    export default { render({ model, el }) {
      const drawing = pad(el, () => {
        drawing.canvas.toBlob(async (blob) => { model.set("png", new DataView(await blob.arrayBuffer())); model.save_changes(); });
      });
    } };
    """
    _css = (WEB / "doodle.css").read_text()
    png = traitlets.Bytes(b"").tag(sync=True)

    def __repr__(self) -> str:
        return "Canvas()"

    def picture(self) -> Image.Image:
        """The drawing, black on white; all white before anything is drawn."""
        if not self.png:
            return Image.new("RGB", (384, 384), "white")
        return Image.open(io.BytesIO(self.png)).convert("RGB")


def sketchbook(index, k: int = 12) -> ipywidgets.Widget:
    """Draw, and the nearest pictures of an indexed folder (`search.Index`) appear below."""
    canvas, found, said = Canvas(), ipywidgets.Image(format="png"), ipywidgets.Label()

    def show(_=None) -> None:
        drawing = canvas.picture()
        if np.asarray(drawing).min() == 255:
            found.value, said.value = b"", "Draw something."
            return
        hits = index.search(drawing, k)
        buffer = io.BytesIO()
        index.show(hits).save(buffer, "png")
        found.value, said.value = buffer.getvalue(), f"nearest: {hits[0].path.name}, {hits[0].similarity:.2f}"

    canvas.observe(show, "png")
    show()
    return ipywidgets.VBox([canvas, said, found])


EXPLORERS = {"metrics": definitions, "snmpnet": retrieval, "doodle": reversal, "stl": calibration, "strad": spaces}


def _shown(controls: list, results: list, show) -> ipywidgets.Widget:
    for control in controls:
        control.observe(show, "value")
    show()
    return ipywidgets.VBox([ipywidgets.HBox(controls, layout={"flex_flow": "row wrap"}), *results])
