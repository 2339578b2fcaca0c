"""Benchmarks that anyone can run: `ucdr bench`."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ucdr_core.evidence.store import peak_memory_mb
from ucdr_core.retrieval import evaluate
from ucdr_core.retrieval.ranking import unit


def retrieval(queries: int, gallery: int, dimension: int, device: str | None) -> None:
    """Seconds of the exact metrics at the size that is asked for and at a small one, and their ratios in the same run.

    floor        the product of queries and gallery, and a sort of its values, in the arithmetic that is used
    alternative  scipy's distances and scikit-learn's average precision in two processes, at the small size
    """
    device = device or "cpu"
    ours, floor, clustered = _against_floor(2_000, 10_000, 300, device)
    seconds, precision = _alternative(*clustered)
    print(
        f"  scipy and scikit-learn in two processes: {seconds:.2f} s, {seconds / ours[0]:.0f} times as long (goal: "
        f"40; the floor: {seconds / floor:.0f}); map_all differs by {abs(ours[1] - precision):.1e}",
        flush=True,
    )
    _against_floor(queries, gallery, dimension, device)


def _against_floor(queries: int, gallery: int, dimension: int, device: str):
    """((seconds, map_all), seconds of the floor, arrays) of embeddings in 30 classes, after printing them."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((30, dimension), np.float32)

    def clustered(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = random.integers(0, len(centres), count)
        values = random.standard_normal((count, dimension), np.float32)
        values *= 3
        values += centres[labels]
        return values, labels

    (q, q_labels), (g, g_labels) = clustered(queries), clustered(gallery)
    before = peak_memory_mb()
    evaluate(q[:100], q_labels[:100], g, g_labels, arithmetic="float32", device=device)  # libraries start their threads
    repeats = range(5 if queries * gallery < 10**8 else 1)
    ours, scores = min((_timed(lambda: evaluate(q, q_labels, g, g_labels, device=device)) for _ in repeats), key=_first)
    after = peak_memory_mb()
    floor, _ = min((_timed(lambda: _floor(q, g, scores.arithmetic, device)) for _ in repeats), key=_first)
    print(
        f"{queries:,} x {gallery:,}, {dimension} dimensions, {torch.get_num_threads()} threads, {device}: {ours:.2f} s "
        f"in {scores.arithmetic}, {after - before} MB more than the {before} MB of libraries and embeddings; map_all "
        f"{scores['map_all']:.4f}\n  product and sort of its values: {floor:.2f} s, ours {ours / floor:.2f} times as "
        "long (goal: 1.4)",
        flush=True,
    )
    return (ours, scores["map_all"]), floor, (q, q_labels, g, g_labels)


def _first(pair: tuple[float, Any]) -> float:
    return pair[0]


def _timed(do) -> tuple[float, Any]:
    started = time.perf_counter()
    result = do()
    return time.perf_counter() - started, result


def _floor(q: np.ndarray, g: np.ndarray, arithmetic: str, device: str) -> None:
    """Every score and its sort, 128 MB at a time, by the fastest of NumPy and torch."""
    rows = max(1, 128_000_000 // (4 * len(g)))
    if device != "cpu":
        items = torch.from_numpy(g).to(device, getattr(torch, arithmetic))
        for start in range(0, len(q), 8 * rows):
            (torch.from_numpy(q[start : start + 8 * rows]).to(items) @ items.T).sort(dim=1)
        torch.cuda.synchronize()
        return
    q, g, threads = q.astype(arithmetic), g.astype(arithmetic), torch.get_num_threads()
    products = np.empty((min(rows, len(q)), len(g)), arithmetic)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(q), rows):
            block = q[start : start + rows]
            part = np.matmul(block, g.T, out=products[: len(block)])
            list(pool.map(lambda some: some.sort(axis=1), np.array_split(part, 4 * threads)))


def _alternative(q: np.ndarray, q_labels: np.ndarray, g: np.ndarray, g_labels: np.ndarray) -> tuple[float, float]:
    """(seconds, map_all) of two processes that have started and have imported what they use."""
    halves = [(q[part], q_labels[part], g, g_labels) for part in np.array_split(np.arange(len(q)), 2)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(straightforward, *zip(*((half[0][:9], half[1][:9], g, g_labels) for half in halves))))
        seconds, precisions = _timed(lambda: list(pool.map(straightforward, *zip(*halves))))
    return seconds, float(np.concatenate(precisions).mean())


def straightforward(q: np.ndarray, q_labels: np.ndarray, g: np.ndarray, g_labels: np.ndarray) -> np.ndarray:
    """Average precision of each query, (Q,), as the published code computes it: a whole matrix of distances first."""
    from scipy.spatial.distance import cdist
    from sklearn.metrics import average_precision_score

    similarity = -cdist(q.astype(np.float64), g.astype(np.float64))
    relevant = q_labels[:, None] == g_labels
    return np.array([average_precision_score(r, s) if r.any() else 0.0 for r, s in zip(relevant, similarity)])


def search(sizes: list[int], k: int = 12, queries: int = 200) -> None:
    """Indexes of `retrieval.index` against the flat one: seconds to build, milliseconds a query, share of its k.

    synthetic  unit vectors around 1,000 centres, as embeddings of many classes lie
    real       the frozen features of the embedded pictures, reduced to 128 dimensions by PCA; above their number, each
               again with noise of a tenth of their own spread
    """
    from ucdr_core.retrieval.index import FLAT_AT_MOST, nearest_index

    print(f"flat up to {FLAT_AT_MOST:,} vectors, IVF above; {len(os.sched_getaffinity(0))} cores; k = {k}")
    print(f"{'vectors':>10} {'what':10} {'index':5} {'build s':>8} {'ms/query':>9} {'recall':>7} {'times flat':>10}")
    for size in sizes:
        for what, make in (("synthetic", _synthetic), ("real", _real)):
            values = make(size + queries)
            vectors, drawn = values[:size], values[size:]
            truth, flat_ms = None, 0.0
            for kind in ("flat", "ivf", "hnsw"):
                started = time.perf_counter()
                index = nearest_index(vectors, kind)
                seconds = time.perf_counter() - started
                index.search(drawn[:1], k)
                started = time.perf_counter()
                nearest = np.concatenate([index.search(query[None], k)[1] for query in drawn])
                each_ms = (time.perf_counter() - started) / len(drawn) * 1e3
                truth, flat_ms = (nearest, each_ms) if kind == "flat" else (truth, flat_ms)
                recall = np.mean([len(set(a) & set(b)) / k for a, b in zip(nearest, truth)])
                print(
                    f"{size:>10,} {what:10} {kind:5} {seconds:>8.1f} {each_ms:>9.2f} {recall:>7.3f} "
                    f"{flat_ms / each_ms:>10.1f}",
                    flush=True,
                )
                del index


def _synthetic(count: int, dimension: int = 128, centres: int = 1000) -> np.ndarray:
    random = np.random.default_rng(0)
    values = random.standard_normal((centres, dimension), np.float32)[random.integers(0, centres, count)]
    values += random.standard_normal((count, dimension), np.float32)
    return unit(values)


def _real(count: int, dimension: int = 128) -> np.ndarray:
    from sklearn.decomposition import PCA

    from ucdr_core import data
    from ucdr_core.methods import backbones
    from ucdr_core.training import features

    manifest, random = data.emoji(), np.random.default_rng(0)
    maps = features.maps(manifest, backbones.trunk("efficientnet_lite0"), "frozen", 96, positions=False)
    starts = range(0, len(manifest), 512)
    averages = np.concatenate(
        [maps[np.arange(start, min(start + 512, len(manifest)))].flatten(1).numpy() for start in starts]
    )
    reduced = PCA(dimension, svd_solver="covariance_eigh").fit_transform(averages).astype(np.float32)
    rows = np.concatenate([random.permutation(len(reduced)) for _ in range(-(-count // len(reduced)))])[:count]
    values = reduced[rows]
    repeated = max(0, count - len(reduced))
    values[len(reduced) :] += random.standard_normal((repeated, dimension), np.float32) * reduced.std(0) / 10
    return unit(values[random.permutation(count)])


# ----------------------------------------------------------------------------------------------------------- training


def train(
    device: str | None,
    backbone: str,
    size_px: int,
    batch: int,
    seconds: float,
    workers: int,
    precision: str | None,
    compiled: bool,
) -> None:
    """Images per second of a whole training loop (SnMpNet, two domains), and its ratios to two others in the same run.

    device, precision  default: a GPU where there is one, with bfloat16; else the CPU in single precision
    full               this book's loop: uint8 cache, augmentation on the device, autocast, channels_last on a GPU
    model alone        one batch that stays on the device, the same method, loss, optimiser and precision
    straightforward    the published codes' way: float32, NCHW, PIL transforms in worker processes, a value read back
                       each step
    """
    from ucdr_core.evidence.record import surroundings
    from ucdr_core.training.spec import TrainSpec

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    precision = precision or ("bfloat16" if device.startswith("cuda") else "float32")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["UCDR_HOME"] = folder
        root = _pictures(Path(folder) / "pictures", max(4 * batch, 256))
        spec = TrainSpec.from_mapping(
            {
                "method": "snmpnet",
                "dataset": "folders",
                "data_root": str(root),
                "split": None,
                "backbone": backbone,
                "weights": "random",
                "regime": "finetune",
                "size_px": size_px,
                "precision": precision,
                "invert_domains": ["sketch"],
                "recipe": {"batch_size": batch, "selection": "last"},
            }
        )
        print(
            f"{surroundings(device)['device']}, torch {torch.__version__}: SnMpNet on {backbone}, {size_px} px, batch "
            f"{batch}, {precision}{', compiled' if compiled else ''}",
            flush=True,
        )
        full, model = _own_rates(spec, device, seconds, compiled)
        print(f"full loop        {full:10.1f} images/s", flush=True)
        print(f"model alone      {model:10.1f} images/s   full loop: {full / model:.0%} of it (goal: 90%)", flush=True)
        straight = _rate(_straightforward_training(root, spec, device, workers), batch, seconds, device)
        print(
            f"straightforward  {straight:10.1f} images/s   full loop: {full / straight:.1f} times it (goal: 10 on a "
            f"GPU), {workers} workers",
            flush=True,
        )


def _own_rates(spec, device: str, seconds: float, compiled: bool) -> tuple[float, float]:
    """Images per second of this book's loop, and of the model alone."""
    from ucdr_core.training.batches import Batches
    from ucdr_core.training.loop import Recipe, Stepper
    from ucdr_core.training.prepare import prepare

    batch = spec.recipe["batch_size"]
    method, feed = prepare(spec, device, False)
    stepper = Stepper(method, Batches(method, spec.training(), batch), feed, Recipe(batch_size=batch), 0, compiled)
    steps = (terms for number in range(10**9) for terms in stepper.epoch(number))
    full = _rate(lambda: next(steps), batch, seconds, device)
    rows = next(stepper.batches.epoch(np.random.default_rng(0), np.random.default_rng(0)))
    resident = stepper.batch(rows, 5, 0)

    def alone() -> None:
        loss = sum(method.losses(resident, stepper.random).values())
        stepper.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        stepper.optimiser.step()

    return full, _rate(alone, batch, seconds, device)


def _rate(step, batch: int, seconds: float, device: str) -> float:
    """Images per second of steps that take at least so many seconds, after three that do not count."""
    from ucdr_core.training.plan import timed

    timed(lambda: [step() for _ in range(3)], device)
    one = max(timed(step, device), 1e-4)
    count = max(3, int(seconds / one))
    return batch * count / timed(lambda: [step() for _ in range(count)], device)


CLASSES = ("bird", "car", "cat", "dog", "fish", "house", "moon", "tree")


def _pictures(root: Path, count: int, side: int = 256) -> Path:
    """JPEG photos and PNG sketches, half of each, of no content but of the real files' size and cost to decode."""
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(count):
        for domain, suffix in (("photo", "jpg"), ("sketch", "png")):
            path = root / domain / CLASSES[number % len(CLASSES)] / f"{number}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if domain == "photo":
                coarse = random.integers(0, 255, (16, 16, 3), np.uint8)
            else:
                coarse = random.choice([0, 255], (16, 16, 1), p=[0.1, 0.9]).repeat(3, 2).astype(np.uint8)
            Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path)
    return root


class _Folder(torch.utils.data.Dataset):
    """A file, opened and transformed when it is asked for: what a straightforward loop does."""

    def __init__(self, paths: list[Path], size_px: int):
        from ucdr_core.methods import torchvision_guard  # noqa: F401, I001  (before torchvision)
        from torchvision import transforms

        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(size_px, (0.8, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(0.4, 0.4, 0.4, 0.4),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        from PIL import Image

        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def _straightforward_training(root: Path, spec, device: str, workers: int):
    """One step of it, as a function."""
    from dataclasses import replace

    from ucdr_core.methods import Batch
    from ucdr_core.training.loop import Recipe, _optimiser
    from ucdr_core.training.prepare import prepare

    batch = spec.recipe["batch_size"]
    method, _ = prepare(replace(spec, precision="float32"), device, False)
    method = method.to(memory_format=torch.contiguous_format).train()
    optimiser, random = _optimiser(method, Recipe()), np.random.default_rng(0)
    loaders = [
        torch.utils.data.DataLoader(
            _Folder(sorted((root / domain).glob("*/*")), spec.size_px),
            batch // 2,
            shuffle=True,
            num_workers=max(1, workers // 2),
            drop_last=True,
            persistent_workers=True,
        )
        for domain in ("photo", "sketch")
    ]

    def endless(loader):
        while True:
            yield from loader

    streams = [endless(loader) for loader in loaders]
    photos, labels = torch.arange(batch) < batch // 2, torch.zeros(batch, dtype=torch.int64)

    def step() -> None:
        x = torch.cat([next(stream) for stream in streams]).to(device)
        terms = method.losses(Batch(x, labels.to(device), photos, (~photos).int(), epoch=5), random)
        optimiser.zero_grad()
        loss = sum(terms.values())
        loss.backward()
        optimiser.step()
        for term in terms.values():
            term.item()

    return step


# ----------------------------------------------------------------------------------------------------------- numerics

# What another x86-64 processor would choose: instruction sets of torch's own kernels, of oneDNN and of MKL, and thread
# counts.
SURROUNDINGS = {
    "as is, 2 threads": {"OMP_NUM_THREADS": "2"},
    "as is, 1 thread": {"OMP_NUM_THREADS": "1"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "2"},
    "oldest": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "OMP_NUM_THREADS": "1",
    },
}

_ONE_SURROUNDING = """
import hashlib, json, os, sys
import torch
from ucdr_core.chapters.tiers import tier_of
from ucdr_core.evidence.store import Store
from ucdr_core.training.prepare import prepare

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
answer = {}
# Inverted sketches: maps of this view alone are computed, not of the whole data set.
for method in ("snmpnet", "cumix", "doodle", "stl", "strad"):
    spec = tier_of("embedded").runs(method, "sketchy", invert_domains=("sketch",), precision=sys.argv[1])[0]
    record = Store().make(spec, progress=False)
    answer[method] = [record.result["selected_epoch"], record.result["scores"]["zs_sbir:sketch:unseen"]]
maps = prepare(spec.features_spec(), progress=False)[1].inputs.inputs.array
answer["maps"] = hashlib.sha256(maps.tobytes()).hexdigest()[:12]
print(json.dumps(answer))
"""


def numerics() -> None:
    """Trains a method of each kind in each surrounding, from pixels to scores: do maps and scores stay the same?"""
    for precision in ("float64", "float32"):
        answers = {name: _answer(precision, environment) for name, environment in SURROUNDINGS.items()}
        first = next(iter(answers.values()))
        methods = [name for name in first if name != "maps"]
        for name, answer in answers.items():
            worst = max(
                abs(value - first[one][1][metric]) for one in methods for metric, value in answer[one][1].items()
            )
            epochs = "same" if all(answer[one][0] == first[one][0] for one in methods) else "other"
            print(
                f"{precision}  {name:17}  maps {answer['maps']}  epochs kept: {epochs}  largest difference of a score "
                f"{worst:.1e}",
                flush=True,
            )


def _answer(precision: str, environment: dict[str, str]) -> dict[str, Any]:
    """What `_ONE_SURROUNDING` prints in a process of its own, with no run made before."""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [sys.executable, "-c", _ONE_SURROUNDING, precision],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, **environment, "UCDR_HOME": home},
        )
    return json.loads(done.stdout.splitlines()[-1])
