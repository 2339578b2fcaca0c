"""Real pictures in four domains: UCDR on PACS, 9,991 photos, paintings, cartoons and sketches of seven classes.

One domain is left out of training and asks; two of the seven classes are unseen.  All 21 choices of two classes in each of the four
hold-outs.  With seven classes none is left to validate on, so every training runs a number of epochs that was fixed before the first
run, and nothing is selected.  The pictures may not be redistributed: the page is made from committed records (`records/pacs.json`);
where the pictures are, `ucdr reproduce --paper pacs` makes the runs anew and `python -m ucdr_core.papers.pacs` the file.
"""
from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import numpy as np

from .. import paths
from ..data.splits import PACS
from ..runs import Store, TrainSpec
from . import Listing, write_records
from .embedded import DEFAULTS, MARKS, defaults

RECORDS = paths.PACKAGE / "papers" / "records" / "pacs.json"
DOMAINS = ("art_painting", "cartoon", "photo", "sketch")
METHODS = ("frozen", "frozen_centred", "eisnet", "cumix", "snmpnet")  # SnMpNet's Table 2, and the reference rows
EPOCHS = 10
CHOICES = tuple(combinations(PACS, 2))
# Where three seeds and a second precision are compared, with the last blocks of the trunk trained too: minutes a run on a CPU.
PRECISION_CHOICE, PRECISION_EPOCHS = ("giraffe", "guitar"), 3


def gallery_of(held_out: str) -> str:
    """Photos are searched; where photos are left out, paintings are."""
    return "art_painting" if held_out == "photo" else "photo"


def asked(held_out: str) -> str:
    return f"ucdr:{held_out}:unseen"


def spec(method: str, held_out: str, unseen: tuple[str, str], seed: int = 0, precision: str = "float32", regime: str = "frozen",
         epochs: int = EPOCHS) -> TrainSpec:
    values = {**defaults(method, real=True), "precision": precision, "regime": regime}
    if "recipe" in values:
        values["recipe"] = {**values["recipe"], "selection": "last", "epochs": epochs}
    return TrainSpec.from_mapping({
        "method": method, **values, "dataset": "pacs", "split": "pacs_without_" + "_".join(unseen), "seed": seed,
        "train_domains": [d for d in DOMAINS if d != held_out], "gallery_domain": gallery_of(held_out)})


def specs() -> dict[str, dict[tuple, TrainSpec]]:
    """{table: {what distinguishes the run: spec}}."""
    every = {(m, d, c, 0): spec(m, d, c) for m in METHODS for d in DOMAINS for c in CHOICES}
    precisions = {(precision, d, PRECISION_CHOICE, seed): spec("snmpnet", d, PRECISION_CHOICE, seed, precision, "last-blocks", PRECISION_EPOCHS)
                  for precision, seeds in (("float32", (0, 1, 2)), ("bfloat16", (0,))) for d in DOMAINS for seed in seeds}
    return {"main": every, "precision": precisions}


def figure_specs() -> list[TrainSpec]:
    return [one for table in specs().values() for one in table.values()]


# ------------------------------------------------------------------------------------------------------------- records

def collected(store: Store) -> dict[str, Any]:
    """Of each run its spec, scores of the question asked, counts, and circumstances."""
    content: dict[str, Any] = {"first": None}
    for table, own in specs().items():
        content[table] = []
        for name, one in own.items():
            record, question = store.need(one), asked(name[1])
            content["first"] = content["first"] or {"spec": {k: v for k, v in one.mapping().items() if k != "data_root"}, "data": record.result["data"],
                                                    "code": record.result["code"], "circumstances": record.circumstances}
            content[table].append({
                "is": [*name[:2], list(name[2]), name[3]], "key": record.key, "code": record.result["code"], "scores": {k: round(v, 6) for k, v in record.scores(question).items()},
                "counts": record.result["counts"][question], "seconds": record.circumstances["seconds"]})
    return content


def committed() -> dict[str, Any]:
    return json.loads(RECORDS.read_text())


def scores(table: str, metric: str = "map_all") -> dict[tuple, float]:
    """{what distinguishes the run: score} from the committed records."""
    return {(own["is"][0], own["is"][1], tuple(own["is"][2]), own["is"][3]): own["scores"][metric] for own in committed()[table]}


