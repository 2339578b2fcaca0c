"""STRAD (arXiv 1911.13251): its tables and figures on the analogues of Sketchy, TU-Berlin and QuickDraw, five runs."""
from __future__ import annotations

from typing import Any

from ..runs import TrainSpec
from . import Cell, Claim, Pair, Row, Table, printed, reported_value, seeds_of
from .embedded import SEEDS_OF_STRAD as SEEDS
from .embedded import mark_of, reference_rows, seeds_for, sketch_photo

VIEWS = {"sketchy": "Sketchy", "tuberlin": "TU-Berlin", "quickdraw": "QuickDraw"}
ASKED = "zs_sbir:sketch:unseen"
SPACES = {"Comb": "", "Sk": "@sketch", "Im": "@image", "St": "@structure"}
TRAINED_BY = {"@sketch": "weight_sk", "@image": "weight_im", "@structure": "weight_cls"}  # a space whose loss is off is not searched
BACKBONES = {"db": False, "sb": True}  # double, single: whether sketches and photos share it

# The systems of Table 1 between the reference rows and STRAD, by the backbone they have there; keys of the paper's table: (label, method here).
COMPARED = {
    "db": {"san": ("SaN (own network)", "san"), "siamese": ("Siamese (S)", "siamese"), "eszsl": ("ESZSL (S)", "eszsl"), "sae": ("SAE (S)", "sae"),
           "cmt": ("CMT (S)", "cmt"), "devise": ("DeViSE (S)", "devise"), "simple_db": ("Simple DB", ""), "cvae": ("CVAE (D)", "cvae"),
           "xu2019": ("Xu et al. 2019 (D)", "xu2019"), "sem_pcyc": ("SEM-PCYC (D)", "sem_pcyc"), "doodle": ("Doodle to Search (D)", "doodle"),
           "dutta_biswas2019": ("Dutta & Biswas 2019 (D)", "content_style"), "sketchgcn": ("SketchGCN (D)", "sketchgcn")},
    "sb": {"simple_sb": ("Simple SB", ""), "sake": ("SAKE (S)", "sake")},
}


def _without(*losses: str) -> dict[str, float]:
    return {f"weight_{loss}": 0.0 for loss in losses}


ABLATION = {  # row of Table 2: (label, options)
    "r01": ("1: all five losses", {}),
    "r02": ("2: without $L_{KL}$", _without("kl")),
    "r03": ("3: without $L_2^{sk}$", _without("sk")),
    "r04": ("4: without $L_{KL}$, $L_2^{im}$", _without("kl", "im")),
    "r05": ("5: without $L_{cls}$", _without("cls")),
    "r06": ("6: without $L_{or}$", _without("or")),
    "r07": ("7: $L_{cls}$ alone", {**_without("kl", "sk", "im", "or")}),
}


def simple(view: str, backbone: str, **values: Any) -> TrainSpec:
    """Simple DB or SB on an analogue."""
    return sketch_photo(view, "simple", options={"shared": BACKBONES[backbone]}, **values)


def strad(view: str, backbone: str = "db", **values: Any) -> TrainSpec:
    """STRAD on the features of Simple DB or SB."""
    first = simple(view, backbone)
    features = {"method": "simple", "options": first.options, "recipe": first.recipe}
    return sketch_photo(view, "strad", features=features, **values)


def _cells(specs: tuple[TrainSpec, ...], view: str, key: str | None = None) -> tuple[Cell, ...]:
    return tuple(Cell(specs, ASKED, ours, *(printed("strad", table="table1", method=key, dataset=view, metric=theirs) if key else ()))
                 for ours, theirs in (("prec_10", "prec_200"), ("map_all", "map_200")))


