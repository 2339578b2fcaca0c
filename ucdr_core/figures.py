"""Figures, each with a printed fingerprint: nbval compares text, not pictures.

A fingerprint says what is drawn in numbers that do not depend on the machine: counts, neighbour purity of the embeddings (from
ranks), and whether the plane keeps it.  Never coordinates: t-SNE and UMAP move points for a change in the last digit.
"""
from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from . import semantics
from .data import images
from .papers import snmpnet
from .runs import RunRecord, Store

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
    if paper != "snmpnet" or name not in FIGURES:
        raise KeyError(f"unknown figure {paper} {name}; known: " + ", ".join(f"snmpnet {known}" for known in FIGURES))
    return FIGURES[name](Store())


# ------------------------------------------------------------------------------------------------------------ drawing

def contact_sheet(manifest, classes: list[str], seed: int = 0) -> Drawing:
    """One image per class (rows) and domain (columns)."""
    domains = manifest.domains
    fig = Figure(figsize=(1.0 * len(domains), 1.0 * len(classes)))
    axes = fig.subplots(len(classes), len(domains), squeeze=False)
    for row, class_name in enumerate(classes):
        for column, domain in enumerate(domains):
            axis = axes[row, column]
            axis.set_axis_off()
            own = manifest.rows([domain], [class_name])
            if len(own):
                axis.imshow(images.read(manifest, int(np.random.default_rng([seed, row]).choice(own))))
            if row == 0:
                axis.set_title(domain, fontsize=7)
            if column == 0:
                axis.text(-0.15, 0.5, class_name, transform=axis.transAxes, rotation=90, va="center", ha="right", fontsize=7)
    fig.subplots_adjust(wspace=0.05, hspace=0.05)
    return Drawing(fig, f"{len(classes)} classes x {len(domains)} domains, data {manifest.fingerprint}")


def retrieval_grid(record: RunRecord, evaluations: list[str], queries: np.ndarray, k: int = 8) -> Drawing:
    """Each query with its first k of each gallery; right ones framed and ticked, wrong ones framed and crossed."""
    manifest = record.spec.manifest()
    labels = manifest.samples.class_name.to_numpy()
    width = 1 + len(evaluations) * k
    fig = Figure(figsize=(0.62 * width + 0.4, 0.78 * len(queries) + 0.3))
    axes = fig.subplots(len(queries), width + len(evaluations), squeeze=False,
                        gridspec_kw={"width_ratios": [1, *([0.25, *[1] * k] * len(evaluations))], "wspace": 0.08, "hspace": 0.28})
    for axis in axes.ravel():
        axis.set_axis_off()
    embedded = record.embeddings(queries)
    counts = []
    for part, evaluation in enumerate(evaluations):
        gallery = record.task(evaluation).gallery
        ranking = rank(embedded, record.embeddings(gallery), record.model()[0].distance)[:, :k]
        right = labels[gallery[ranking]] == labels[queries][:, None]
        counts.append(f"{evaluation}: {' '.join(str(int(n)) for n in right.sum(1))} of {k} right")
        for row in range(len(queries)):
            for place in range(k):
                axis = axes[row, 2 + part * (k + 1) + place]
                _picture(axis, manifest, int(gallery[ranking[row, place]]))
                good = bool(right[row, place])
                axis.add_patch(Rectangle((0, 0), 1, 1, transform=axis.transAxes, fill=False, lw=3, color=RIGHT if good else WRONG, clip_on=False))
                axis.text(0.97, 0.03, "✓" if good else "✗", transform=axis.transAxes, ha="right", va="bottom", fontsize=8, weight="bold",
                          color="white", bbox={"boxstyle": "square,pad=0.1", "color": RIGHT if good else WRONG})
        axes[0, 2 + part * (k + 1)].set_title(f"gallery {evaluation.split(':')[2]}", fontsize=8, loc="left")
    for row, query in enumerate(queries):
        _picture(axes[row, 0], manifest, int(query))
        axes[row, 0].set_title(f"{labels[query]}", fontsize=8, pad=2)
    return Drawing(fig, f"{len(queries)} queries ({', '.join(labels[queries])})\n" + "\n".join(counts) + f"\nrun {record.key}")


