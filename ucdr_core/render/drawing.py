"""Figure primitives, each with a printed fingerprint: nbval compares text, not pictures.

A fingerprint says what is drawn in numbers that do not depend on the machine: counts, neighbour purity of the
embeddings (from ranks), and whether the plane keeps it.  Never coordinates: t-SNE and UMAP move points for a change in
the last digit.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ucdr_core.data import images
from ucdr_core.data.manifest import Manifest
from ucdr_core.evidence import statistics
from ucdr_core.evidence.record import RunRecord
from ucdr_core.retrieval.ranking import unit

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


def contact_sheet(columns: dict[str, tuple[Manifest, str]], classes: list[str], seed: int = 0) -> Drawing:
    """One image per class (rows) and column, drawn at random; a column is a domain of a manifest under a title."""
    fig = Figure(figsize=(1.0 * len(columns), 1.0 * len(classes)))
    axes = fig.subplots(len(classes), len(columns), squeeze=False)
    for row, class_name in enumerate(classes):
        for axis, (title, (manifest, domain)) in zip(axes[row], columns.items()):
            axis.set_axis_off()
            rows = manifest.rows([domain], [class_name])
            if len(rows):
                axis.imshow(images.read(manifest, int(np.random.default_rng([seed, row]).choice(rows))))
            if row == 0:
                axis.set_title(title.replace(", ", ",\n"), fontsize=7)
        axes[row, 0].text(
            -0.15, 0.5, class_name, transform=axes[row, 0].transAxes, rotation=90, va="center", ha="right", fontsize=7
        )
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
    axes = fig.subplots(
        len(queries),
        1 + len(parts) * (k + 1),
        squeeze=False,
        gridspec_kw={"width_ratios": [1, *([0.25, *[1] * k] * len(parts))], "wspace": 0.08, "hspace": 0.28},
    )
    for axis in axes.ravel():
        axis.set_axis_off()
    lines = [f"{len(queries)} queries ({', '.join(labels[queries])})"]
    for part, (title, record, evaluation) in enumerate(parts):
        gallery = record.task(evaluation).gallery
        ranking = record.nearest(queries, evaluation, k)
        right = labels[gallery[ranking]] == labels[queries][:, None]
        lines.append(
            f"{title}, {evaluation}: {' '.join(str(int(n)) for n in right.sum(1))} of {k} right, run {record.key}"
        )
        for row in range(len(queries)):
            for place in range(k):
                axis = axes[row, 2 + part * (k + 1) + place]
                _picture(axis, manifest, int(gallery[ranking[row, place]]))
                good = bool(right[row, place])
                axis.add_patch(
                    Rectangle(
                        (0, 0),
                        1,
                        1,
                        transform=axis.transAxes,
                        fill=False,
                        lw=3,
                        color=RIGHT if good else WRONG,
                        clip_on=False,
                    )
                )
                axis.text(
                    0.97,
                    0.03,
                    "✓" if good else "✗",
                    transform=axis.transAxes,
                    ha="right",
                    va="bottom",
                    fontsize=8,
                    weight="bold",
                    color="white",
                    bbox={"boxstyle": "square,pad=0.1", "color": RIGHT if good else WRONG},
                )
        axes[0, 2 + part * (k + 1)].set_title(title, fontsize=8, loc="left")
    for row, query in enumerate(queries):
        _picture(axes[row, 0], manifest, int(query))
        axes[row, 0].set_title(f"{labels[query]}", fontsize=8, pad=2)
    return Drawing(fig, "\n".join(lines))


def _picture(axis, manifest, row: int) -> None:
    axis.imshow(images.read(manifest, row))


def message(text: str) -> Drawing:
    """A figure that says why there is no picture."""
    fig = Figure(figsize=(6, 1))
    fig.text(0.5, 0.5, text, ha="center", va="center", fontsize=9, wrap=True)
    return Drawing(fig, text)


def one_query_per_class(record: RunRecord, evaluation: str, number: int, seed: int = 0) -> np.ndarray:
    """One query of each of `number` test classes, drawn, not chosen: rows of the manifest."""
    random = np.random.default_rng(seed)
    query = record.task(evaluation).query
    labels = record.spec.manifest().samples.class_name.to_numpy()[query]
    return np.array(
        [random.choice(query[labels == name]) for name in sorted(random.permutation(np.unique(labels))[:number])]
    )


def curves(
    series: dict[str, np.ndarray], ticks: list[str], xlabel: str, ylabel: str, lowest: float | None = 0.0
) -> Drawing:
    """Means over seeds with their deviations: {name: (places, seeds)}.  The fingerprint gives each mean."""
    fig = Figure(figsize=(6, 3.4))
    axis, lines = fig.subplots(), []
    for (name, values), colour, marker in zip(series.items(), COLOURS, MARKERS):
        deviation = values.std(1, ddof=1) if values.shape[1] > 1 else None
        axis.errorbar(range(len(values)), values.mean(1), deviation, label=name, color=colour, marker=marker, capsize=3)
        lines += [f"{name}, {tick}: {row.mean():.3f}" for tick, row in zip(ticks, values)]
    axis.set(xticks=range(len(ticks)), xticklabels=ticks, xlabel=xlabel, ylabel=ylabel, ylim=(lowest, None))
    axis.legend(frameon=False)
    sns.despine(fig)
    return Drawing(fig, "\n".join(lines))


def standings_plot(
    answers: dict[str, statistics.Answers], title: str, kinds: dict[str, tuple[str, ...]], symbols: dict[str, str]
) -> Drawing:
    """Means with intervals from best to worst, coloured by kind; filled: not told apart from the first.  answers by
    method."""
    standings = statistics.standings(answers)
    methods = standings.methods
    fig = Figure(figsize=(7.5, 0.24 * len(methods) + 1.2))
    axis = fig.subplots()
    for (kind, names), colour, marker in zip(kinds.items(), COLOURS, MARKERS):
        for place, one in enumerate(methods):
            if one.name in names:
                limits = [[one.mean - one.low], [one.high - one.mean]]
                fill = colour if 1 in one.ranks else "white"
                axis.errorbar([one.mean], [place], xerr=limits, fmt=marker, color=colour, ms=5, lw=1.2, mfc=fill)
        axis.plot([], [], marker, color=colour, ms=5, label=kind)
    labels = [one.name + symbols[one.name] for one in methods]
    axis.set(yticks=range(len(methods)), yticklabels=labels, xlabel="mAP@all", title=title, xlim=(0, None))
    axis.invert_yaxis()
    axis.legend(frameon=False, loc="upper left", fontsize=8)
    sns.despine(fig)
    fig.tight_layout()
    order = ", ".join(f"{one.name} {one.mean:.3f}" for one in methods[:3])
    last, near = methods[-1], sum(1 in one.ranks for one in methods)
    classes = next(iter(answers.values())).classes
    return Drawing(
        fig,
        f"{len(methods)} methods, {len(classes)} queries of {len(set(classes.tolist()))} classes; first {order}; "
        f"last {last.name} {last.mean:.3f}; "
        f"{near} not told apart from the first; critical difference of the median pair {standings.typical:.3f}",
    )


@dataclass(frozen=True, eq=False)
class Points:
    """What one column of an embedding map shows: embeddings (n, D), class and domain names (n,), filled markers where
    `filled` (n,)."""

    title: str
    embeddings: np.ndarray
    classes: np.ndarray
    domains: np.ndarray
    filled: np.ndarray
    source: str  # the run


def points_of(title: str, record: RunRecord, rows: np.ndarray) -> Points:
    """The rows of a run's manifest in its embedding."""
    samples = record.spec.manifest().samples.iloc[rows]
    domains = samples.domain.to_numpy()
    return Points(
        title,
        record.embeddings(rows),
        samples.class_name.to_numpy(),
        domains,
        domains == record.spec.gallery_domain,
        f"run {record.key}",
    )


