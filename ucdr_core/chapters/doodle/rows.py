"""Doodle to Search's tables and claims."""

from __future__ import annotations

from typing import Any

import numpy as np

from ucdr_core.chapters.common import ZERO_SHOT, beside, headers, reference_rows, switched
from ucdr_core.chapters.reported import reported, reported_value
from ucdr_core.chapters.systems import DEFAULTS, seeds_for
from ucdr_core.chapters.tiers import TITLES, Tier
from ucdr_core.data import DataError
from ucdr_core.evidence.record import RunRecord
from ucdr_core.evidence.rows import Cell, Claim, Computed, Listing, Pair, Row, Runs, Table
from ucdr_core.evidence.store import Store

VIEWS = ("sketchy", "tuberlin", "quickdraw")

_NO_LOSSES = {"weight_domain": 0.0, "weight_semantic": 0.0}
ABLATION = {  # reported key: (label, options): attention, domain loss, semantic loss
    "doodle_triplet": ("Triplet", {"attention": False, **_NO_LOSSES}),
    "doodle_triplet+attn": ("Triplet + attention", _NO_LOSSES),
    "doodle_triplet+attn+dom": ("Triplet + attention + domain", {"weight_semantic": 0.0}),
    "doodle_triplet+attn+sem": ("Triplet + attention + semantic", {"weight_domain": 0.0}),
    "doodle": ("Doodle to Search (all)", {}),
}

# Places where paper, code and this book part company, each one switch away from the row "Doodle to Search (all)".
SWITCHES: dict[str, dict[str, Any]] = {
    "reversal ramp by place in the epoch (code)": {"options": {"ramp": "code"}},
    "semantic loss not divided by three (code)": {"options": {"semantic_form": "code"}},
    "semantic decoder of two layers (code)": {"options": {"decoder_layers": 2}},
    "negatives at the printed scale of 0.1": {"options": {"negative_scale": 0.1}},
    "negatives from class vectors as they come (code, TU-Berlin)": {
        "vectors_normalised": False,
        "vectors_centred": False,
        "options": {"negative_scale": 0.1},
    },
    "negatives of any other class": {"options": {"negatives": "uniform"}},
    "retrieval by Euclidean distance (paper)": {"options": {"distance": "euclidean"}},
    "one network for both domains": {"options": {"shared": True}},
}
OTHER_WAY: dict[str, tuple[str, dict[str, Any]]] = {  # of a switch that a tier's own runs have already
    "reversal ramp by place in the epoch (code)": (
        "reversal ramp by iteration (paper)",
        {"options": {"ramp": "paper"}},
    ),
    "semantic loss not divided by three (code)": (
        "semantic loss divided by three (paper)",
        {"options": {"semantic_form": "paper"}},
    ),
    "semantic decoder of two layers (code)": (
        "semantic decoder of three layers (paper)",
        {"options": {"decoder_layers": 3}},
    ),
    "negatives at the printed scale of 0.1": (
        "negatives at a scale of 0.27 (this book's)",
        {"options": {"negative_scale": 0.27}},
    ),
    "retrieval by Euclidean distance (paper)": ("retrieval by cosine", {"options": {"distance": "cosine"}}),
}

PRINTED = ("map_all", "map_200", "prec_200")


def _columns(tier: Tier) -> tuple[tuple[str, str], ...]:
    """On small galleries our mAP@200 is mAP@all, which is shown once."""
    ours = tier.same_terms
    return (
        ("Paper, mAP", headers(tier, "map_all")[1]),
        ("Paper, mAP@200", headers(tier, "map_200")[1] if ours else ""),
        headers(tier, "prec_200"),
    )


def _cells(tier: Tier, runs: Runs, view: str, table: str, key: str | None = None) -> tuple[Cell, ...]:
    where = {"table": table, "row_id": _row_id(table, key), "dataset": view} if key else {}
    return tuple(beside(tier, runs, ZERO_SHOT, metric, "doodle", **where) for metric in PRINTED)


def _row_id(table: str, key: str) -> str:
    rows = reported("doodle")
    return rows[(rows.table == table) & (rows.method == key) & ~rows.row_id.str.contains("_fn_")].row_id.iloc[0]


