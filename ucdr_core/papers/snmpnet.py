"""SnMpNet (ICCV 2021): its tables and figures on the embedded data.

Training and evaluation are apart: one training with a domain held out answers Table 2 (UCDR), Table 3 (UcCDR) and Tables 4 and 7
(UdCDR).
"""
from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..runs import TrainSpec
from . import Cell, Claim, Pair, Row, Table, folds_of, printed, reported, reported_value, seeds_of
from .embedded import DEFAULTS, MARKS, mark_of, reference_rows, sketch_photo, spec

DOMAINS = ("real", "sketch", "quickdraw", "painting", "infograph", "clipart")
HELD_OUT = ("sketch", "quickdraw", "painting", "infograph", "clipart")
LABELS = {method: own.label for method, own in DEFAULTS.items()}
COMPARED = ("eisnet", "cumix", "snmpnet")

ABLATION = {  # reported key: (label, options)
    "base": ("Base N/W", {"mixing": False, "lambda_sn": 0.0, "lambda_mp": 0.0}),
    "base+sn_k0": ("Base N/W + $L_{SN}$, $\\kappa=0$", {"mixing": False, "lambda_mp": 0.0, "kappa": 0.0}),
    "base+sn": ("Base N/W + $L_{SN}$", {"mixing": False, "lambda_mp": 0.0}),
    "base+mixce": ("Base N/W + mixing", {"lambda_sn": 0.0, "lambda_mp": 0.0}),
    "base+mixce+sn": ("Base N/W + mixing + $L_{SN}$", {"lambda_mp": 0.0}),
    "snmpnet": ("SnMpNet (all)", {}),
}
KAPPAS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)


def multi_domain(method: str, train_domains, **values: Any) -> TrainSpec:
    """On the analogue of DomainNet.  A quarter of each seen class's Real images is held out (DomainNet: 8% of some 500; here a class
    has about nine, and 8% would be less than one)."""
    return spec(method, dataset="emoji-domainnet", train_domains=tuple(train_domains), gallery_domain="real", gallery_held_out=0.25, **values)


def without(domain: str) -> tuple[str, ...]:
    return tuple(d for d in DOMAINS if d != domain)


def sketchy(method: str, **values: Any) -> TrainSpec:
    """On the analogue of Sketchy."""
    return sketch_photo("sketchy", method, **values)


def _method_rows(make, cells_of, group: str = "", methods=COMPARED) -> list[Row]:
    """Reference rows, the methods, and each method's control with permuted class names.  cells_of(specs, reported method or None)."""
    rows = reference_rows(make, lambda specs: cells_of(specs, None), group)
    rows += [Row(LABELS[m], cells_of(seeds_of(make(m)), m), group) for m in methods]
    rows += [Row(LABELS[m], cells_of(seeds_of(make(m, permuted_names=True)), None), group, MARKS["permuted"]) for m in methods]
    return rows


def _cells(specs: tuple[TrainSpec, ...], protocol: str, domain: str, galleries, table: str, method: str | None, **where: str) -> tuple[Cell, ...]:
    return tuple(
        Cell(specs, f"{protocol}:{domain}:{gallery}", metric,
             *(printed("snmpnet", table=table, method=method, query_domain=domain, gallery=gallery, metric=theirs, **where) if method else ()))
        for gallery in galleries for metric, theirs in (("map_all", "map_200"), ("prec_10", "prec_200")))


BOTH_GALLERIES = ("unseen", "seen+unseen")
BOTH_COLUMNS = (
    ("Unseen: paper mAP@200", "Unseen: ours mAP@all"), ("Unseen: paper Prec@200", "Unseen: ours P@10"),
    ("Seen+unseen: paper mAP@200", "Seen+unseen: ours mAP@all"), ("Seen+unseen: paper Prec@200", "Seen+unseen: ours P@10"),
)
ONE_COLUMNS = (("Paper, mAP@200", "Ours, mAP@all"), ("Paper, Prec@200", "Ours, P@10"))