def rank(queries: np.ndarray, gallery: np.ndarray, distance: str) -> np.ndarray:
    """Gallery positions by distance, nearest first: (Q, N)."""
    if distance == "cosine":
        queries, gallery = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (queries, gallery))
    return np.argsort(np.square(gallery).sum(1) / 2 - queries @ gallery.T, axis=1, kind="stable")


def _picture(axis, manifest, row: int) -> None:
    axis.imshow(images.read(manifest, row))


def embedding_maps(parts: list[tuple[str, RunRecord, np.ndarray]], highlighted: list[str]) -> Drawing:
    """t-SNE (top) and UMAP (below) of each part's rows: colour is the class, filled markers the gallery domain, hollow the query's.

    parts: (title, run, rows of its manifest); highlighted: unseen classes, drawn larger.
    """
    fig = Figure(figsize=(4.4 * len(parts), 8.2))
    axes = fig.subplots(2, len(parts), squeeze=False)
    lines = []
    for column, (title, record, rows) in enumerate(parts):
        samples = record.spec.manifest().samples.iloc[rows]
        classes, domains = samples.class_name.to_numpy(), samples.domain.to_numpy()
        names = sorted(set(classes))
        embedded = record.embeddings(rows)
        embedded = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
        purity = neighbour_purity(embedded, classes)
        lines.append(f"{title}: {len(rows)} points, {len(names)} classes, {len(set(domains))} domains, 10-neighbour purity {purity:.2f}, "
                     f"across domains {neighbour_purity(embedded, classes, domains):.2f}, run {record.key}")
        for line, (method, project) in enumerate((("t-SNE", _tsne), ("UMAP", _umap))):
            plane, axis = project(embedded), axes[line, column]
            kept = neighbour_purity(plane, classes)
            lines.append(f"  {method} keeps the neighbours (purity within 0.15 of the embedding's): {'yes' if abs(kept - purity) < 0.15 else f'no, {kept:.2f}'}")
            for index, name in enumerate(names):
                for domain in sorted(set(domains)):
                    own = (classes == name) & (domains == domain)
                    filled = domain == record.spec.gallery_domain
                    axis.scatter(*plane[own].T, s=34 if name in highlighted else 16, marker=MARKERS[index % 10],
                                 facecolors=COLOURS[index % 10] if filled else "none", edgecolors=[COLOURS[index % 10]], linewidths=0.9)
                middle = np.median(plane[classes == name], axis=0)
                axis.annotate(name, middle, fontsize=8, weight="bold" if name in highlighted else "normal", ha="center",
                              bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7})
            axis.set(xticks=[], yticks=[], title=f"{title}\n{method}" if line == 0 else method)
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
        evaluations = [f"{protocol}:{domain}:{gallery}" for gallery in snmpnet.BOTH_GALLERIES]
        return retrieval_grid(record, evaluations, _one_query_per_class(record, evaluations[0], number))
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
    drawing = embedding_maps([("SnMpNet, sketch (unseen domain)", record, _map_rows(record, "sketch", unseen, seen))], unseen)
    pairs = ", ".join(f"{u} ({s})" for u, s in zip(unseen, seen))
    return Drawing(drawing.figure, drawing.fingerprint + f"\nunseen classes (their nearest seen class by name): {pairs}")


def _figure5(store: Store) -> Drawing:
    parts = []
    for method in ("snmpnet", "cumix"):
        record = store.need(snmpnet.multi_domain(method, snmpnet.without("sketch")))
        unseen, seen = related_classes(record)
        for domain, kind in (("quickdraw", "seen domain"), ("sketch", "unseen domain")):
            parts.append((f"{snmpnet.LABELS[method]}, {domain} ({kind})", record, _map_rows(record, domain, unseen, seen)))
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


FIGURES: dict[str, Callable[[Store], Drawing]] = {
    "figure2": _retrieved("quickdraw", "ucdr", "quickdraw"),
    "figure3": _figure3,
    "figure4": _figure4,
    "figure5": _figure5,
    "figure6": _retrieved("sketch", "ucdr", "sketch"),
    "figure6_uccdr": _retrieved("quickdraw", "uccdr", "sketch", 4),
}
