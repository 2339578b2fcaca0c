"""Real photos and sketches: the four papers' methods on `sketchy25`, 25 photos and 25 sketches of each of the 125 classes of Sketchy.

The pictures may not be redistributed, so the book's table is made from committed records (`records/sketchy25.json`); where the pictures
are, under $UCDR_DATA/sketchy25, `ucdr reproduce --paper sketchy25` makes the runs anew and `python -m ucdr_core.papers.sketchy25` the file.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from .. import paths
from ..data.manifest import DataError
from ..runs import RunRecord, Store, TrainSpec
from . import Listing, seeds_of, write_records
from .embedded import SYSTEMS, mark_of_system, system

ASKED = "zs_sbir:sketch:unseen"
SPLIT = "sketchy_yelamarthi"
RECORDS = paths.PACKAGE / "papers" / "records" / "sketchy25.json"
SHOWN = 8  # Figure 4 of Doodle to Search shows so many
PER_QUERY = ("map_all", "prec_10")  # committed with the records


def specs(data_root: Path | str | None = None) -> dict[str, tuple[TrainSpec, ...]]:
    """The trainings of each row, one a seed.  Raises DataError where the pictures are missing."""
    root = Path(data_root) if data_root else paths.data("sketchy25")
    if not (root / "sketch").is_dir():
        raise DataError(f"there is no sketchy25 at {root}: lay out the first 25 photos and sketches of each Sketchy class as "
                        f"<root>/<photo|sketch>/<class>/<file>, and set UCDR_DATA to the folder above it")
    made = {}
    for label in SYSTEMS:
        made[label] = seeds_of(TrainSpec.from_mapping({
            **system(label, real=True), "dataset": "folders", "data_root": str(root), "split": SPLIT, "train_domains": ["sketch", "photo"], "gallery_domain": "photo"}))
    return made


# ------------------------------------------------------------------------------------------------------------- records

def collected(store: Store, data_root: Path | str | None = None) -> dict[str, Any]:
    """What is committed of the runs: each record as it was written, two metrics per query, and what is confused with what."""
    content: dict[str, Any] = {"rows": {}, "confusions": {}}
    for label, own in specs(data_root).items():
        records = [store.need(spec) for spec in own]
        content["rows"][label] = [
            {**{k: v for k, v in json.loads((record.folder / "record.json").read_text()).items() if k != "spec"},
             "spec": {k: v for k, v in record.spec.mapping().items() if k != "data_root"},
             **{metric: np.round(record.per_query(ASKED, metric), 4).tolist() for metric in PER_QUERY}} for record in records]
        if label in ("Frozen features", "Doodle to Search"):
            content["confusions"][label] = confusions(records[0])
    return content


def confusions(record: RunRecord) -> dict[str, dict[str, float]]:
    """{class of the query: {class: its share of the first 8}}, the four largest shares of each, over all queries of the class."""
    from ..figures import nearest

    task, labels = record.task(ASKED), record.spec.manifest().samples.class_name.to_numpy()
    first = labels[task.gallery[nearest(record, task.query, ASKED)[:, :SHOWN]]]
    result = {}
    for name in sorted(set(labels[task.query])):
        found, counts = np.unique(first[labels[task.query] == name], return_counts=True)
        largest = np.argsort(-counts, kind="stable")[:4]
        result[str(name)] = {str(found[i]): round(float(counts[i] / counts.sum()), 4) for i in largest}
    return result


def committed() -> dict[str, Any]:
    return json.loads(RECORDS.read_text())


# -------------------------------------------------------------------------------------------------------------- tables

def main_table() -> Listing:
    """Each method on real pictures, mean and spread over seeds, and its difference to frozen features."""
    from ..tables import LEGENDS, SYMBOLS

    rows, reference = [], None
    content = committed()["rows"]
    for label, records in content.items():
        scores = {metric: np.array([record["result"]["scores"][ASKED][metric] for record in records]) for metric in ("map_all", "map_200", "prec_10")}
        per_query = np.array([record["map_all"] for record in records])
        reference = per_query if label == "Frozen features" else reference
        cells = [f"{own.mean():.3f}" + (f" ± {own.std(ddof=1):.3f}" if len(own) > 1 else "") for own in scores.values()]
        rows.append((label + SYMBOLS[mark_of_system(label)], *cells, _difference(per_query, reference) if reference is not None and label != "Frozen features" else ""))
    legend = " ".join(LEGENDS[mark] for mark in ("transductive", "spirit"))
    return Listing("sketchy25", "main", f"Real photos and sketches, 25 per class: unseen classes of Sketchy asked from sketches. {legend}", ("Method", "mAP@all", "mAP@200", "P@10", "mAP@all less frozen (95%)"), tuple(rows), provenance())


def provenance() -> str:
    """One line: data, split, regime, precision, seeds, and when and on what the committed records were made."""
    content = committed()["rows"]
    first = next(iter(content.values()))[0]
    counts = first["result"]["counts"][ASKED]
    made = sorted({record["circumstances"]["finished"][:10] for records in content.values() for record in records})
    return (f"Committed records: sketchy25 ({first['result']['data']['fingerprint']}), split {SPLIT}, {counts['queries']} sketches ask {counts['gallery']} photos of "
            f"21 unseen classes; {first['spec']['backbone']}, regime {first['spec']['regime']}, {first['spec']['precision']}, {first['spec']['size_px']} px; seeds 0, 1, 2; "
            f"made {made[0]}{' to ' + made[-1] if len(made) > 1 else ''} on a {first['circumstances']['device_kind']}. Where the pictures are, "
            "`ucdr reproduce --paper sketchy25` trains them anew and `make real` compares.")


def values_of(metric: str) -> dict[str, np.ndarray]:
    """{label: (seeds, queries)} from the committed records."""
    return {label: np.array([record[metric] for record in records], np.float64) for label, records in committed()["rows"].items()}


def _difference(own: np.ndarray, other: np.ndarray, draws: int = 2000) -> str:
    """Bootstrap over seeds and queries."""
    from ..statistics import bootstrap

    differences = own - other.mean(0)
    low, high = bootstrap(differences, draws)[:2]
    return f"{differences.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def confusion_table() -> Listing:
    """The confusions that Doodle to Search discusses, and every class's largest, on real pictures."""
    content = committed()["confusions"]
    rows = []
    for name in next(iter(content.values())):
        cells = [name]
        for own in content.values():
            wrong = [f"{other} {share:.2f}" for other, share in own[name].items() if other != name][:2]
            cells += [f"{own[name].get(name, 0.0):.2f}", ", ".join(wrong)]
        rows.append(tuple(cells))
    header = ("Query", *(f"{label}: {what}" for label in content for what in ("right", "taken for")))
    return Listing("sketchy25", "confusions", f"What the first {SHOWN} photos show, over all sketches of an unseen class: share of the right class, and the two "
                   "classes that are most often retrieved instead.", header, tuple(rows), "Committed records of seed 0, as in the table before.")


TABLES = {"main": main_table, "confusions": confusion_table}
CLAIMS: dict = {}


def figure_specs() -> list[TrainSpec]:
    return [spec for own in specs().values() for spec in own]


def main() -> None:
    """Writes the committed file from the runs of this machine."""
    write_records(RECORDS, collected(Store()), "key")


if __name__ == "__main__":
    main()