# -------------------------------------------------------------------------------------------------------------- tables

def main_table() -> Listing:
    """Mean over the 21 choices of unseen classes, and how far the choices lie apart."""
    from ..statistics import bootstrap
    from ..tables import LEGENDS, SYMBOLS

    score = scores("main")

    def of(method: str, domain: str) -> np.ndarray:
        return np.array([score[method, domain, choice, 0] for choice in CHOICES])

    frozen = np.mean([of("frozen", domain) for domain in DOMAINS], axis=0)
    rows = []
    for method in METHODS:
        average = np.mean([of(method, domain) for domain in DOMAINS], axis=0)
        difference = ""
        if method != "frozen":
            low, high = bootstrap((average - frozen)[:, None])[:2]
            difference = f"{(average - frozen).mean():+.3f} ({low:+.3f} to {high:+.3f})"
        rows.append((DEFAULTS[method].label + SYMBOLS[MARKS.get(method, "")], *(f"{of(method, d).mean():.3f} ± {of(method, d).std(ddof=1):.3f}" for d in DOMAINS),
                     f"{average.mean():.3f}", difference))
    return Listing("pacs", "main", "UCDR on PACS: the domain of the column is left out of training and asks, two of seven classes are unseen. mAP@all, mean and "
                   f"standard deviation over all {len(CHOICES)} choices of the two; with two classes in the gallery a random ranking has about a half. {LEGENDS['transductive']}",
                   ("Method", *(f"{d} → {gallery_of(d)}" for d in DOMAINS), "mean", "less frozen (95%, over choices)"), tuple(rows), provenance())


def precision_table() -> Listing:
    """The same seed in two precisions, beside the spread of seeds."""
    score = scores("precision")
    rows, all_apart, all_seeds = [], [], []
    for domain in DOMAINS:
        seeds = np.array([score["float32", domain, PRECISION_CHOICE, seed] for seed in (0, 1, 2)])
        rounded = score["bfloat16", domain, PRECISION_CHOICE, 0]
        apart, between = abs(rounded - seeds[0]), np.abs(seeds[1:] - seeds[0])
        all_apart.append(apart)
        all_seeds.append(between)
        rows.append((f"{domain} → {gallery_of(domain)}", f"{seeds[0]:.4f}", f"{rounded:.4f}", f"{apart:.4f}", f"{between.mean():.4f}", f"{between.max():.4f}"))
    rows.append(("all four", "", "", f"{np.mean(all_apart):.4f}", f"{np.mean(all_seeds):.4f}", f"{np.max(all_seeds):.4f}"))
    return Listing("pacs", "precision", f"SnMpNet, mAP@all, {' and '.join(PRECISION_CHOICE)} unseen, regime last-blocks: the last blocks of the trunk are trained too. Seed 0 in float32 and with the trunk in bfloat16, and how far the two, "
                   "and two seeds in float32, lie apart.",
                   ("Left out", "float32", "bfloat16", "precisions: difference", "seeds: mean difference", "largest"), tuple(rows), provenance("precision"))


def provenance(table: str = "main") -> str:
    content = committed()
    first, own = content["first"], content[table]
    spec, regime = first["spec"], "last-blocks" if table == "precision" else "frozen"
    return (f"Committed records of {len(own)} runs: PACS ({first['data']['fingerprint']}, {first['data']['images']:,} pictures), {spec['backbone']}, regime {regime}, "
            f"{spec['size_px']} px, {EPOCHS if table == 'main' else PRECISION_EPOCHS} epochs, no selection; seed{'' if table == 'main' else 's'} {', '.join(map(str, sorted({o['is'][3] for o in own})))}; "
            f"made {first['circumstances']['finished'][:10]} on a {first['circumstances']['device_kind']} in {sum(o['seconds'] for o in own) / 60:.0f} minutes of runs. "
            "Where the pictures are, `ucdr reproduce --paper pacs` trains them anew.")


TABLES = {"main": main_table, "precision": precision_table}
CLAIMS: dict = {}


def main() -> None:
    """Writes the committed file from the runs of this machine."""
    write_records(RECORDS, collected(Store()), "is")


if __name__ == "__main__":
    main()
