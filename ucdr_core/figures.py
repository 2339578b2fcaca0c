"""Figures, each with a printed fingerprint: nbval compares text, not pictures.

A fingerprint says what is drawn in numbers that do not depend on the machine: counts, neighbour purity of the embeddings (from
ranks), and whether the plane keeps it.  Never coordinates: t-SNE and UMAP move points for a change in the last digit.
"""
from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import matplotlib
import numpy as np
import seaborn as sns
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from . import semantics, statistics, tables, training
from .data import datasets, images, splits
from .data.manifest import Manifest
from .encoder import unit
from .methods.doodle import ramp
from .papers import audit, doodle, embedded, league, modern, seeds_of, snmpnet, stl, strad
from .papers import load as load_paper
from .papers.embedded import sketch_photo
from .runs import RunRecord, Store, TrainSpec

matplotlib.use("agg")
COLOURS = sns.color_palette("colorblind", 10)
MARKERS = "osD^vP*Xph"
RIGHT, WRONG = COLOURS[2], COLOURS[3]


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure and its fingerprint.  Shows itself as a PNG in a notebook."""

    figure: Figure
    fingerprint: str

    def _repr_png_(self) -> bytes:
        return self.png()

    def png(self, dpi: int = 110) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
        return buffer.getvalue()


def figure(paper: str, name: str) -> Drawing:
    """A paper's figure on our runs.  Raises KeyError for an unknown one, RecordError where a run is missing."""
    if name not in FIGURES.get(paper, ()):
        raise KeyError(f"unknown figure {paper} {name}; known: " + ", ".join(f"{p} {n}" for p, own in FIGURES.items() for n in own))
    store = _Noting()
    drawn = FIGURES[paper][name](store)
    if not store.noted:
        return drawn
    keys = sorted(store.noted)
    return replace(drawn, fingerprint=f"{drawn.fingerprint}\nfrom {len(keys)} run{'s' if len(keys) > 1 else ''}: {', '.join(keys[:3])}"
                   + (f" and {len(keys) - 3} more" if len(keys) > 3 else "") + f" (together {tables.together(keys)})")


class _Noting(Store):
    """A store that remembers which runs were asked for."""

    def __init__(self):
        super().__init__()
        self.noted: set[str] = set()

    def need(self, spec: TrainSpec) -> RunRecord:
        self.noted.add(spec.key)
        return super().need(spec)


# ------------------------------------------------------------------------------------------------------------ drawing

def contact_sheet(columns: dict[str, tuple[Manifest, str]], classes: list[str], seed: int = 0) -> Drawing:
    """One image per class (rows) and column, drawn at random; a column is a domain of a manifest under a title."""
    fig = Figure(figsize=(1.0 * len(columns), 1.0 * len(classes)))
    axes = fig.subplots(len(classes), len(columns), squeeze=False)
    for row, class_name in enumerate(classes):
        for axis, (title, (manifest, domain)) in zip(axes[row], columns.items()):
            axis.set_axis_off()
            own = manifest.rows([domain], [class_name])
            if len(own):
                axis.imshow(images.read(manifest, int(np.random.default_rng([seed, row]).choice(own))))
            if row == 0:
                axis.set_title(title.replace(", ", ",\n"), fontsize=7)
        axes[row, 0].text(-0.15, 0.5, class_name, transform=axes[row, 0].transAxes, rotation=90, va="center", ha="right", fontsize=7)
    fig.subplots_adjust(wspace=0.05, hspace=0.05)
    fingerprints = ", ".join(sorted({manifest.fingerprint for manifest, _ in columns.values()}))
    return Drawing(fig, f"{len(classes)} classes x {len(columns)} domains, data {fingerprints}")