def table1() -> Table:
    rows = []
    for view, label in VIEWS.items():
        rows += reference_rows(lambda m, view=view: sketch_photo(view, m), lambda specs, view=view: _cells(specs, view), label)
        for backbone, short in (("db", "D"), ("sb", "S")):
            for key, (name, method) in COMPARED[backbone].items():
                specs = seeds_of(sketch_photo(view, method), seeds_for(method, view)) if method else seeds_of(simple(view, backbone), SEEDS)
                rows.append(Row(name, _cells(specs, view, key), label, mark_of(method)))
            rows.append(Row(f"STRAD ({short})", _cells(seeds_of(strad(view, backbone), SEEDS), view, f"strad_{backbone}"), label))
    return Table("strad", "table1", "Zero-shot sketch-based retrieval. D: a backbone for sketches and one for photos; S: a single one. "
                 "Five seeds for Simple and STRAD; three for the others, but one for SaN, and on QuickDraw's analogue one for all but Doodle to Search.", (("Paper, P@200", "Ours, P@10"), ("Paper, mAP@200", "Ours, mAP@all")), tuple(rows), "Data set", own="STRAD (D)")


def table2() -> Table:
    rows = []
    for key, (label, options) in ABLATION.items():
        specs = seeds_of(strad("sketchy", options=options), SEEDS)
        cells = []
        for title, suffix in SPACES.items():
            theirs = reported_value("strad", table="table2", row_id=f"table2_{key}_{suffix[1:] or 'comb'}")
            searched = not suffix or options.get(TRAINED_BY[suffix], 1.0) > 0
            cells.append(Cell(specs if searched else (), ASKED + suffix, "prec_10", theirs))
        rows.append(Row(label, tuple(cells)))
    return Table("strad", "table2", "Ablation on the analogue of Sketchy, double backbone: retrieval in all spaces together and in each. "
                 "Paper: P@200, one seed; ours: P@10, five seeds.",
                 tuple((f"{title}, paper", f"{title}, ours") for title in SPACES), tuple(rows))


# Places where paper and earlier code part company, each one switch away from STRAD (D); and what choosing on test classes is worth.
SWITCHES = {
    "mean square instead of norm (earlier code)": {"options": {"reconstruction": "code"}},
    "the same, sketch term x10, no orthogonality (earlier code)": {"options": {"reconstruction": "code", "weight_sk": 10.0, "weight_or": 0.0}},
    "epoch and fusion chosen on the TEST classes (authors)": {"recipe": {"selection": "test"}},
}


def switches() -> Table:
    def cells(specs) -> tuple[Cell, ...]:
        return tuple(Cell(specs, ASKED, metric) for metric in ("prec_10", "map_all"))

    rows = [Row("STRAD (D), chosen on validation classes", cells(seeds_of(strad("sketchy"), SEEDS)))]
    rows += [Row(f"STRAD (D), {label}", cells(seeds_of(strad("sketchy", **values), SEEDS)), mark="oracle" if "TEST" in label else "switch")
             for label, values in SWITCHES.items()]
    return Table("strad", "switches", "STRAD (double backbone) on the analogue of Sketchy with one thing changed at a time.",
                 (("", "Ours, P@10"), ("", "Ours, mAP@all")), tuple(rows))


TABLES = {"table1": table1, "table2": table2, "switches": switches}


def _pair(text: str, theirs: float | None, ours: TrainSpec, other: TrainSpec) -> Claim:
    return Claim(text, theirs, (Pair((seeds_of(ours, SEEDS),), (seeds_of(other, SEEDS),), ASKED),))


def claims1() -> list[Claim]:
    """STRAD against the plain fine-tuned backbone, and the two kinds of backbone."""
    def printed(key: str, view: str) -> float:
        return reported_value("strad", table="table1", method=key, dataset=view, metric="map_200")

    result = []
    for view, label in VIEWS.items():
        for backbone in BACKBONES:
            result.append(_pair(f"{label}: STRAD − Simple {backbone.upper()}", printed(f"strad_{backbone}", view) - printed(f"simple_{backbone}", view),
                                strad(view, backbone), simple(view, backbone)))
        result.append(_pair(f"{label}: Simple SB − STRAD (D)", printed("simple_sb", view) - printed("strad_db", view), simple(view, "sb"), strad(view, "db")))
    return result


CLAIMS = {"table1": claims1}


def figure_specs() -> list[TrainSpec]:
    return []
