"""STRAD's tables and claims: Sketchy, TU-Berlin and QuickDraw, five seeds."""

from __future__ import annotations

from typing import Any

from ucdr_core.chapters.common import ZERO_SHOT, beside, headers, reference_rows
from ucdr_core.chapters.reported import reported_value
from ucdr_core.chapters.systems import SEEDS, SEEDS_OF_STRAD, mark_of, seeds_for
from ucdr_core.chapters.tiers import TITLES, Tier
from ucdr_core.evidence.rows import METRIC_TITLES, Cell, Claim, Pair, Row, Runs, Table, Terms

VIEWS = ("sketchy", "tuberlin", "quickdraw")
SPACES = {"Comb": "", "Sk": "@sketch", "Im": "@image", "St": "@structure"}
TRAINED_BY = {
    "@sketch": "weight_sk",
    "@image": "weight_im",
    "@structure": "weight_cls",
}  # a space whose loss is off is not searched
TERMS = Terms("yelamarthi_104_21", "map_200_k")  # of the mAP@200 of its own rows
BACKBONES = {"db": False, "sb": True}  # double, single: whether sketches and photos share it
SPLITS = {"tuberlin": "tuberlin_strad64"}  # of the paper, where they are not the usual ones

# The systems of Table 1 between the reference rows and STRAD, by the backbone they have there; keys of the paper's
# table: (label, method here).
COMPARED = {
    "db": {
        "san": ("SaN (own network)", "san"),
        "siamese": ("Siamese (S)", "siamese"),
        "eszsl": ("ESZSL (S)", "eszsl"),
        "sae": ("SAE (S)", "sae"),
        "cmt": ("CMT (S)", "cmt"),
        "devise": ("DeViSE (S)", "devise"),
        "simple_db": ("Simple DB", ""),
        "cvae": ("CVAE (D)", "cvae"),
        "xu2019": ("Xu et al. 2019 (D)", "xu2019"),
        "sem_pcyc": ("SEM-PCYC (D)", "sem_pcyc"),
        "doodle": ("Doodle to Search (D)", "doodle"),
        "dutta_biswas2019": ("Dutta & Biswas 2019 (D)", "content_style"),
        "sketchgcn": ("SketchGCN (D)", "sketchgcn"),
    },
    "sb": {"simple_sb": ("Simple SB", ""), "sake": ("SAKE (S)", "sake")},
}


def _without(*losses: str) -> dict[str, float]:
    return {f"weight_{loss}": 0.0 for loss in losses}


ABLATION: dict[str, tuple[str, dict[str, float]]] = {  # row of Table 2: (label, options)
    "r01": ("1: all five losses", {}),
    "r02": ("2: without $L_{KL}$", _without("kl")),
    "r03": ("3: without $L_2^{sk}$", _without("sk")),
    "r04": ("4: without $L_{KL}$, $L_2^{im}$", _without("kl", "im")),
    "r05": ("5: without $L_{cls}$", _without("cls")),
    "r06": ("6: without $L_{or}$", _without("or")),
    "r07": ("7: $L_{cls}$ alone", _without("kl", "sk", "im", "or")),
}

# The authors' earlier code, of another version of the method.
EARLIER_CODE: dict[str, Any] = {
    "alignment": "ranking",
    "reconstruction": "code",
    "weight_sk": 10.0,
    "weight_or": 0.0,
    "pairs": "own",
    "sketch_space": False,
}


def _earlier(*options: str) -> dict[str, Any]:
    return {"options": {name: EARLIER_CODE[name] for name in options}}


# Places where paper and earlier code part company, each one switch away from STRAD (D); and what choosing on test
# classes is worth.
SWITCHES: dict[str, dict[str, Any]] = {
    "mean square instead of norm (earlier code)": _earlier("reconstruction"),
    "the same, sketch term x10, no orthogonality (earlier code)": _earlier("reconstruction", "weight_sk", "weight_or"),
    "a sketch's own photo instead of one of its class (earlier code)": _earlier("pairs"),
    "ranking loss instead of classification (earlier code)": _earlier("alignment"),
    "all of these, and no sketch space (earlier code)": _earlier(*EARLIER_CODE),
    "epoch and fusion chosen on the TEST classes (authors)": {"recipe": {"selection": "test"}},
}


def runs_of(tier: Tier, method: str, view: str, seeds: tuple[int, ...] = SEEDS, **values: Any) -> Runs:
    """Of a method, on the paper's split."""
    return tier.runs(method, view, seeds, paper_split=SPLITS.get(view, ""), **values)


def simple(tier: Tier, view: str, backbone: str) -> Runs:
    """Simple DB or SB."""
    return runs_of(tier, "simple", view, SEEDS_OF_STRAD, options={"shared": BACKBONES[backbone]})