def retrieval_grid(parts: list[tuple[str, RunRecord, str]], queries: np.ndarray, k: int = 8) -> Drawing:
    """Each query with the first k of each part; right ones framed and ticked, wrong ones framed and crossed.

    parts: (title, run, evaluation, with @space where one space is searched); all of one data set.
    """
    manifest = parts[0][1].spec.manifest()
    labels = manifest.samples.class_name.to_numpy()
    fig = Figure(figsize=(0.62 * (1 + len(parts) * k) + 0.4, 0.78 * len(queries) + 0.3))
    axes = fig.subplots(len(queries), 1 + len(parts) * (k + 1), squeeze=False,
                        gridspec_kw={"width_ratios": [1, *([0.25, *[1] * k] * len(parts))], "wspace": 0.08, "hspace": 0.28})
    for axis in axes.ravel():
        axis.set_axis_off()
    lines = [f"{len(queries)} queries ({', '.join(labels[queries])})"]
    for part, (title, record, evaluation) in enumerate(parts):
        gallery = record.task(evaluation).gallery
        ranking = nearest(record, queries, evaluation)[:, :k]
        right = labels[gallery[ranking]] == labels[queries][:, None]
        lines.append(f"{title}, {evaluation}: {' '.join(str(int(n)) for n in right.sum(1))} of {k} right, run {record.key}")
        for row in range(len(queries)):
            for place in range(k):
                axis = axes[row, 2 + part * (k + 1) + place]
                _picture(axis, manifest, int(gallery[ranking[row, place]]))
                good = bool(right[row, place])
                axis.add_patch(Rectangle((0, 0), 1, 1, transform=axis.transAxes, fill=False, lw=3, color=RIGHT if good else WRONG, clip_on=False))
                axis.text(0.97, 0.03, "✓" if good else "✗", transform=axis.transAxes, ha="right", va="bottom", fontsize=8, weight="bold",
                          color="white", bbox={"boxstyle": "square,pad=0.1", "color": RIGHT if good else WRONG})
        axes[0, 2 + part * (k + 1)].set_title(title, fontsize=8, loc="left")
    for row, query in enumerate(queries):
        _picture(axes[row, 0], manifest, int(query))
        axes[row, 0].set_title(f"{labels[query]}", fontsize=8, pad=2)
    return Drawing(fig, "\n".join(lines))


def nearest(record: RunRecord, queries: np.ndarray, evaluation: str) -> np.ndarray:
    """Positions in the evaluation's gallery, nearest first: (Q, N).  queries are rows of the manifest."""
    space = evaluation.partition("@")[2]
    return rank(record.embeddings(queries, space), record.embeddings(record.task(evaluation).gallery, space), record.model()[0].distance)


def rank(queries: np.ndarray, gallery: np.ndarray, distance: str) -> np.ndarray:
    """Gallery positions by distance, nearest first: (Q, N)."""
    if distance == "cosine":
        queries, gallery = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (queries, gallery))
    return np.argsort(np.square(gallery).sum(1) / 2 - queries @ gallery.T, axis=1, kind="stable")


def _picture(axis, manifest, row: int) -> None:
    axis.imshow(images.read(manifest, row))


@dataclass(frozen=True, eq=False)
class Points:
    """What one column of an embedding map shows: embeddings (n, D), class and domain names (n,), filled markers where `filled` (n,)."""

    title: str
    embeddings: np.ndarray
    classes: np.ndarray
    domains: np.ndarray
    filled: np.ndarray
    source: str  # the run


def points_of(title: str, record: RunRecord, rows: np.ndarray) -> Points:
    samples = record.spec.manifest().samples.iloc[rows]
    domains = samples.domain.to_numpy()
    return Points(title, record.embeddings(rows), samples.class_name.to_numpy(), domains, domains == record.spec.gallery_domain, f"run {record.key}")