def embedding_maps(
    parts: list[Points], highlighted: list[str], planes: tuple[str, ...] = ("t-SNE", "UMAP"), columns: int | None = None
) -> Drawing:
    """Each part in the plane, by t-SNE (top) and UMAP (below): colour and marker are the class, filled the gallery
    domain, hollow the query's.

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
        lines.append(
            f"{points.title}: {len(classes)} points, {len(names)} classes, {len(set(domains))} domains, "
            f"10-neighbour purity {purity:.2f}{across}, {points.source}"
        )
        for line, method in enumerate(planes):
            plane, axis = (
                {"t-SNE": _tsne, "UMAP": _umap}[method](embedded),
                axes[(number // columns) * len(planes) + line, number % columns],
            )
            axis.set_axis_on()
            kept = neighbour_purity(plane, classes)
            lines.append(
                f"  {method} keeps the neighbours (purity within 0.15 of the embedding's): "
                f"{'yes' if abs(kept - purity) < 0.15 else 'no'}"
            )
            for index, name in enumerate(names):
                for filled in (False, True):
                    chosen = (classes == name) & (points.filled == filled)
                    axis.scatter(
                        *plane[chosen].T,
                        s=34 if name in highlighted else 16,
                        marker=MARKERS[index % 10],
                        facecolors=COLOURS[index % 10] if filled else "none",
                        edgecolors=[COLOURS[index % 10]],
                        linewidths=0.9,
                    )
                named = classes == name
                middle = np.median(
                    plane[named & points.filled if (named & points.filled).any() else named], axis=0
                )  # at the photos
                axis.annotate(
                    name,
                    middle,
                    fontsize=8,
                    weight="bold" if name in highlighted else "normal",
                    ha="center",
                    bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7},
                )
            axis.set(xticks=[], yticks=[], title=f"{points.title}\n{method}" if line == 0 else method)
            axis.title.set_fontsize(9)
    fig.tight_layout()
    return Drawing(fig, "\n".join(lines))


def neighbour_purity(points: np.ndarray, classes: np.ndarray, domains: np.ndarray | None = None, k: int = 10) -> float:
    """Mean share of the k nearest other points that have the point's class; with domains, only points of another domain
    count."""
    from scipy.spatial.distance import cdist

    distance = cdist(points, points, "sqeuclidean")
    barred = np.eye(len(points), dtype=bool) if domains is None else domains[:, None] == domains[None]
    order = np.argsort(np.where(barred, np.inf, distance), axis=1, kind="stable")[:, :k]
    return float((classes[order] == classes[:, None]).mean())


def _tsne(points: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    return TSNE(perplexity=15, init="pca", random_state=0).fit_transform(points)


def _umap(points: np.ndarray) -> np.ndarray:
    import warnings

    with (
        warnings.catch_warnings()
    ):  # numba and umap warn of threads and of float precision; neither matters to a picture
        warnings.simplefilter("ignore")
        from umap import UMAP

        return UMAP(n_neighbors=12, random_state=0, n_jobs=1).fit_transform(points)


def results(query: np.ndarray, pictures: list[np.ndarray], titles: list[str], columns: int = 6) -> Drawing:
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
