"""Where the field went: stronger features without training, what mends them without training, and what later papers print."""
from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from ..runs import TrainSpec
from . import Cell, Listing, Row, Table, reported, seeds_of
from .embedded import DEFAULTS, MARKS, sketch_photo

BACKBONES = {"efficientnet_lite0": "Lite0", "efficientnet_lite1": "Lite1", "efficientnet_lite2": "Lite2"}  # whose weights ship as packages
FIXES = ("frozen", "frozen_centred", "frozen_whitened")
TRAINED = ("snmpnet", "eisnet")  # on Lite0, for comparison
VIEW = "sketchy"
ASKED = "zs_sbir:sketch:unseen"


def embedded() -> Table:
    """Three trunks, each plain, less the mean of its side, and whitened; two trained methods below."""
    def cells(method: str, **values) -> tuple[Cell, ...]:
        return tuple(Cell(seeds_of(sketch_photo(VIEW, method, **values)), ASKED, metric) for metric in ("map_all", "prec_10"))

    rows = [Row(DEFAULTS[method].label, cells(method, backbone=backbone), label, MARKS.get(method, "")) for backbone, label in BACKBONES.items() for method in FIXES]
    rows += [Row(DEFAULTS[method].label, cells(method), "Lite0, trained") for method in TRAINED]
    return Table("modern", "embedded", "Frozen ImageNet features of three sizes of one family, at 96 px, and what mends them without training. Analogue of Sketchy.",
                 (("", "mAP@all"), ("", "P@10")), tuple(rows), "Trunk")


VARIANTS = {
    "map_all": "mean of all precisions (code)", "map_all_voc": "interpolated (code)", "map_200": "divided by hits (code)", "map_200_voc": "interpolated, by min(200, R) (code)",
    "?": "not stated", "?, not strict": "not stated, not by min(200, R): it lies above its own P@200"}


def later(dataset: str, metric: str, protocol: str = "ZS-SBIR") -> Listing:
    """Printed numbers of later papers on one data set by one metric, grouped by split and by the definition of the metric; never ours."""
    rows = reported("later")
    rows = rows[(rows.dataset == dataset) & (rows.metric == metric) & (rows.protocol == protocol)]
    rows = rows[~rows.method.str.contains("hash")].assign(definition=rows.variant.map(VARIANTS))
    rows = rows.sort_values(["split", "query_domain", "definition", "value"], ascending=[True, True, True, False])
    lines = []
    for _, own in rows.iterrows():
        backbone = "" if pd.isna(own.backbone) else own.backbone
        group = own.split + ("" if protocol == "ZS-SBIR" else f"; {own.query_domain}")
        lines.append((group, own.definition, own.method, str(own.year), backbone, f"{own.value:.3f}", own.quoted_from))
    return Listing("modern", f"later-{dataset.split('-')[0].lower()}-{metric.lower().replace('@', '')}",
                   f"What later papers print on {dataset}, unseen classes, {metric}. Quoted, not reproduced. Compare within one split and one definition only.",
                   ("Split", "Definition", "Method", "Year", "Backbone", metric, "Quoted from"), tuple(lines),
                   "Numbers as printed in the places of the last column (`ucdr_core/papers/reported/later.csv`); no run of ours is in this table.")


def _later(*arguments: str) -> Callable[[], Listing]:
    return lambda: later(*arguments)


TABLES = {
    "embedded": embedded, "later-sketchy-map200": _later("Sketchy-Extended", "mAP@200"), "later-tu-mapall": _later("TU-Berlin-Extended", "mAP@all"),
    "later-quickdraw-mapall": _later("QuickDraw-Extended", "mAP@all"), "later-domainnet-map200": _later("DomainNet", "mAP@200", "UCDR"),
}
CLAIMS: dict = {}


def figure_specs() -> list[TrainSpec]:
    return []