def table1(tier: Tier) -> Listing:
    """Statistics of the data sets: what the paper prints, and those of the tier counted from their manifests."""
    stated = reported("doodle", "dataset_stats").set_index(["dataset", "quantity"]).value
    quantities = ("classes_trainval", "classes_test", "sketches_per_class", "images_per_class", "test_comparisons")
    names = (
        "Classes to train and validate",
        "Classes to test",
        "Sketches per class",
        "Photos per class",
        "Comparisons in test, as printed: pairs of one class",
        "Comparisons in test, every pair",
    )
    rows: dict[str, list[str]] = {name: [] for name in names}
    fingerprints = []
    for view in VIEWS:
        printed = [stated[view, quantity] for quantity in quantities]
        printed[4] = f"{int(printed[4]):,}"
        counted = _counted(tier, view)
        fingerprints += counted[1:]
        for name, paper, ours in zip(names, [*printed, ""], counted[0]):
            rows[name] += [str(paper), ours]
    header = ("Quantity", *(f"{TITLES[view]}{kind}" for view in VIEWS for kind in (", paper", ", ours")))
    return Listing(
        "doodle",
        "table1",
        f"The three data sets in the paper, and those of tier {tier.name}, counted.",
        header,
        tuple((name, *values) for name, values in rows.items()),
        f"Counted from the manifests ({', '.join(fingerprints) or 'none is on this machine'}).",
    )


def _counted(tier: Tier, view: str) -> tuple[list[str], *tuple[str, ...]]:
    """The six quantities and the fingerprint of the view's data set; blanks where it is not there."""
    spec = tier.spec("frozen", view)
    try:
        manifest, split = (spec.manifest(), spec.class_split()) if spec else (None, None)
    except DataError:
        manifest = split = None
    if manifest is None:
        return ([""] * 6,)
    counts = manifest.counts()
    test = counts[list(split.test)]
    return [
        str(len(split.train) + len(split.val)),
        str(len(split.test)),
        f"{counts.loc['sketch'].mean():.1f}",
        f"{counts.loc['photo'].mean():.1f}",
        f"{int((test.loc['sketch'] * test.loc['photo']).sum()):,}",
        f"{int(test.loc['sketch'].sum() * test.loc['photo'].sum()):,}",
    ], f"{manifest.name} {manifest.fingerprint}"


def table2(tier: Tier) -> Table:
    rows = []
    for view in VIEWS:

        def cells(runs: Runs, key: str | None = None, view: str = view) -> tuple[Cell, ...]:
            return _cells(tier, runs, view, "table2", key)

        group, label = TITLES[view], DEFAULTS["doodle"].label
        rows += reference_rows(lambda method, view=view: tier.runs(method, view), cells, group)
        rows += [
            Row(DEFAULTS[key].label, cells(tier.runs(key, view, seeds_for(key, view)), key), group)
            for key in ("zsih", "cvae")
        ]
        rows.append(Row(label, cells(tier.runs("doodle", view), "doodle"), group))
        rows.append(Row(label, cells(tier.runs("doodle", view, permuted_names=True)), group, "control"))
    return Table(
        "doodle",
        "table2",
        "Zero-shot sketch-based retrieval on three data sets.",
        _columns(tier),
        tuple(rows),
        "Data set",
        DEFAULTS["doodle"].label,
        tier.same_terms,
    )


def table3(tier: Tier) -> Table:
    rows = []
    for view in VIEWS:

        def cells(runs: Runs, key: str | None = None, view: str = view) -> tuple[Cell, ...]:
            return _cells(tier, runs, view, "table3", key)

        rows += reference_rows(lambda method, view=view: tier.runs(method, view), cells, TITLES[view])
        rows += [
            Row(name, cells(tier.runs("doodle", view, options=options), key), TITLES[view])
            for key, (name, options) in ABLATION.items()
        ]
    return Table(
        "doodle",
        "table3",
        "Ablation: what attention, the domain loss and the semantic loss add to the triplet loss.",
        _columns(tier),
        tuple(rows),
        "Data set",
        same_terms=tier.same_terms,
    )