def strad(tier: Tier, view: str, backbone: str = "db", **values: Any) -> Runs:
    """STRAD on the features of Simple DB or SB."""
    return runs_of(tier, "strad", view, SEEDS_OF_STRAD, fed_by={"shared": BACKBONES[backbone]}, **values)


def _cells(tier: Tier, runs: Runs, view: str, key: str | None = None) -> tuple[Cell, ...]:
    where = {"table": "table1", "method": key, "dataset": view} if key else {}
    return tuple(
        beside(tier, runs, ZERO_SHOT, metric, "strad", terms_of_table=terms, **where)
        for metric, terms in (("prec_200", None), ("map_200", TERMS))
    )


def table1(tier: Tier) -> Table:
    rows = []
    for view in VIEWS:

        def cells(runs: Runs, key: str | None = None, view: str = view) -> tuple[Cell, ...]:
            return _cells(tier, runs, view, key)

        group = TITLES[view]
        rows += reference_rows(lambda method, view=view: runs_of(tier, method, view), cells, group)
        for backbone, short in (("db", "D"), ("sb", "S")):
            for key, (name, method) in COMPARED[backbone].items():
                runs = simple(tier, view, backbone)
                if method:
                    runs = runs_of(tier, method, view, seeds_for(method, view))
                rows.append(Row(name, cells(runs, key), group, mark_of(method)))
            rows.append(Row(f"STRAD ({short})", cells(strad(tier, view, backbone), f"strad_{backbone}"), group))
    return Table(
        "strad",
        "table1",
        "Zero-shot sketch-based retrieval. D: a backbone for sketches and one for photos; S: a single one.",
        (headers(tier, "prec_200"), headers(tier, "map_200", terms=TERMS)),
        tuple(rows),
        "Data set",
        "STRAD (D)",
        tier.same_terms,
    )


def table2(tier: Tier) -> Table:
    metric, rows = tier.metric("prec_200"), []
    for key, (label, options) in ABLATION.items():
        runs, cells = strad(tier, "sketchy", options=options), []
        for suffix in SPACES.values():
            printed = reported_value("strad", table="table2", row_id=f"table2_{key}_{suffix[1:] or 'comb'}")
            searched = not suffix or options.get(TRAINED_BY[suffix], 1.0) > 0
            cells.append(Cell(runs if searched else (), ZERO_SHOT + suffix, metric, printed))
        rows.append(Row(label, tuple(cells)))
    return Table(
        "strad",
        "table2",
        "Ablation on Sketchy, double backbone: retrieval in all spaces together and in each. "
        f"Paper: P@200, one seed; ours: {METRIC_TITLES[metric]}.",
        tuple((f"{title}, paper", f"{title}, ours") for title in SPACES),
        tuple(rows),
    )


def switches(tier: Tier) -> Table:
    def cells(**values: Any) -> tuple[Cell, ...]:
        runs = strad(tier, "sketchy", **values)
        return tuple(
            Cell(runs, ZERO_SHOT, tier.metric(metric, terms))
            for metric, terms in (("prec_200", None), ("map_200", TERMS))
        )

    rows = [Row("STRAD (D), chosen on validation classes", cells())]
    rows += [
        Row(f"STRAD (D), {label}", cells(**values), mark="oracle" if "TEST" in label else "switch")
        for label, values in SWITCHES.items()
    ]
    columns = tuple(
        ("", headers(tier, metric, terms=terms)[1]) for metric, terms in (("prec_200", None), ("map_200", TERMS))
    )
    return Table(
        "strad",
        "switches",
        "STRAD (double backbone) on Sketchy with one thing changed at a time.",
        columns,
        tuple(rows),
    )


TABLES = {"table1": table1, "table2": table2, "switches": switches}


def claims1(tier: Tier) -> list[Claim]:
    """STRAD against the plain fine-tuned backbone, and the two kinds of backbone."""

    def printed(key: str, view: str) -> float:
        return reported_value("strad", table="table1", method=key, dataset=view, metric="map_200") or 0.0

    metric, result = tier.metric("map_200", TERMS), []
    for view in VIEWS:
        for backbone in BACKBONES:
            result.append(
                Claim(
                    f"{TITLES[view]}: STRAD − Simple {backbone.upper()}",
                    printed(f"strad_{backbone}", view) - printed(f"simple_{backbone}", view),
                    (Pair((strad(tier, view, backbone),), (simple(tier, view, backbone),), ZERO_SHOT),),
                    metric,
                )
            )
        result.append(
            Claim(
                f"{TITLES[view]}: Simple SB − STRAD (D)",
                printed("simple_sb", view) - printed("strad_db", view),
                (Pair((simple(tier, view, "sb"),), (strad(tier, view, "db"),), ZERO_SHOT),),
                metric,
            )
        )
    return result


CLAIMS = {"table1": claims1}
