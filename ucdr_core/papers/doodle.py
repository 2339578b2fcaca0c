"""Doodle to Search (CVPR 2019): its tables and figures on the analogues of Sketchy, TU-Berlin and QuickDraw-Extended."""
from __future__ import annotations

from ..data import datasets, splits
from ..runs import TrainSpec
from . import Cell, Claim, Listing, Pair, Row, Table, folds_of, printed, reported, reported_value, seeds_of
from .embedded import DEFAULTS, reference_rows, seeds_for, sketch_photo

VIEWS = {"sketchy": "Sketchy", "tuberlin": "TU-Berlin", "quickdraw": "QuickDraw"}
ASKED = "zs_sbir:sketch:unseen"

_NO_LOSSES = {"weight_domain": 0.0, "weight_semantic": 0.0}
ABLATION = {  # reported key: (label, options): attention, domain loss, semantic loss
    "doodle_triplet": ("Triplet", {"attention": False, **_NO_LOSSES}),
    "doodle_triplet+attn": ("Triplet + attention", _NO_LOSSES),
    "doodle_triplet+attn+dom": ("Triplet + attention + domain", {"weight_semantic": 0.0}),
    "doodle_triplet+attn+sem": ("Triplet + attention + semantic", {"weight_domain": 0.0}),
    "doodle": ("Doodle to Search (all)", {}),
}

# Places where paper, code and this book part company, each one switch away from the row "Doodle to Search (all)".
SWITCHES = {
    "reversal ramp by place in the epoch (code)": {"options": {"ramp": "code"}},
    "semantic loss not divided by three (code)": {"options": {"semantic_form": "code"}},
    "semantic decoder of two layers (code)": {"options": {"decoder_layers": 2}},
    "negatives at the printed scale of 0.1": {"options": {"negative_scale": 0.1}},
    "negatives from class vectors as they come (code, TU-Berlin)": {"vectors_normalised": False, "vectors_centred": False, "options": {"negative_scale": 0.1}},
    "negatives of any other class": {"options": {"negatives": "uniform"}},
    "retrieval by Euclidean distance (paper)": {"options": {"distance": "euclidean"}},
    "one network for both domains": {"options": {"shared": True}},
}

COLUMNS = (("Paper, mAP", "Ours, mAP@all"), ("Paper, mAP@200", ""), ("Paper, P@200", "Ours, P@10"))


def _cells(specs: tuple[TrainSpec, ...], view: str, table: str, key: str | None = None) -> tuple[Cell, ...]:
    return tuple(Cell(specs, ASKED, ours, *(printed("doodle", table=table, row_id=_row_id(table, key), dataset=view, metric=theirs) if key else ()))
                 for ours, theirs in (("map_all", "map_all"), ("", "map_200"), ("prec_10", "prec_200")))


def _row_id(table: str, key: str) -> str:
    rows = reported("doodle")
    return rows[(rows.table == table) & (rows.method == key) & ~rows.row_id.str.contains("_fn_")].row_id.iloc[0]


def table1() -> Listing:
    """Statistics of the data sets: what the paper prints, and the analogues' counted from their manifests."""
    printed = reported("dataset_stats").set_index(["dataset", "quantity"]).value
    split = splits.load("emoji")
    rows: dict[str, list[str]] = {name: [] for name in (
        "Classes to train and validate", "Classes to test", "Sketches per class", "Photos per class",
        "Comparisons in test, as printed: pairs of one class", "Comparisons in test, every pair")}
    for view in VIEWS:
        manifest = datasets.emoji(view)
        counts = manifest.counts()
        test = counts[list(split.test)]
        theirs = [printed[view, name] for name in ("classes_trainval", "classes_test", "sketches_per_class", "images_per_class", "test_comparisons")]
        ours = [len(split.train) + len(split.val), len(split.test), f"{counts.loc['sketch'].mean():.1f}", f"{counts.loc['photo'].mean():.1f}",
                f"{int((test.loc['sketch'] * test.loc['photo']).sum()):,}", f"{int(test.loc['sketch'].sum() * test.loc['photo'].sum()):,}"]
        theirs[4] = f"{int(theirs[4]):,}"
        for name, paper, own in zip(rows, [*theirs, ""], ours):
            rows[name] += [paper, str(own)]
    header = ("Quantity", *(f"{label}{kind}" for label in VIEWS.values() for kind in (", paper", " analogue")))
    return Listing("doodle", "table1", "The three data sets in the paper, and their analogues, counted.", header,
                   tuple((name, *values) for name, values in rows.items()),
                   "Counted from the manifests of EmojiDomains (" + ", ".join(f"emoji-{view} {datasets.emoji(view).fingerprint}" for view in VIEWS) + ").")