def switches(tier: Tier) -> Table:
    def cells(**values: Any) -> tuple[Cell, ...]:
        runs = tier.runs("doodle", "sketchy", **values)
        return tuple(Cell(runs, ZERO_SHOT, tier.metric(metric)) for metric in ("map_all", "prec_200"))

    rows = [Row(DEFAULTS["doodle"].label, cells())]
    changed = switched(tier, "doodle", "sketchy", SWITCHES, OTHER_WAY)
    rows += [Row(label, cells(**values), mark="switch") for label, values in changed.items()]
    columns = tuple(("", headers(tier, metric)[1]) for metric in ("map_all", "prec_200"))
    return Table(
        "doodle", "switches", "Doodle to Search on Sketchy with one thing changed at a time.", columns, tuple(rows)
    )


SHOWN = 8  # Figure 4 shows so many


def confusions(tier: Tier) -> Computed:
    """The confusions that the paper discusses, and every class's largest."""
    runs = {DEFAULTS[method].label: tier.runs(method, "sketchy")[:1] for method in ("frozen", "doodle")}
    title = f"What the first {SHOWN} photos show, over all sketches of an unseen class"
    return Computed(
        title, tuple(spec for one in runs.values() for spec in one), lambda store: _confusions(runs, title, store)
    )


def _confusions(runs: dict[str, Runs], title: str, store: Store) -> Listing:
    shares = {label: class_shares(store.need(own_runs[0])) for label, own_runs in runs.items()}
    rows = []
    for name in next(iter(shares.values())):
        cells = [name]
        for by_class in shares.values():
            wrong = [f"{other} {share:.2f}" for other, share in by_class[name].items() if other != name][:2]
            cells += [f"{by_class[name].get(name, 0.0):.2f}", ", ".join(wrong)]
        rows.append(tuple(cells))
    header = ("Query", *(f"{label}: {what}" for label in shares for what in ("right", "taken for")))
    return Listing(
        "doodle",
        "confusions",
        f"{title}: share of the right class, and the two classes that are most often retrieved instead.",
        header,
        tuple(rows),
        "Seed 0 of the rows of the same names.",
    )


def class_shares(record: RunRecord) -> dict[str, dict[str, float]]:
    """{class of the query: {class: its share of the first 8}}, the four largest shares of each, over all queries of the
    class."""

    def compute(run) -> np.ndarray:
        task, labels = run.task(ZERO_SHOT), run.spec.manifest().samples.class_name.to_numpy().astype(str)
        first = labels[task.gallery[run.nearest(task.query, ZERO_SHOT, SHOWN)]]
        lines = []
        for name in np.unique(labels[task.query]):
            classes, counts = np.unique(first[labels[task.query] == name], return_counts=True)
            for place in np.argsort(-counts, kind="stable")[:4]:
                lines.append(f"{name}\t{classes[place]}\t{counts[place] / counts.sum():.4f}")
        return np.array("\n".join(lines))

    result: dict[str, dict[str, float]] = {}
    for line in str(record.derive(f"confusions {ZERO_SHOT}", compute)).split("\n"):
        query, taken_for, share = line.split("\t")
        result.setdefault(query, {})[taken_for] = float(share)
    return result


TABLES = {"table1": table1, "table2": table2, "table3": table3, "switches": switches, "confusions": confusions}


def claims3(tier: Tier) -> list[Claim]:
    """Differences along the ablation, on Sketchy."""
    value = {
        key: reported_value("doodle", table="table3", method=key, dataset="sketchy", metric="map_all")
        for key in ABLATION
    }
    runs = {key: tier.fold_runs("doodle", "sketchy", options=options) for key, (_, options) in ABLATION.items()}
    keys, metric = list(ABLATION), tier.metric("map_all")
    pairs = [(keys[1], keys[0]), (keys[2], keys[1]), (keys[3], keys[1]), (keys[4], keys[1]), (keys[4], keys[0])]
    result = [
        Claim(
            f"{ABLATION[a][0]} − {ABLATION[b][0]}",
            value[a] - value[b],
            (Pair(runs[a], runs[b], ZERO_SHOT),),
            metric,
            "mAP",
        )
        for a, b in pairs
    ]
    result += [
        Claim(
            f"{ABLATION['doodle'][0]} − {DEFAULTS[reference].label}",
            None,
            (Pair(runs["doodle"], tier.fold_runs(reference, "sketchy"), ZERO_SHOT),),
            metric,
        )
        for reference in ("frozen", "frozen_centred")
    ]
    return result


CLAIMS = {"table3": claims3}
