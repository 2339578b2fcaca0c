"""Where the field went: stronger features without training, what mends them without training, and what later papers
print."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from ucdr_core.chapters.common import ZERO_SHOT
from ucdr_core.chapters.reported import reported
from ucdr_core.chapters.systems import DEFAULTS, MARKS
from ucdr_core.chapters.tiers import Tier
from ucdr_core.evidence.rows import METRIC_TITLES, Cell, Listing, Row, Table
from ucdr_core.methods.backbones import BACKBONES

TRUNKS = {
    "efficientnet_lite0": "EfficientNet-Lite0",
    "efficientnet_lite1": "EfficientNet-Lite1",
    "efficientnet_lite2": "EfficientNet-Lite2",
    "vgg16": "VGG-16",
    "se_resnet50": "SE-ResNet50",
    "dinov2_vit_s14": "DINOv2 ViT-S/14",
    "dinov2_vit_b14": "DINOv2 ViT-B/14",
    "clip_vit_b32": "CLIP ViT-B/32",
    "clip_vit_b16": "CLIP ViT-B/16",
}
PACKAGED = tuple(TRUNKS)[:3]  # their weights ship as packages
SIZES = {"efficientnet_lite0": (128, 224)}  # px on pictures that are large enough; others at their own
FIXES = ("frozen", "frozen_centred", "frozen_whitened")
TRAINED = ("snmpnet", "eisnet")  # on the tier's own trunk, for comparison
VIEW = "sketchy"


def trunks(tier: Tier) -> Table:
    """Every trunk plain, less the mean of its side, and whitened; two trained methods below."""

    def cells(method: str, **values) -> tuple[Cell, ...]:
        return tuple(Cell(tier.runs(method, VIEW, **values), ZERO_SHOT, metric) for metric in ("map_all", "prec_10"))

    small = tier.name == "embedded"  # pictures of 96 px, and trunks whose weights ship
    rows = []
    for trunk in PACKAGED if small else tuple(TRUNKS):
        for size in (None,) if small else SIZES.get(trunk, (BACKBONES[trunk].size_px,)):
            values = {"backbone": trunk} if size is None else {"backbone": trunk, "size_px": size}
            group = TRUNKS[trunk] + (f", {size} px" if size else "")
            rows += [
                Row(DEFAULTS[method].label, cells(method, **values), group, MARKS.get(method, "")) for method in FIXES
            ]
    rows += [Row(DEFAULTS[method].label, cells(method), "trained") for method in TRAINED]
    return Table(
        "modern",
        "trunks",
        "Frozen features of ImageNet trunks, CLIP and DINOv2, and what mends them without training, on Sketchy. "
        "The trunks have seen photographs of most of these classes in their own training.",
        tuple(("", METRIC_TITLES[metric]) for metric in ("map_all", "prec_10")),
        tuple(rows),
        "Trunk",
    )


VARIANTS = {
    "map_all": "mean of all precisions (code)",
    "map_all_voc": "interpolated (code)",
    "map_200": "divided by hits (code)",
    "map_200_voc": "interpolated, by min(200, R) (code)",
    "?": "not stated",
    "?, not strict": "not stated, not by min(200, R): it lies above its own P@200",
}


def later(dataset: str, metric: str, protocol: str = "ZS-SBIR") -> Listing:
    """Printed numbers of later papers on one data set by one metric, grouped by split and by the definition of the
    metric; never ours."""
    rows = reported("modern")
    rows = rows[(rows.dataset == dataset) & (rows.metric == metric) & (rows.protocol == protocol)]
    rows = rows[~rows.method.str.contains("hash")].assign(definition=rows.variant.map(VARIANTS))
    rows = rows.sort_values(["split", "query_domain", "definition", "value"], ascending=[True, True, True, False])
    lines = []
    for _, row in rows.iterrows():
        backbone = "" if pd.isna(row.backbone) else row.backbone
        group = row.split + ("" if protocol == "ZS-SBIR" else f"; {row.query_domain}")
        lines.append((group, row.definition, row.method, str(row.year), backbone, f"{row.value:.3f}", row.quoted_from))
    return Listing(
        "modern",
        f"later-{dataset.split('-')[0].lower()}-{metric.lower().replace('@', '')}",
        f"What later papers print on {dataset}, unseen classes, {metric}. Quoted, not reproduced. Compare "
        f"within one split and one "
        "definition only.",
        ("Split", "Definition", "Method", "Year", "Backbone", metric, "Quoted from"),
        tuple(lines),
        "Numbers as printed in the places of the last column (`ucdr_core/chapters/modern/reported.csv`); no "
        "run of ours is in this table.",
    )


def _later(*arguments: str) -> Callable[[Tier], Listing]:
    return lambda tier: later(*arguments)


TABLES = {
    "trunks": trunks,
    "later-sketchy-map200": _later("Sketchy-Extended", "mAP@200"),
    "later-tu-mapall": _later("TU-Berlin-Extended", "mAP@all"),
    "later-quickdraw-mapall": _later("QuickDraw-Extended", "mAP@all"),
    "later-domainnet-map200": _later("DomainNet", "mAP@200", "UCDR"),
}
CLAIMS: dict = {}