def table2() -> Table:
    rows = []
    for view, label in VIEWS.items():
        rows += reference_rows(lambda m, view=view: sketch_photo(view, m), lambda specs, view=view: _cells(specs, view, "table2"), label)
        rows += [Row(DEFAULTS[key].label, _cells(seeds_of(sketch_photo(view, key), seeds_for(key, view)), view, "table2", key), label) for key in ("zsih", "cvae")]
        rows.append(Row(DEFAULTS["doodle"].label, _cells(seeds_of(sketch_photo(view, "doodle")), view, "table2", "doodle"), label))
        rows.append(Row(DEFAULTS["doodle"].label, _cells(seeds_of(sketch_photo(view, "doodle", permuted_names=True)), view, "table2"), label, "control"))
    return Table("doodle", "table2", "Zero-shot sketch-based retrieval on three analogues.", COLUMNS, tuple(rows), "Data set", own=DEFAULTS["doodle"].label)


def table3() -> Table:
    rows = []
    for view, label in VIEWS.items():
        rows += reference_rows(lambda m, view=view: sketch_photo(view, m), lambda specs, view=view: _cells(specs, view, "table3"), label)
        rows += [Row(name, _cells(seeds_of(sketch_photo(view, "doodle", options=options)), view, "table3", key), label)
                 for key, (name, options) in ABLATION.items()]
    return Table("doodle", "table3", "Ablation: what attention, the domain loss and the semantic loss add to the triplet loss.", COLUMNS, tuple(rows), "Data set")


def switches() -> Table:
    rows = [Row(DEFAULTS["doodle"].label, _cells(seeds_of(sketch_photo("sketchy", "doodle")), "sketchy", "table3"))]
    rows += [Row(label, _cells(seeds_of(sketch_photo("sketchy", "doodle", **values)), "sketchy", "table3"), mark="switch") for label, values in SWITCHES.items()]
    return Table("doodle", "switches", "Doodle to Search on the analogue of Sketchy with one thing changed at a time.",
                 (("", "Ours, mAP@all"), ("", ""), ("", "Ours, P@10")), tuple(rows))


TABLES = {"table1": table1, "table2": table2, "table3": table3, "switches": switches}


def claims3() -> list[Claim]:
    """Differences along the ablation, on the analogue of Sketchy."""
    value = {key: reported_value("doodle", table="table3", method=key, dataset="sketchy", metric="map_all") for key in ABLATION}
    specs = {key: folds_of(sketch_photo("sketchy", "doodle", options=options)) for key, (_, options) in ABLATION.items()}
    keys = list(ABLATION)
    pairs = [(keys[1], keys[0]), (keys[2], keys[1]), (keys[3], keys[1]), (keys[4], keys[1]), (keys[4], keys[0])]
    result = [Claim(f"{ABLATION[a][0]} − {ABLATION[b][0]}", value[a] - value[b], (Pair(specs[a], specs[b], ASKED),), reported_metric="mAP") for a, b in pairs]
    result += [Claim(f"{ABLATION['doodle'][0]} − {DEFAULTS[reference].label}", None,
                     (Pair(specs["doodle"], folds_of(sketch_photo("sketchy", reference)), ASKED),)) for reference in ("frozen", "frozen_centred")]
    return result


CLAIMS = {"table3": claims3}


def figure_specs() -> list[TrainSpec]:
    return []
