"""What the tables of tier paper take: counted from their specs and the published counts, in hours at a rate that a
machine has or is said to have.

Nothing here was timed on a GPU by this book.  `ucdr bench train` gives your machine's rate.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from ucdr_core import chapters
from ucdr_core.chapters import paper_recipes
from ucdr_core.chapters.tiers import TIERS, Tier
from ucdr_core.data import splits
from ucdr_core.data.published import PUBLISHED
from ucdr_core.evidence.rows import Listing
from ucdr_core.methods import METHODS, Batch, backbones, from_mapping
from ucdr_core.methods.base import FullyConnected
from ucdr_core.training.spec import TrainSpec

# Images per second of a training step on one RTX 3090 (automatic mixed precision, channels_last), as timm's published
# benchmark has them; VGG's batch-normalised twin is taken as VGG.
RATES = {"se_resnet50": 1004, "vgg16": 546, "vgg16_bn": 546}
OTHER_RATE = 500  # of trunks that this book has no published rate of
FORWARD = 3  # an embedding costs about a third of a training step
# Epochs until a run stops, for the estimate: Doodle's paper says about 40; SnMpNet's rate is down to 1/1000 after 20;
# the others are ours.
EPOCHS = {"doodle": 40, "snmpnet": 25, "eisnet": 25, "cumix": 25, "sake": 20, "stl": 30, "simple": 15}
OTHERS = 20
PACK_PX = 224


@dataclass(frozen=True)
class Cost:
    """Of one run: images through the trunk in training and in validation and test (forwards)."""

    trained: float
    embedded: float
    backbone: str

    def hours(self, rates: dict[str, float]) -> float:
        return (self.trained + self.embedded / FORWARD) / rates.get(self.backbone, OTHER_RATE) / 3600


def cost(spec: TrainSpec) -> Cost:
    """An estimate from published counts, taking classes to be of equal size."""
    known = PUBLISHED[spec.dataset]
    split = splits.load(spec.split)
    classes = len(split.train) + len(split.val) + len(split.test)
    share = {part: len(getattr(split, part)) / classes for part in ("train", "val", "test")}
    domains = spec.train_domains
    trains_trunk = spec.regime != "frozen" and METHODS[spec.method].trained
    everything = sum(known.counts.values())
    if not trains_trunk:
        return Cost(0.0, everything, spec.backbone)
    counts = np.array([known.counts[d] for d in domains]) * share["train"]
    queries = sum(known.counts[d] for d in domains if d != spec.gallery_domain)
    kind = METHODS[spec.method].batches
    if kind == "domains":
        epoch = counts.min() * len(domains)
    else:
        sketches = sum(known.counts[d] for d in domains if d != spec.gallery_domain) * share["train"]
        epoch = sketches * ({"triplets": 3, "pairs": 2}[kind] + METHODS[spec.method].wants_unlabelled)
    epochs = EPOCHS.get(spec.method, OTHERS)
    return Cost(
        epoch * epochs, (queries + known.counts[known.gallery]) * (share["val"] * epochs + share["test"]), spec.backbone
    )


def memory_gb(spec: TrainSpec) -> float:
    """Device memory of a training step, counted, not measured: weights, gradients and optimiser state, and what the
    forward pass keeps.

    One step on PyTorch's meta device, where tensors have sizes and no values; kept tensors of a trunk that computes in
    bfloat16 count half.  Workspaces of the convolutions and the pixels that stay on the device come on top.
    """
    if spec.regime == "frozen" or not METHODS[spec.method].trained:
        return 0.0
    split = splits.load(spec.split)
    # STL's reading with photos as anchors draws them by pseudo-labels, so it reads values; its tensors are those of the
    # other reading.
    options = {**spec.options, **({"anchors": "sketches"} if "anchors" in spec.options else {})}
    return _counted(
        spec.method,
        spec.backbone,
        json.dumps(options),
        spec.recipe["batch_size"],
        spec.recipe["optimiser"],
        spec.size_px,
        spec.embedding_dim,
        len(split.train),
        len(split.val) + len(split.test),
        len(spec.train_domains),
    )


@cache
def _counted(
    method: str,
    backbone: str,
    options: str,
    size: int,
    optimiser: str,
    size_px: int,
    words: int,
    seen: int,
    unseen: int,
    domains: int,
) -> float:
    cls = METHODS[method]
    chosen = from_mapping(cls.Options, json.loads(options), method)
    with torch.device("meta"):
        trunk = backbones.trunk(backbone, "random")
        extra = {"unseen_vectors": torch.empty(unseen, words)} if cls.wants_unlabelled else {}
        extra |= {"teacher": trunk.classifier()} if cls.wants_teacher else {}
        extra |= (
            {"layers": FullyConnected(trunk.fully_connected())} if getattr(chosen, "fully_connected", False) else {}
        )
        model = cls(trunk.split("finetune")[1], trunk.channels, torch.empty(seen, words), chosen, **extra).train()
    random = np.random.default_rng(0)
    model.draw_with(random)
    if cls.batches == "domains":
        blocks = [size // domains] * domains
        photos = np.repeat(np.arange(domains) == domains - 1, blocks)
    else:
        blocks = [size] * ({"triplets": 3, "pairs": 2}[cls.batches] + model.wants_unlabelled)
        photos = np.repeat(np.arange(len(blocks)) > 0, blocks)
    pixels = torch.empty(sum(blocks), 3, size_px, size_px, device="meta")
    labels = torch.empty(sum(blocks), dtype=torch.int64, device="meta")
    batch = Batch(
        pixels,
        labels,
        torch.from_numpy(photos),
        torch.from_numpy(np.repeat(np.arange(len(blocks)), blocks)),
        pixels,
        labels,
        epoch=5,
    )
    weights = {value.untyped_storage()._cdata for value in model.parameters()}
    kept: dict[int, object] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        loss = sum(model.losses(batch, random).values())
    activations = sum(storage.nbytes() for storage in kept.values()) / 2
    del loss
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad) * 4
    return (
        sum(value.numel() for value in model.parameters()) * 4
        + trained * (3 if optimiser == "adam" else 2)
        + activations
    ) / 1e9


def pack_gb(dataset: str, size_px: int = PACK_PX) -> float:
    """Of the decoded cache."""
    return sum(PUBLISHED[dataset].counts.values()) * size_px**2 * 3 / 1e9


def tables_of_paper() -> list[tuple[str, str, list[TrainSpec]]]:
    """(paper, table, its runs of tier paper with those that feed them)."""
    tier, result = TIERS["paper"], []
    for paper in (*chapters.PAPERS, *chapters.ACROSS):
        for name, build in chapters.load(paper).TABLES.items():
            runs = {str(spec.mapping()): spec for spec in build(tier).runs}
            first = {
                str(stage.mapping()): stage for spec in runs.values() if (stage := spec.features_spec()) is not None
            }
            if runs:
                result.append((paper, name, list({**first, **runs}.values())))
    return result


def listing(_: Tier | None = None, rates: dict[str, float] | None = None) -> Listing:
    """Runs, hours and gigabytes of every table."""
    rates = {**RATES, **(rates or {})}
    rows: list[tuple[str, ...]] = []
    every: dict[str, TrainSpec] = {}
    for paper, name, runs in tables_of_paper():
        hours = sum(cost(spec).hours(rates) for spec in runs)
        sets = sorted({spec.dataset for spec in runs})
        every |= {str(spec.mapping()): spec for spec in runs}
        rows.append(
            (
                paper,
                name,
                str(len(runs)),
                f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}",
                f"{max(map(memory_gb, runs)):.0f}",
                f"{sum(map(pack_gb, sets)):,.0f}",
                ", ".join(sets),
            )
        )
    hours = sum(cost(spec).hours(rates) for spec in every.values())
    everything = sum(pack_gb(name) for name in ("sketchy", "tuberlin", "quickdraw", "domainnet"))
    rows.append(
        (
            "all",
            "each run once",
            str(len(every)),
            f"{hours:,.0f}",
            f"{max(map(memory_gb, every.values())):.0f}",
            f"{everything:,.0f}",
            "all four",
        )
    )
    stated = ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
    epochs = ", ".join(f"{method} {count}" for method, count in EPOCHS.items())
    return Listing(
        "cost",
        "tables",
        "Estimates, not measurements: runs of each table of tier paper, GPU hours of one card, memory of the "
        "largest step, "
        "and gigabytes of decoded pictures.",
        ("Paper", "Table", "Runs", "GPU hours", "GPU memory (GB)", "Cache (GB)", "Data"),
        tuple(rows),
        f"Images per second of training: {stated}{' (timm, one RTX 3090)' if rates == RATES else ''}; an "
        f"embedding counts a third; "
        f"epochs until a run stops: {epochs}, others {OTHERS}; classes taken to be of equal size.",
    )


def data_listing(_: Tier) -> Listing:
    """Disk and device memory of every data set."""
    rows = [
        (
            known.title,
            f"{sum(known.counts.values()):,}",
            f"{known.disk_gb}",
            f"{pack_gb(name):,.0f}",
            "yes" if pack_gb(name) < 40 else "no",
        )
        for name, known in PUBLISHED.items()
        if name != "pacs"
    ]
    return Listing(
        "cost",
        "data",
        f"Counted from the published numbers of pictures: gigabytes as they unpack, decoded at {PACK_PX} px, "
        f"and whether half "
        "of an 80 GB card holds that.",
        ("Data set", "Pictures", "Archives (GB)", "Cache (GB)", "Held on an 80 GB card"),
        tuple(rows),
        "Where it is not, batches are gathered from the memory-mapped cache one step ahead.",
    )


TABLES = {
    "tables": listing,
    "data": data_listing,
    "recipes": paper_recipes.listing,
    "lacking": paper_recipes.lacking,
}
CLAIMS: dict = {}
FIGURES: dict = {}


def figure_runs(_: Tier) -> list[TrainSpec]:
    return []