def embedding_maps(parts: list[Points], highlighted: list[str], planes: tuple[str, ...] = ("t-SNE", "UMAP"), columns: int | None = None) -> Drawing:
    """Each part in the plane, by t-SNE (top) and UMAP (below): colour and marker are the class, filled the gallery domain, hollow the query's.

    highlighted: unseen classes, drawn larger.  `columns` folds a long row.
    """
    columns = columns or len(parts)
    rows = -(-len(parts) // columns)
    fig = Figure(figsize=(4.4 * columns, 4.1 * rows * len(planes)))
    axes = fig.subplots(rows * len(planes), columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    lines = []
    for number, points in enumerate(parts):
        classes, domains = points.classes, points.domains
        names = sorted(set(classes))
        embedded = unit(points.embeddings)
        purity = neighbour_purity(embedded, classes)
        across = f", across domains {neighbour_purity(embedded, classes, domains):.2f}" if len(set(domains)) > 1 else ""
        lines.append(f"{points.title}: {len(classes)} points, {len(names)} classes, {len(set(domains))} domains, 10-neighbour purity {purity:.2f}{across}, {points.source}")
        for line, method in enumerate(planes):
            plane, axis = {"t-SNE": _tsne, "UMAP": _umap}[method](embedded), axes[(number // columns) * len(planes) + line, number % columns]
            axis.set_axis_on()
            kept = neighbour_purity(plane, classes)
            lines.append(f"  {method} keeps the neighbours (purity within 0.15 of the embedding's): {'yes' if abs(kept - purity) < 0.15 else 'no'}")
            for index, name in enumerate(names):
                for filled in (False, True):
                    own = (classes == name) & (points.filled == filled)
                    axis.scatter(*plane[own].T, s=34 if name in highlighted else 16, marker=MARKERS[index % 10],
                                 facecolors=COLOURS[index % 10] if filled else "none", edgecolors=[COLOURS[index % 10]], linewidths=0.9)
                named = classes == name
                middle = np.median(plane[named & points.filled if (named & points.filled).any() else named], axis=0)  # at the photos
                axis.annotate(name, middle, fontsize=8, weight="bold" if name in highlighted else "normal", ha="center",
                              bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7})
            axis.set(xticks=[], yticks=[], title=f"{points.title}\n{method}" if line == 0 else method)
            axis.title.set_fontsize(9)
    fig.tight_layout()
    return Drawing(fig, "\n".join(lines))


def neighbour_purity(points: np.ndarray, classes: np.ndarray, domains: np.ndarray | None = None, k: int = 10) -> float:
    """Mean share of the k nearest other points that have the point's class; with domains, only points of another domain count."""
    distance = np.square(points[:, None] - points[None]).sum(2)
    barred = np.eye(len(points), dtype=bool) if domains is None else domains[:, None] == domains[None]
    order = np.argsort(np.where(barred, np.inf, distance), axis=1, kind="stable")[:, :k]
    return float((classes[order] == classes[:, None]).mean())


def _tsne(points: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    return TSNE(perplexity=15, init="pca", random_state=0).fit_transform(points)


def _umap(points: np.ndarray) -> np.ndarray:
    import warnings

    with warnings.catch_warnings():  # numba and umap warn of threads and of float precision; neither matters to a picture
        warnings.simplefilter("ignore")
        from umap import UMAP

        return UMAP(n_neighbors=12, random_state=0, n_jobs=1).fit_transform(points)


# ----------------------------------------------------------------------------------------------------------- snmpnet

def _one_query_per_class(record: RunRecord, evaluation: str, number: int, seed: int = 0) -> np.ndarray:
    """One query of each of `number` test classes, drawn, not chosen."""
    random = np.random.default_rng(seed)
    query = record.task(evaluation).query
    labels = record.spec.manifest().samples.class_name.to_numpy()[query]
    return np.array([random.choice(query[labels == name]) for name in sorted(random.permutation(np.unique(labels))[:number])])


def _retrieved(domain: str, protocol: str, held_out: str, number: int = 7) -> Callable[[Store], Drawing]:
    def draw(store: Store) -> Drawing:
        record = store.need(snmpnet.multi_domain("snmpnet", snmpnet.without(held_out)))
        parts = [(f"gallery {gallery}", record, f"{protocol}:{domain}:{gallery}") for gallery in snmpnet.BOTH_GALLERIES]
        return retrieval_grid(parts, _one_query_per_class(record, parts[0][2], number))
    return draw


def related_classes(record: RunRecord, unseen: int = 4) -> tuple[list[str], list[str]]:
    """Unseen classes and, for each, the seen class whose word vector is nearest: the pairs that Figure 3 looks for."""
    split = record.spec.class_split()
    vectors = semantics.prepare(semantics.class_vectors((*split.train, *split.test)), length=1.0)
    seen, test = vectors[:len(split.train)], vectors[len(split.train):]
    similarity = test @ seen.T
    chosen, partners = [], []
    for index in np.argsort(-similarity.max(1), kind="stable"):
        partner = split.train[int(similarity[index].argmax())]
        if partner not in partners:
            chosen.append(split.test[index])
            partners.append(partner)
        if len(chosen) == unseen:
            break
    return chosen, partners


def _map_rows(record: RunRecord, domain: str, unseen: list[str], seen: list[str]) -> np.ndarray:
    """Unseen classes from `domain`, their related seen classes from the gallery domain."""
    manifest = record.spec.manifest()
    return np.sort(np.concatenate([manifest.rows([domain], unseen), manifest.rows([record.spec.gallery_domain], [*seen, *unseen])]))


def _figure3(store: Store) -> Drawing:
    record = store.need(snmpnet.multi_domain("snmpnet", snmpnet.without("sketch")))
    unseen, seen = related_classes(record)
    drawing = embedding_maps([points_of("SnMpNet, sketch (unseen domain)", record, _map_rows(record, "sketch", unseen, seen))], unseen)
    pairs = ", ".join(f"{u} ({s})" for u, s in zip(unseen, seen))
    return Drawing(drawing.figure, drawing.fingerprint + f"\nunseen classes (their nearest seen class by name): {pairs}")


def _figure5(store: Store) -> Drawing:
    parts = []
    for method in ("snmpnet", "cumix"):
        record = store.need(snmpnet.multi_domain(method, snmpnet.without("sketch")))
        unseen, seen = related_classes(record)
        for domain, kind in (("quickdraw", "seen domain"), ("sketch", "unseen domain")):
            parts.append(points_of(f"{snmpnet.LABELS[method]}, {domain} ({kind})", record, _map_rows(record, domain, unseen, seen)))
    return embedding_maps(parts, unseen)


def _figure4(store: Store) -> Drawing:
    fig = Figure(figsize=(6, 3.4))
    axis = fig.subplots()
    lines, curves = [], {"validation classes": [], "test classes": []}
    for kappa, specs in snmpnet.kappa_specs().items():
        records = [store.need(spec) for spec in specs]
        test = np.array([record.scores("zs_sbir:sketch:unseen")["map_all"] for record in records])
        val = np.array([max(entry["val_map_all"] for entry in record.log) for record in records])
        curves["validation classes"].append(val)
        curves["test classes"].append(test)
        lines.append(f"kappa {kappa:g}: validation {val.mean():.3f} ± {val.std(ddof=1):.3f}, test {test.mean():.3f} ± {test.std(ddof=1):.3f}")
    for (name, values), colour, marker in zip(curves.items(), COLOURS, "os"):
        values = np.array(values)
        axis.errorbar(range(len(values)), values.mean(1), values.std(1, ddof=1), label=name, color=colour, marker=marker, capsize=3)
    axis.set(xticks=range(len(snmpnet.KAPPAS)), xticklabels=[f"{kappa:g}" for kappa in snmpnet.KAPPAS], xlabel="κ", ylabel="mAP@all", ylim=(0, None))
    axis.legend(frameon=False)
    sns.despine(fig)
    return Drawing(fig, "\n".join(lines))


# ------------------------------------------------------------------------------------------------------------- doodle

def _sheet(*views: str) -> Callable[[Store], Drawing]:
    """Figures 1 and 2: the same classes in the analogues, from careful to hasty."""
    classes = ["airplane", "bear", "city", "fish", "knife", "tree"]

    def draw(_: Store) -> Drawing:
        return contact_sheet({f"{doodle.VIEWS[view]}, {domain}": (datasets.emoji(view), domain) for view in doodle.VIEWS for domain in views}, classes)
    return draw


def _doodle4(view: str) -> Callable[[Store], Drawing]:
    def draw(store: Store) -> Drawing:
        records = [("Frozen features", store.need(sketch_photo(view, "frozen"))), ("Doodle to Search", store.need(sketch_photo(view, "doodle")))]
        return retrieval_grid([(title, record, doodle.ASKED) for title, record in records], _one_query_per_class(records[0][1], doodle.ASKED, 7))
    return draw


def _map_of(make: Callable[[], TrainSpec], title: str, evaluation: str, number: int = 8) -> Callable[[Store], Drawing]:
    """Queries and gallery of `number` unseen classes, frozen and trained side by side."""
    def draw(store: Store) -> Drawing:
        spec = make()
        trained = store.need(spec)
        frozen = store.need(sketch_photo(spec.dataset.removeprefix("emoji-"), "frozen"))
        classes = sorted(np.random.default_rng(0).permutation(spec.class_split().test)[:number])
        rows = spec.manifest().rows(spec.train_domains, classes)
        return embedding_maps([points_of("Frozen features", frozen, rows), points_of(title, trained, rows)], classes)
    return draw


def _doodle_ramp(_: Store) -> Drawing:
    """lambda_d over the first epochs, by iteration (paper) and by place in the epoch (code), for the analogue and for Sketchy itself."""
    split, counts = splits.load("emoji"), datasets.emoji("sketchy").counts()
    batch = embedded.spec("doodle").recipe["batch_size"]
    sizes = {"Sketchy analogue": int(counts.loc["sketch", list(split.train)].sum()) // batch, "Sketchy": SKETCHY_TRAINING_SKETCHES // batch}
    fig = Figure(figsize=(9, 2.8))
    lines = []
    for axis, (title, steps) in zip(fig.subplots(1, 2, sharey=True), sizes.items()):
        shown = np.arange(4 * steps if steps < 200 else steps + 60)
        by_place = [ramp(i % steps) for i in shown]
        axis.plot(shown, [ramp(i) for i in shown], color=COLOURS[0], label="by iteration (paper)")
        axis.plot(shown, by_place, color=COLOURS[1], ls="--", label="by place in the epoch (code)")
        axis.set(title=f"{title}: {steps:,} steps an epoch", xlabel="iteration", ylim=(-0.05, 1.05))
        whole = [ramp(i) for i in range(steps)]
        lines.append(f"{title}: {steps} steps an epoch; the code's lambda_d is 0 in {min(6, steps)} steps of each, reaches {max(whole):.2f}, mean {np.mean(whole):.2f}")
    fig.axes[0].set_ylabel("$\\lambda_d$")
    fig.axes[1].legend(frameon=False, fontsize=8, loc="center")
    sns.despine(fig)
    fig.tight_layout()
    return Drawing(fig, "\n".join(lines))


SKETCHY_TRAINING_SKETCHES = 57_000  # about: those of the 93 training classes, one rendering each


# ---------------------------------------------------------------------------------------------------------------- stl

def _stl4(view: str) -> Callable[[Store], Drawing]:
    def draw(store: Store) -> Drawing:
        records = [(title, store.need(stl.stl(view, options=options))) for title, options in (("STL, inductive", stl.INDUCTIVE), ("STL", {}))]
        return retrieval_grid([(title, record, stl.asked()) for title, record in records], _one_query_per_class(records[0][1], stl.asked(), 6), k=6)
    return draw


def _stl5(store: Store) -> Drawing:
    fig = Figure(figsize=(9, 3.4))
    lines = []
    for axis, (view, by_dim) in zip(fig.subplots(1, 2, sharey=True), stl.dim_specs().items()):
        values = np.array([[store.need(spec).scores(stl.asked())["map_all"] for spec in specs] for specs in by_dim.values()])
        axis.errorbar(range(len(values)), values.mean(1), values.std(1, ddof=1), color=COLOURS[0], marker="o", capsize=3)
        axis.set(xticks=range(len(values)), xticklabels=list(by_dim), xlabel="dimensions", title=f"{stl.VIEWS[view]} analogue")
        lines += [f"{view}, {dim} dimensions: mAP@all {own.mean():.3f} ± {own.std(ddof=1):.3f}" for dim, own in zip(by_dim, values)]
    fig.axes[0].set(ylabel="mAP@all, generalised", ylim=(0, None))  # once both are drawn, since they share it
    sns.despine(fig)
    fig.tight_layout()
    return Drawing(fig, "\n".join(lines))


def calibration_margins(record: RunRecord) -> np.ndarray:
    """max over seen classes less max over unseen classes of P, for each unlabelled photo of the test classes: (U,) in [-1, 1]."""
    method, feed = record.model()
    with torch.inference_mode():
        rows = record.spec.training().unlabelled
        rows = rows[np.isin(record.spec.manifest().samples.class_name.to_numpy()[rows], record.spec.class_split().test)]
        p = method.log_probabilities(method.embed(feed(rows), torch.ones(len(rows), dtype=torch.bool))).exp()
    seen = len(method.class_vectors)
    return (p[:, :seen].max(1).values - p[:, seen:].max(1).values).numpy()


def _stl_calibration(store: Store) -> Drawing:
    fig = Figure(figsize=(6, 3.2))
    axis, lines = fig.subplots(), []
    shown = {"STL, inductive": stl.INDUCTIVE, "STL": {}, "STL, weight 5 instead of 0.1": stl.SWITCHES["$\\omega_2=5$"]}
    for (title, options), colour in zip(shown.items(), COLOURS):
        record = store.need(stl.stl("sketchy", options=options))
        margins = calibration_margins(record)
        axis.hist(margins, bins=np.linspace(-1, 1, 41), histtype="stepfilled", alpha=0.5, color=colour, label=title)
        lines.append(f"{title}: {len(margins)} photos of unseen classes, a seen class is predicted for {np.mean(margins > 0):.2f} of them, run {record.key}")
    axis.axvline(0, color="black", lw=0.8)
    axis.set(xlabel="largest P of a seen class − largest P of an unseen class", ylabel="photos")
    axis.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    sns.despine(fig)
    return Drawing(fig, "\n".join(lines))


# -------------------------------------------------------------------------------------------------------------- strad

STRAD_FEATURES = ("image appearance", "image structure", "sketch structure", "image", "generated image", "sketch", "generated sketch")


def strad_features(record: RunRecord, rows: np.ndarray) -> list[Points]:
    """The seven features of Figure 3, each of the rows whose domain has it."""
    method, feed = record.model()
    samples = record.spec.manifest().samples
    parts = []
    for name in STRAD_FEATURES:
        of_photos = name in ("image appearance", "image structure", "image", "generated sketch")
        own = rows[feed.photos[rows] == of_photos]
        with torch.inference_mode():
            values = method.feature(name, feed(own).flatten(1)).numpy()
        parts.append(Points(name, values, samples.class_name.to_numpy()[own], samples.domain.to_numpy()[own], np.full(len(own), of_photos), f"run {record.key}"))
    return parts


def _strad3(store: Store) -> Drawing:
    record = store.need(seeds_of(strad.strad("sketchy"), strad.SEEDS)[0])
    classes = sorted(np.random.default_rng(0).permutation(record.spec.class_split().test)[:10])
    return embedding_maps(strad_features(record, record.spec.manifest().rows(("sketch", "photo"), classes)), [], planes=("t-SNE",), columns=3)


def _strad4(store: Store) -> Drawing:
    specs = {"SAKE": sketch_photo("sketchy", "sake"), "Dutta & Biswas 2019 §": sketch_photo("sketchy", "content_style"),
             "Simple SB": strad.simple("sketchy", "sb"), "STRAD (D)": strad.strad("sketchy", "db"), "STRAD (S)": strad.strad("sketchy", "sb")}
    parts = [(title, store.need(replace(spec, seed=1)), strad.ASKED) for title, spec in specs.items()]
    return retrieval_grid(parts, _one_query_per_class(parts[0][1], strad.ASKED, 7), k=5)


def _strad5(store: Store) -> Drawing:
    record = store.need(seeds_of(strad.strad("sketchy"), strad.SEEDS)[0])
    titles = {"Comb": "all spaces", "Im": "image space", "Sk": "sketch space", "St": "structure space"}
    parts = [(title, record, strad.ASKED + strad.SPACES[key]) for key, title in titles.items()]
    return retrieval_grid(parts, _one_query_per_class(record, strad.ASKED, 7), k=5)


def fusion_scores(record: RunRecord) -> dict[str, np.ndarray]:
    """mAP@all on validation and on test classes for lambda_2 = 0, .1, ..., 1, the rest shared by the other spaces: {classes: (11,)}."""
    method, feed = record.model()
    trained, task = record.spec.training(), record.task(strad.ASKED)
    asked = {"validation classes": (trained.val_query, trained.val_gallery), "test classes": (task.query, task.gallery)}
    scores: dict[str, list[float]] = {name: [] for name in asked}
    for tenths in range(11):
        method.fuse(tenths / 10)
        for name, rows in asked.items():
            scores[name].append(training.validate(method, trained, feed, "map_all", rows))
    return {name: np.array(values) for name, values in scores.items()}


def _strad_fusion(store: Store) -> Drawing:
    fig = Figure(figsize=(6, 3.4))
    axis, lines = fig.subplots(), []
    records = [store.need(spec) for spec in seeds_of(strad.strad("sketchy"), strad.SEEDS)[:3]]
    curves = [fusion_scores(record) for record in records]
    for name, colour, marker in zip(curves[0], COLOURS, "os"):
        values = np.array([own[name] for own in curves])
        axis.errorbar(np.arange(11) / 10, values.mean(0), values.std(0, ddof=1), label=name, color=colour, marker=marker, capsize=3)
        lines.append(f"{name}: structure alone {values[:, 10].mean():.3f}, without it {values[:, 0].mean():.3f}, best at {values.mean(0).argmax() / 10:.1f}")
    axis.set(xlabel="weight of the structure space, $\\lambda_2$", ylabel="mAP@all", ylim=(0, None))
    axis.legend(frameon=False)
    sns.despine(fig)
    chosen = ", ".join(f"{record.model()[0].fusion[-1].item():.1f}" for record in records)
    return Drawing(fig, "\n".join(lines) + f"\nchosen on validation classes: {chosen}; runs {', '.join(record.key for record in records)}")


# -------------------------------------------------------------------------------------------------------- across papers

KINDS = {  # how the methods of a ranking are coloured
    "reference": ("Chance", "Frozen features", "Frozen, means removed"),
    "triplets and pairs": ("SaN", "Siamese", "Doodle to Search", "STL, inductive", "STL"),
    "class names": ("ESZSL", "SAE", "CMT", "DeViSE", "EISNet-retrieval", "CuMix-retrieval", "SnMpNet"),
    "classification": ("Simple DB", "Simple SB", "SAKE", "SAKE, w/o label", "SAKE, 300, w/o label"),
    "generative": ("ZSIH", "CVAE", "SEM-PCYC", "Xu et al. 2019", "Dutta & Biswas 2019", "SketchGCN", "OCEAN", "STRAD (D)", "STRAD (S)"),
}


def standings_plot(values: dict[str, np.ndarray], title: str) -> Drawing:
    """Means with intervals from best to worst; filled: not told apart from the first."""
    found = statistics.standings(values)
    fig = Figure(figsize=(7.5, 0.24 * len(found.methods) + 1.2))
    axis = fig.subplots()
    for (kind, names), colour, marker in zip(KINDS.items(), COLOURS, MARKERS):
        for place, one in enumerate(found.methods):
            if one.name in names:
                limits = [[one.mean - one.low], [one.high - one.mean]]
                axis.errorbar([one.mean], [place], xerr=limits, fmt=marker, color=colour, ms=5, lw=1.2, mfc=colour if 1 in one.ranks else "white")
        axis.plot([], [], marker, color=colour, ms=5, label=kind)
    axis.set(yticks=range(len(found.methods)), yticklabels=[one.name + tables.SYMBOLS[embedded.mark_of_system(one.name)] for one in found.methods], xlabel="mAP@all", title=title, xlim=(0, None))
    axis.invert_yaxis()
    axis.legend(frameon=False, loc="upper left", fontsize=8)
    sns.despine(fig)
    fig.tight_layout()
    order = ", ".join(f"{one.name} {one.mean:.3f}" for one in found.methods[:3])
    last = found.methods[-1]
    return Drawing(fig, f"{len(found.methods)} methods, {next(iter(values.values())).shape[1]} queries; first {order}; last {last.name} {last.mean:.3f}; "
                        f"{sum(1 in one.ranks for one in found.methods)} not told apart from the first; critical difference of the median pair {found.typical:.3f}")


def _standings(question: str) -> Callable[[Store], Drawing]:
    def draw(store: Store) -> Drawing:
        built = league.ranking(question, "map_all")
        return standings_plot(tables.values_of(built, store), league.QUESTIONS[question].title)
    return draw


def _variants(_: Store) -> Drawing:
    """The precision at each rank that every definition sums over the relevant ranks, and the interpolated one."""
    rankings = audit.example_rankings()
    fig = Figure(figsize=(10, 3.3))
    lines = []
    for axis, (name, relevant) in zip(fig.subplots(1, len(rankings), sharey=True), rankings.items()):
        precision = relevant.cumsum() / np.arange(1, len(relevant) + 1)
        interpolated = np.maximum.accumulate(precision[::-1])[::-1]
        axis.plot(np.arange(1, len(relevant) + 1), precision, color=COLOURS[0], label="precision $P_k$")
        axis.plot(np.arange(1, len(relevant) + 1), interpolated, color=COLOURS[1], ls="--", label="interpolated")
        axis.plot(np.flatnonzero(relevant) + 1, np.full(relevant.sum(), -0.04), "|", color="0.4", ms=5, label="relevant")
        axis.axvline(200, color="black", lw=0.8)
        scores = audit.ranking(relevant)
        text = "\n".join(f"{variant} {scores[variant]:.3f}" for variant in audit.VARIANTS)
        axis.text(0.97, 0.97, text, transform=axis.transAxes, ha="right", va="top", fontsize=7, family="monospace", bbox={"fc": "white", "ec": "none", "alpha": 0.8})
        axis.set(title=name.replace(", ", ",\n", 1) if len(name) > 35 else name, xlabel="rank", ylim=(-0.08, 1.02))
        axis.title.set_fontsize(9)
        lines.append(f"{name}: {relevant.sum()} relevant, {relevant[:200].sum()} of them in the first 200, map_200 {scores['map_200']:.3f}, map_200_k {scores['map_200_k']:.3f}")
    fig.axes[0].set_ylabel("precision")
    fig.axes[1].legend(framealpha=1, edgecolor="none", fontsize=8, loc="upper left")
    sns.despine(fig)
    fig.tight_layout()
    return Drawing(fig, "\n".join(lines))


def _inequality(_: Store) -> Drawing:
    """Every printed pair of Prec@200 and mAP@200."""
    pairs = audit.printed_pairs()
    fig = Figure(figsize=(5.2, 4.6))
    axis, lines = fig.subplots(), []
    for (paper, own), colour, marker in zip(pairs.groupby("paper", sort=False), COLOURS, MARKERS):
        axis.plot(own.prec_200, own.map_200, marker, color=colour, ms=5, alpha=0.7, label=f"tables of {audit.PAPER_NAMES[paper]}")
        lines.append(f"{audit.PAPER_NAMES[paper]}: {len(own)} rows, mAP@200 above Prec@200 in {int((own.map_200 > own.prec_200).sum())}")
    limit = float(max(pairs.prec_200.max(), pairs.map_200.max())) * 1.05
    axis.plot([0, limit], [0, limit], color="black", lw=0.8)
    axis.text(limit * 0.98, limit * 0.03, "divided by 200:\nbelow the line", ha="right", va="bottom", fontsize=8)
    axis.set(xlabel="printed Prec@200", ylabel="printed mAP@200", xlim=(0, limit), ylim=(0, limit), aspect="equal")
    axis.legend(frameon=False, loc="upper left", fontsize=8)
    sns.despine(fig)
    return Drawing(fig, "\n".join(lines))


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


def _ingredients(store: Store) -> Drawing:
    """The difference that each paper's ingredients make here, with its interval, in the order of the story."""
    fig = Figure(figsize=(8, 4.6))
    axis, lines, before = fig.subplots(), [], None
    for place, (paper, table, beginning, what) in enumerate(INGREDIENTS):
        claim = next(own for own in load_paper(paper).CLAIMS[table]() if own.text.startswith(beginning))
        found = tables.difference_of(claim, store)
        colour = COLOURS[list(TITLES).index(paper)]
        axis.plot([found.low, found.high], [-place, -place], color=colour, lw=2)
        axis.plot(found.mean, -place, MARKERS[list(TITLES).index(paper)], color=colour, ms=8, label=TITLES[paper] if paper != before else None)
        lines.append(f"{TITLES[paper]}, {what}: {found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f})")
        before = paper
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks([-place for place in range(len(INGREDIENTS))], [what for *_, what in INGREDIENTS])
    axis.set(xlabel="difference in mAP@all on the embedded data, 95% interval")
    axis.legend(frameon=False, fontsize=9)
    sns.despine(fig)
    fig.tight_layout()
    return Drawing(fig, "\n".join(lines))


def definitions(relevant: np.ndarray, k: int) -> dict[str, tuple[np.ndarray, float, str]]:
    """{metric: (what it adds up at each rank (n,), what it divides by, that in words)} of one ranking, relevant (n,) bool, best first.

    The formulas as they stand in the chapter, with K in the place of 200; their quotients are what `retrieval.metrics` gives at K = 200.
    """
    precision = relevant.cumsum() / np.arange(1, len(relevant) + 1)
    first = np.arange(len(relevant)) < k
    above = np.maximum.accumulate(precision[::-1])[::-1]
    above_k = np.where(first, np.maximum.accumulate(np.where(first, precision, 0)[::-1])[::-1], 0)
    found, total = relevant[:k].sum(), relevant.sum()
    return {
        "map_all": (relevant * precision, total, f"R = {total}"),
        "map_all_voc": (relevant * above, total, f"R = {total}"),
        f"map_{k}": (relevant * precision * first, max(found, 1), f"hits = {found}"),
        f"map_{k}_k": (relevant * precision * first, k, f"K = {k}"),
        f"map_{k}_min": (relevant * precision * first, min(k, total), f"min(K, R) = {min(k, total)}"),
        f"map_{k}_voc": (relevant * above_k * first, min(k, total), f"min(K, R) = {min(k, total)}"),
        f"prec_{k}": (relevant * first * 1.0, k, f"K = {k}"),
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


def found(query: np.ndarray, pictures: list[np.ndarray], titles: list[str], columns: int = 6) -> Drawing:
    """A drawing that asks and what was found for it, best first."""
    rows = -(-len(pictures) // columns)
    fig = Figure(figsize=(1.5 * (columns + 1.3), 1.75 * rows))
    grid = fig.add_gridspec(rows, columns + 1, width_ratios=[1.3, *[1] * columns])
    axis = fig.add_subplot(grid[:, 0])
    axis.imshow(query)
    axis.set_title("query", fontsize=9)
    axis.axis("off")
    for place, (picture, title) in enumerate(zip(pictures, titles)):
        axis = fig.add_subplot(grid[place // columns, 1 + place % columns])
        axis.imshow(picture)
        axis.set_title(title, fontsize=8)
        axis.axis("off")
    fig.tight_layout()
    return Drawing(fig, ", ".join(titles))


def _trunks(store: Store) -> Drawing:
    """Frozen features by trunk and mending, and two trained methods, on the analogue of Sketchy."""
    built = modern.embedded()
    fig = Figure(figsize=(7, 3.2))
    axis = fig.subplots()
    groups, series = (list(dict.fromkeys(values)) for values in ([row.group for row in built.rows], [row.label for row in built.rows]))
    lines = []
    for row in built.rows:
        cell, place = row.cells[0], series.index(row.label)
        value = np.mean([store.need(spec).scores(cell.evaluation)[cell.metric] for spec in cell.specs])
        first = row is next(r for r in built.rows if r.label == row.label)
        axis.plot(value, groups.index(row.group), MARKERS[place], color=COLOURS[place], ms=8, label=row.label if first else None)
        lines.append(f"{row.group}, {row.label}: {value:.3f}")
    axis.set_yticks(range(len(groups)), groups)
    axis.invert_yaxis()
    axis.set(xlabel="mAP@all")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    sns.despine(fig)
    fig.tight_layout()
    return Drawing(fig, "\n".join(lines))


FIGURES: dict[str, dict[str, Callable[[Store], Drawing]]] = {
    "snmpnet": {
        "figure2": _retrieved("quickdraw", "ucdr", "quickdraw"),
        "figure3": _figure3,
        "figure4": _figure4,
        "figure5": _figure5,
        "figure6": _retrieved("sketch", "ucdr", "sketch"),
        "figure6_uccdr": _retrieved("quickdraw", "uccdr", "sketch", 4),
    },
    "doodle": {
        "figure1": _sheet("sketch"),
        "figure2": _sheet("sketch", "photo"),
        "figure4_sketchy": _doodle4("sketchy"),
        "figure4_quickdraw": _doodle4("quickdraw"),
        "ramp": _doodle_ramp,
        "map": _map_of(lambda: sketch_photo("sketchy", "doodle"), "Doodle to Search", doodle.ASKED),
    },
    "stl": {
        "figure4_sketchy": _stl4("sketchy"),
        "figure4_tuberlin": _stl4("tuberlin"),
        "figure5": _stl5,
        "calibration": _stl_calibration,
        "map": _map_of(lambda: stl.stl("sketchy"), "STL", stl.asked()),
    },
    "league": {question: _standings(question) for question in league.QUESTIONS},
    "audit": {"variants": _variants, "inequality": _inequality},
    "search": {},
    "modern": {"trunks": _trunks},
    "story": {"ingredients": _ingredients},
    "metrics": {"definitions": lambda _: metric_panels()},
    "strad": {"figure3": _strad3, "figure4": _strad4, "figure5": _strad5, "fusion": _strad_fusion},
}