def _average(parts: list[Row]) -> Row:
    """The mean of rows over the query domains; the paper's average is computed from its rows (it equals the printed one)."""
    def mean(values: list[float | None]) -> float | None:
        return None if None in values else sum(values) / len(values)

    cells = tuple(replace(column[0], specs=(), reported=mean([cell.reported for cell in column])) for column in zip(*(row.cells for row in parts)))
    return Row(parts[0].label, cells, "average", parts[0].mark, tuple(parts))


def table2() -> Table:
    rows = [row for domain in HELD_OUT for row in _method_rows(
        lambda m, domain=domain, **v: multi_domain(m, without(domain), **v),
        lambda specs, m, domain=domain: _cells(specs, "ucdr", domain, BOTH_GALLERIES, "table2", m), domain)]
    kinds = [(row.label, row.mark) for row in rows[:len(rows) // len(HELD_OUT)]]
    rows += [_average([row for row in rows if (row.label, row.mark) == kind]) for kind in kinds]
    return Table("snmpnet", "table2", "UCDR: unseen classes asked from an unseen domain. Trained on the five other domains, gallery Real.",
                 BOTH_COLUMNS, tuple(rows), "Query domain")


def table3() -> Table:
    # The model that never saw sketch is asked from quickdraw, and the other way round, as in the paper.
    rows = [row for domain, held_out in (("quickdraw", "sketch"), ("sketch", "quickdraw")) for row in _method_rows(
        lambda m, held_out=held_out, **v: multi_domain(m, without(held_out), **v),
        lambda specs, m, domain=domain: _cells(specs, "uccdr", domain, BOTH_GALLERIES, "table3", m), domain)]
    return Table("snmpnet", "table3", "UcCDR: unseen classes asked from a trained domain. The same trainings as Table 2.",
                 BOTH_COLUMNS, tuple(rows), "Query domain")


def _udcdr(name: str, domain: str) -> Table:
    rows = _method_rows(lambda m, **v: multi_domain(m, without(domain), **v),
                        lambda specs, m: _cells(specs, "udcdr", domain, ("seen",), name, m), domain)
    return Table("snmpnet", name, f"UdCDR: seen classes asked from the unseen domain {domain}; the gallery are held-out Real images.",
                 ONE_COLUMNS, tuple(rows), "Query domain")


def table4() -> Table:
    return _udcdr("table4", "sketch")


def table7() -> Table:
    return _udcdr("table7", "quickdraw")


def _zero_shot(specs: tuple[TrainSpec, ...], table: str, method: str | None) -> tuple[Cell, ...]:
    return _cells(specs, "zs_sbir", "sketch", ("unseen",), table, method)


NO_LABEL = {"indicator": False}
SAKE = {  # reported key: (label, options)
    "sake_512": ("SAKE, 512", {}),
    "sake_512_eval": ("SAKE, 512, evaluated by SnMpNet's authors", {}),
    "sake_512_nolabel": ("SAKE, 512, w/o label", NO_LABEL),
    "sake_300_nolabel": ("SAKE, 300, w/o label", {**NO_LABEL, "dim": 300}),
}


def _as_published(cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """SAKE's own numbers are of interpolated precision: so are ours in that row, from the same runs as the row below it."""
    return tuple(replace(cell, metric="map_all_voc") if cell.metric == "map_all" else cell for cell in cells)


def table1() -> Table:
    single = {"shared": True}
    other = {"backbone": "efficientnet_lite1"}
    made = {
        "cvae": ("CVAE", "cvae", {}),
        "doodle": ("Doodle to Search", "doodle", {}),
        "doodle_single": ("Doodle, single network", "doodle", {"options": single}),
        "doodle_single_nolabel": ("Doodle, single network, w/o label", "doodle", {"options": {**single, "weight_domain": 0.0}}),
        "doodle_se_single": ("Doodle, single network, other backbone", "doodle", {"options": single, **other}),
        "doodle_se_single_nolabel": ("Doodle, single network, other backbone, w/o label", "doodle", {"options": {**single, "weight_domain": 0.0}, **other}),
        "snmpnet": ("SnMpNet", "snmpnet", {}),
        **{key: (label, "sake", {"options": options}) for key, (label, options) in SAKE.items()},
    }
    order = ("cvae", "doodle", "sake_512", "sake_512_eval", "doodle_single", "doodle_single_nolabel", "doodle_se_single",
             "doodle_se_single_nolabel", "sake_512_nolabel", "sake_300_nolabel", "snmpnet")
    rows = reference_rows(sketchy, lambda specs: _zero_shot(specs, "table1", None))
    for key in order:
        label, method, values = made[key]
        cells = _zero_shot(seeds_of(sketchy(method, **values)), "table1", key)
        rows.append(Row(label, _as_published(cells) if key == "sake_512" else cells))
    return Table("snmpnet", "table1", "Zero-shot sketch-based retrieval on the analogue of Sketchy. The other backbone is SE-ResNet50 "
                 "in the paper (against VGG-16), EfficientNet-Lite1 here (against Lite0).", ONE_COLUMNS, tuple(rows), own="SnMpNet")


def table6() -> Table:
    made = {"sem_pcyc": ("SEM-PCYC", "sem_pcyc", {}), "styleguide": ("StyleGuide", "content_style", {}),
            **{key: (label, "sake", options) for key, (label, options) in SAKE.items()}, "snmpnet": ("SnMpNet", "snmpnet", {})}
    rows = []
    for view in ("tuberlin", "sketchy"):
        def cells(specs, key, view=view):
            return tuple(Cell(specs, "zs_sbir:sketch:unseen", metric,
                              *(printed("snmpnet", table="table6", method=key, dataset=view, metric=theirs) if key else ()))
                         for metric, theirs in (("map_all", "map_all"), ("prec_10", "prec_100")))

        rows += reference_rows(lambda m, view=view: sketch_photo(view, m), lambda specs: cells(specs, None), view)
        for key, (label, method, options) in made.items():
            own = cells(seeds_of(sketch_photo(view, method, options=options)), key)
            rows.append(Row(label, _as_published(own) if key == "sake_512" else own, view, mark_of(method)))
    return Table("snmpnet", "table6", "Zero-shot sketch-based retrieval on the analogues of TU-Berlin and Sketchy.",
                 (("Paper, mAP@all", "Ours, mAP@all"), ("Paper, Prec@100", "Ours, P@10")), tuple(rows), "Data set", own="SnMpNet")


def table5() -> Table:
    def cells(specs, key: str | None = None) -> tuple[Cell, ...]:
        return _zero_shot(specs, "table5", key)

    rows = reference_rows(sketchy, cells)
    rows += [Row(label, cells(seeds_of(sketchy("snmpnet", options=options)), key)) for key, (label, options) in ABLATION.items()]
    rows += [Row(ABLATION[key][0], cells(seeds_of(sketchy("snmpnet", options=ABLATION[key][1], permuted_names=True))), mark="control")
             for key in ("base", "snmpnet")]
    rows += [Row(f"SnMpNet, {label}", cells(seeds_of(sketchy("snmpnet", **values))), mark="switch") for label, values in SWITCHES.items()]
    return Table("snmpnet", "table5", "Ablation, zero-shot sketch-based retrieval on the analogue of Sketchy, and our switches between paper and code.",
                 ONE_COLUMNS, tuple(rows))


# Places where paper, text and code part company, each one switch away from the row "SnMpNet (all)".
SWITCHES = {
    "Euclidean distance (paper)": {"options": {"distance": "euclidean"}},
    "$L_{SN}$ as in the code, $\\lambda_1=1$": {"options": {"sn_form": "code", "lambda_sn": 1.0}},
    "heads in series": {"options": {"heads": "serial"}},
    "no temperature (paper)": {"options": {"temperature": 1.0}},
    "mixing across domains from the start": {"options": {"mixup_step": 0}},
    "class vectors as they come (code)": {"vectors_centred": False, "vectors_normalised": False},
    "sketches inverted (code)": {"invert_domains": ("sketch",)},
}


def table8() -> Table:
    rows = []
    for protocol, domain, other in (("ucdr", "quickdraw", "sketch"), ("ucdr", "sketch", "quickdraw"),
                                    ("uccdr", "sketch", "quickdraw"), ("uccdr", "quickdraw", "sketch")):
        trained = (("real", other), without(domain)) if protocol == "ucdr" else (("real", domain), without(other))
        for train_domains in trained:
            # The paper's file lists the domains in its own order.
            theirs = next(d for d in _trained_sets() if set(d.split("+")) == set(train_domains))
            group = f"{'UCDR' if protocol == 'ucdr' else 'UcCDR'}, {domain}"
            many = f"{len(train_domains)} domains" if len(train_domains) > 2 else " + ".join(train_domains)
            def cells(specs, key=None, protocol=protocol, domain=domain, theirs=theirs):
                return _cells(specs, protocol, domain, BOTH_GALLERIES, "table8", key, train_domains=theirs)

            rows.append(Row(f"SnMpNet, {many}", cells(seeds_of(multi_domain("snmpnet", train_domains)), "snmpnet"), group))
            rows.append(Row(f"SnMpNet, {many}", cells(seeds_of(multi_domain("snmpnet", train_domains, permuted_names=True))), group, "control"))
        rows += reference_rows(lambda m, domains=trained[0]: multi_domain(m, domains), cells, group)
    return Table("snmpnet", "table8", "Effect of more training domains on SnMpNet.", BOTH_COLUMNS, tuple(rows), "Protocol, query domain")


def _trained_sets() -> list[str]:
    rows = reported("snmpnet")
    return sorted(rows[rows.table == "table8"].train_domains.unique())


TABLES = {"table1": table1, "table2": table2, "table3": table3, "table4": table4, "table5": table5, "table6": table6, "table7": table7, "table8": table8}


# ------------------------------------------------------------------------------------------------------------- claims

def claims2() -> list[Claim]:
    """Differences averaged over the five held-out domains, unseen gallery."""
    def average(method: str) -> float:
        values = [reported_value("snmpnet", table="table2", method=method, query_domain=d, gallery="unseen", metric="map_200") for d in HELD_OUT]
        return sum(values) / len(values)

    compared = [("snmpnet", "cumix"), ("snmpnet", "eisnet"), *((m, r) for m in COMPARED for r in ("frozen", "frozen_centred"))]
    return [Claim(
        f"{LABELS[method]} − {LABELS[other]}", average(method) - average(other) if other in COMPARED else None,
        tuple(Pair(folds_of(multi_domain(method, without(d))), folds_of(multi_domain(other, without(d))), f"ucdr:{d}:unseen") for d in HELD_OUT),
    ) for method, other in compared]


def claims5() -> list[Claim]:
    """Differences along the ablation."""
    value = {key: reported_value("snmpnet", table="table5", method=key, metric="map_200") for key in ABLATION}
    specs = {key: folds_of(sketchy("snmpnet", options=options)) for key, (_, options) in ABLATION.items()}
    pairs = [("base+sn_k0", "base"), ("base+sn", "base"), ("base+sn", "base+sn_k0"), ("base+mixce", "base"), ("base+mixce+sn", "base+mixce"),
             ("snmpnet", "base+mixce+sn"), ("snmpnet", "base")]
    asked = "zs_sbir:sketch:unseen"
    result = [Claim(f"{ABLATION[a][0]} − {ABLATION[b][0]}", value[a] - value[b], (Pair(specs[a], specs[b], asked),)) for a, b in pairs]
    result += [Claim(f"{ABLATION[key][0]} − {LABELS[reference]}", None, (Pair(specs[key], folds_of(sketchy(reference)), asked),))
               for key in ("base", "snmpnet") for reference in ("frozen", "frozen_centred")]
    return result


CLAIMS = {"table2": claims2, "table5": claims5}


def kappa_specs() -> dict[float, tuple[TrainSpec, ...]]:
    """Figure 4: Base N/W + L_SN for each kappa."""
    return {kappa: seeds_of(sketchy("snmpnet", options={**ABLATION["base+sn"][1], "kappa": kappa})) for kappa in KAPPAS}


def figure_specs() -> list[TrainSpec]:
    return [s for specs in kappa_specs().values() for s in specs]
