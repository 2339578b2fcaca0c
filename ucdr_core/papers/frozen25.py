"""Frozen features on real photos and sketches (`sketchy25`): ImageNet trunks at their own size, CLIP and DINOv2, with and without mending.

The table is made from committed records (`records/frozen25.json`).  Where the pictures are, `ucdr reproduce --paper frozen25` makes the
runs, of CLIP and DINOv2 too where their weights can be downloaded, and `python -m ucdr_core.papers.frozen25` the file.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .. import paths
from ..backbones import BACKBONES
from ..runs import Store, TrainSpec
from . import Listing, sketchy25, write_records
from .embedded import DEFAULTS, MARKS, defaults
from .modern import FIXES

RECORDS = paths.PACKAGE / "papers" / "records" / "frozen25.json"
TRUNKS = {
    "efficientnet_lite0": "EfficientNet-Lite0", "efficientnet_lite1": "EfficientNet-Lite1", "efficientnet_lite2": "EfficientNet-Lite2",
    "vgg16": "VGG-16", "se_resnet50": "SE-ResNet50", "dinov2_vit_s14": "DINOv2 ViT-S/14", "dinov2_vit_b14": "DINOv2 ViT-B/14", "clip_vit_b32": "CLIP ViT-B/32",
    "clip_vit_b16": "CLIP ViT-B/16",
}
SIZES = {"efficientnet_lite0": (128, 224), "efficientnet_lite1": (240,), "efficientnet_lite2": (260,)}  # others: their own


def specs(data_root: Path | str | None = None) -> dict[tuple[str, int, str], TrainSpec]:
    """{(trunk, size in px, method): its run}."""
    root = str(data_root or paths.data("sketchy25"))
    return {(trunk, size, method): TrainSpec.from_mapping({
        "method": method, **defaults(method, real=True), "dataset": "folders", "data_root": root, "split": sketchy25.SPLIT, "train_domains": ["sketch", "photo"],
        "gallery_domain": "photo", "backbone": trunk, "size_px": size}) for trunk in TRUNKS for size in SIZES.get(trunk, (BACKBONES[trunk].size_px,)) for method in FIXES}


def collected(store: Store, data_root: Path | str | None = None) -> dict[str, Any]:
    """What is committed of the runs that there are: scores, two metrics per query, counts and circumstances."""
    content: dict[str, Any] = {"runs": []}
    for (trunk, size, method), spec in specs(data_root).items():
        if not store.folder(spec).exists():
            continue
        record = store.need(spec)
        content["runs"].append({
            "is": [trunk, size, method], "key": record.key, "code": record.result["code"], "data": record.result["data"], "scores": {k: round(v, 6) for k, v in record.scores(sketchy25.ASKED).items()},
            "counts": record.result["counts"][sketchy25.ASKED], "map_all": np.round(record.per_query(sketchy25.ASKED, "map_all"), 4).tolist(),
            "finished": record.circumstances["finished"], "device": record.circumstances["device_kind"]})
    return content


def committed() -> list[dict[str, Any]]:
    return json.loads(RECORDS.read_text())["runs"]


def main_table() -> Listing:
    """Every trunk plain, centred and whitened; those without a record are said to be not run; the best trained methods of sketchy25 below."""
    from ..statistics import bootstrap
    from ..tables import LEGENDS, SYMBOLS

    runs = {tuple(own["is"]): own for own in committed()}
    rows = []
    for trunk, label in TRUNKS.items():
        for size in SIZES.get(trunk, (BACKBONES[trunk].size_px,)):
            plain = runs.get((trunk, size, "frozen"))
            if plain is None:
                rows.append((label, f"{size}", "all three", "not run", "not run", ""))
                continue
            for method in FIXES:
                own, title = runs[trunk, size, method], DEFAULTS[method].label + SYMBOLS[MARKS.get(method, "")]
                less = ""
                if method != "frozen":
                    difference = np.array(own["map_all"]) - np.array(plain["map_all"])
                    low, high = bootstrap(difference[None])[:2]
                    less = f"{difference.mean():+.3f} ({low:+.3f} to {high:+.3f})"
                rows.append((label, f"{size}", title, f"{own['scores']['map_all']:.3f}", f"{own['scores']['prec_10']:.3f}", less))
    trained = {label: (sketchy25.values_of("map_all")[label].mean(), sketchy25.values_of("prec_10")[label].mean()) for label in sketchy25.values_of("map_all")}
    for label in sorted(trained, key=lambda name: -trained[name][0])[:3]:
        rows.append(("EfficientNet-Lite0, trained", "128", label, f"{trained[label][0]:.3f}", f"{trained[label][1]:.3f}", ""))
    return Listing("frozen25", "main", "Frozen features on real photos and sketches: unseen classes of Sketchy, 25 pictures of each, asked from sketches; the three best trained "
                   f"methods of the same data below, from the records of the table of real pictures. {LEGENDS['transductive']} The trunks have seen photographs of most of these classes in their own training.",
                   ("Trunk", "px", "Features", "mAP@all", "P@10", "less plain (95%, over queries)"), tuple(rows), provenance())


def provenance() -> str:
    runs = committed()
    made = sorted(own["finished"][:10] for own in runs)
    return (f"Committed records of {len(runs)} runs: sketchy25 ({runs[0]['data']['fingerprint']}), split {sketchy25.SPLIT}, {runs[0]['counts']['queries']} sketches ask "
            f"{runs[0]['counts']['gallery']} photos; float32; runs {runs[0]['key']}, {runs[1]['key']} and {len(runs) - 2} more; made {made[0]} on a {runs[0]['device']}. "
            "'Not run': Lite1 and Lite2 at their own size for want of time, the others because their weights could not be downloaded where this edition was made; "
            "`ucdr reproduce --paper frozen25` runs them.")


TABLES = {"main": main_table}
CLAIMS: dict = {}


def figure_specs() -> list[TrainSpec]:
    return list(specs().values())


def main() -> None:
    """Writes the committed file from the runs of this machine."""
    write_records(RECORDS, collected(Store()), "is")


if __name__ == "__main__":
    main()
