"""Runs: what is trained, what came out, and the store that keeps it.

    TrainSpec   everything that decides a training, as plain values
    RunRecord   what a number must have behind it: spec, scores with per-query values, log, weights, versions, code, data
    Store       one folder per run, named by the hash of spec + data fingerprint + the code that matters

A run's folder is filled under another name and takes its own by one rename, so its presence means done.  A training that was
cut off goes on from its last state.  A record whose files are missing or altered is no record.
"""
from __future__ import annotations

import fcntl
import hashlib
import json
import platform
import resource
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from . import backbones, data, features, parallel, paths, semantics
from .data import protocols, published
from .methods import METHODS, Method, OptionError, from_mapping
from .methods.base import FullyConnected
from .retrieval import metrics
from .training import Feed, Recipe, embed, fit

PRECISION_AT = (5, 10, 100, 200)
FEATURES = ("method", "options", "recipe", "regime")  # of `TrainSpec.features`


class RecordError(RuntimeError):
    """A run's folder does not hold what it should."""


@dataclass(frozen=True)
class TrainSpec:
    """What is trained.  `from_mapping` checks names, types and that the parts fit one another."""

    method: str
    dataset: str = "emoji-sketchy"
    split: str | None = "emoji"  # shipped name, path of a JSON file, "NAME_foldK" of five folds, or None: drawn from the seed 0
    train_domains: tuple[str, ...] = ("sketch", "photo")
    gallery_domain: str = "photo"
    gallery_held_out: float = 0.0  # share of each seen class's gallery-domain photos kept out of training
    classes_left_out: float = 0.0  # share of the seen classes kept out of training (gzs_sbir)
    query_share: float = 1.0  # udcdr: share of each seen class's samples that are queries (SnMpNet, QuickDraw: 0.1)
    backbone: str = "efficientnet_lite0"
    weights: str = "imagenet"
    regime: Literal["frozen", "last-blocks", "finetune"] = "frozen"
    size_px: int = 96
    precision: Literal["float64", "float32", "bfloat16"] = "float64"  # bfloat16: of the trained trunk, by autocast
    pixels: Literal["normalised", "unit"] = "normalised"  # finetune regime: as the trunk was trained, or in [0, 1] (Doodle's code)
    invert_domains: tuple[str, ...] = ()  # domains shown white on black; the code inverts `sketch` and `quickdraw`
    vectors: str = semantics.PACKAGED
    vectors_centred: bool = True
    vectors_normalised: bool = True  # the paper says so for DomainNet; its vectors are not
    vectors_length: float = 6.7  # of normalised vectors: the mean length of the GloVe vectors that the paper uses for Sketchy
    embedding_dim: int = 300  # class vectors of fewer dimensions are lifted isometrically
    permuted_names: bool = False  # control: each class gets another class's vector
    options: dict = field(default_factory=dict)
    recipe: dict = field(default_factory=dict)
    # The method whose embeddings the method is fed instead of the trunk's output ("method", "options", "recipe", "regime"), trained
    # first on the same data with the same seed; none: the trunk's.
    features: dict = field(default_factory=dict)
    world_size: int = 1  # processes, one GPU each, that train together on the same batches (`parallel`)
    seed: int = 0
    data_root: str | None = None  # not part of the identity: the data's fingerprint is

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> TrainSpec:
        """Raises OptionError or DataError saying which value is wrong and what is allowed."""
        spec = from_mapping(cls, values, "spec")
        if spec.method not in METHODS:
            raise OptionError(f"spec: unknown method {spec.method!r}; known: {', '.join(METHODS)}")
        if spec.backbone not in backbones.BACKBONES:
            raise OptionError(f"spec: unknown backbone {spec.backbone!r}; known: {', '.join(backbones.BACKBONES)}")
        backbone = backbones.BACKBONES[spec.backbone]
        if spec.regime == "last-blocks" and backbone.last_blocks is None:
            raise OptionError(f"spec: {spec.backbone} is trained as a whole or not at all; set regime to 'frozen' or 'finetune'")
        if spec.size_px % backbone.patch_px:
            raise OptionError(f"spec: size_px must be a multiple of {backbone.patch_px} for {spec.backbone} ({backbone.size_px} is its own), not {spec.size_px}")
        if not spec.train_domains:
            raise OptionError("spec: train_domains is empty")
        if not 0 < spec.query_share <= 1:
            raise OptionError(f"spec: query_share must lie in (0, 1], not {spec.query_share}")
        for name in ("gallery_held_out", "classes_left_out"):
            if not 0 <= getattr(spec, name) < 1:
                raise OptionError(f"spec: {name} must lie in [0, 1), not {getattr(spec, name)}")
        if spec.size_px < 32:
            raise OptionError(f"spec: size_px must be at least 32, not {spec.size_px}")
        if spec.seed < 0:
            raise OptionError(f"spec: seed must not be negative, not {spec.seed}")
        if spec.pixels == "unit" and spec.regime != "finetune":
            raise OptionError(f"spec: pixels 'unit' is for regime 'finetune'; {spec.regime!r} starts from maps of a trunk that was trained on normalised ones")
        if spec.world_size < 1:
            raise OptionError(f"spec: world_size must be at least 1, not {spec.world_size}")
        if spec.world_size > 1 and (spec.regime == "frozen" or spec.features or not METHODS[spec.method].trained):
            raise OptionError("spec: world_size above 1 shares out the work of a trained trunk, and this run trains none; set it to 1")
        # Written out in full, so that a default named and a default left out are the same run.
        options = from_mapping(METHODS[spec.method].Options, spec.options, f"options of {spec.method}")
        recipe = from_mapping(Recipe, spec.recipe, "recipe")
        if METHODS[spec.method].frozen_features and spec.regime != "frozen":
            raise OptionError(f"spec: {spec.method} is defined on frozen features; set regime to 'frozen', not {spec.regime!r} "
                              "(`features` feeds it from a trained method)")
        if METHODS[spec.method].wants_teacher and spec.features:
            raise OptionError(f"spec: {spec.method} learns from the trunk's ImageNet classifier, so it cannot be fed from another method")
        spec = replace(spec, options=asdict(options), recipe=asdict(recipe))
        if not spec.features:
            return spec
        if unknown := set(spec.features) - set(FEATURES):
            raise OptionError(f"spec: features has the unknown entries {', '.join(sorted(unknown))}; known: {', '.join(FEATURES)}")
        first = cls.from_mapping({**spec.mapping(), "options": {}, "recipe": {}, **spec.features, "features": {}})
        return replace(spec, features={name: getattr(first, name) for name in FEATURES})

    def features_spec(self) -> TrainSpec | None:
        """The training whose embeddings this one is fed, or None."""
        return replace(self, **self.features, features={}, world_size=1) if self.features else None

    def mapping(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))

    def manifest(self) -> data.Manifest:
        root = str(paths.data(self.dataset)) if self.data_root is None and self.dataset in published.PUBLISHED else self.data_root
        return _manifest(self.dataset, root)  # the root by name, so that another $UCDR_DATA is another manifest

    def class_split(self) -> data.Split:
        manifest = self.manifest()
        if self.split and "_fold" in self.split and not self.split.endswith(".json"):
            name, _, number = self.split.rpartition("_fold")
            if not number.isdigit() or int(number) >= 5:
                raise data.DataError(f"{self.split!r}: folds are numbered 0 to 4")
            return data.splits.folds(data.splits.load(name), 5)[int(number)].resolve(manifest)
        return data.splits.for_manifest(manifest, self.split)

    def training(self) -> protocols.Training:
        return protocols.training(
            self.manifest(), self.class_split(), self.train_domains, self.gallery_domain,
            gallery_held_out=self.gallery_held_out, classes_left_out=self.classes_left_out)

    def evaluations(self) -> list[data.Evaluation]:
        """Everything that this training can be asked."""
        return protocols.answerable(self.training(), query_share=self.query_share)

    @cached_property
    def key(self) -> str:
        """16 hex digits: the hash of the spec, the split's classes, the data's fingerprint and the code that matters."""
        split = self.class_split()
        identity = {
            **{name: value for name, value in self.mapping().items() if name not in ("data_root", "split")},
            "split": [split.train, split.val, split.test, sorted(split.words.items())],
            "data": self.manifest().fingerprint, "code": code_digest(self.method, *([self.features["method"]] if self.features else [])),
            "vectors": semantics.digest(self.vectors) if METHODS[self.method].uses_class_vectors else "",
        }
        if self.weights not in ("imagenet", "random"):
            identity["weights"] = hashlib.sha256(Path(self.weights).read_bytes()).hexdigest()
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


@lru_cache(maxsize=8)
def _manifest(dataset: str, data_root: str | None) -> data.Manifest:
    return data.load(dataset, data_root)


@lru_cache(maxsize=None)
def code_digest(*methods: str) -> str:
    """SHA-256 over the library files that a result of these methods depends on; other methods, tables and figures do not count."""
    package = paths.PACKAGE
    files = [package / name for name in ("semantics.py", "backbones.py", "batches.py", "features.py", "losses.py", "parallel.py", "training.py",
                                         "runs.py", "retrieval/metrics.py", "methods/base.py")]
    files += [*(package / "data").glob("*.py"), package / "data" / "splits" / "__init__.py"]
    files += [Path(sys.modules[METHODS[method].__module__].__file__) for method in methods]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


# ------------------------------------------------------------------------------------------------------------- record

@dataclass(frozen=True, eq=False)
class RunRecord:
    """A finished run.  `result` is the same wherever and whenever the run is made; `circumstances` are not."""

    folder: Path
    spec: TrainSpec
    result: dict[str, Any]  # scores {evaluation: {metric: mean}}, log, selected epoch, counts
    circumstances: dict[str, Any]  # seconds, peak memory, device, versions, commit, date

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def evaluations(self) -> list[str]:
        return list(self.result["scores"])

    def scores(self, evaluation: str) -> dict[str, float]:
        """{metric: mean over queries}.  Raises KeyError naming the evaluations there are."""
        if evaluation not in self.result["scores"]:
            raise KeyError(f"run {self.key} has no evaluation {evaluation!r}; it has {', '.join(self.evaluations)}")
        return self.result["scores"][evaluation]

    @cached_property
    def _per_query(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "per_query.npz", allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays}

    @cached_property
    def log(self) -> list[dict]:
        """One entry per epoch: the loss terms and the validation score."""
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]

    def per_query(self, evaluation: str, metric: str) -> np.ndarray:
        """(Q,) values in the order of the task's query rows."""
        return self._per_query[f"{evaluation}/{metric}"]

    def task(self, evaluation: str) -> data.Task:
        """The task of an evaluation, also of one in a single space (`zs_sbir:sketch:unseen@structure`)."""
        return next(protocols.ask(self.spec.training(), e) for e in self.spec.evaluations() if e.name == evaluation.partition("@")[0])

    def model(self, device: str = "cpu", progress: bool = False) -> tuple[Method, Feed]:
        """The trained method and what feeds it."""
        method, feed = prepare(self.spec, device, progress, Store(self.folder.parent))
        method.load_state_dict(load_file(self.folder / "weights.safetensors"))
        return method.eval(), feed

    def embeddings(self, rows: np.ndarray, space: str = "") -> np.ndarray:
        """(n, D) embeddings of rows of the spec's manifest, in one of the method's spaces."""
        method, feed = self.model()
        return embed(method, feed, rows, space)


def load_record(folder: Path) -> RunRecord:
    """Raises RecordError naming a file that is missing or altered."""
    path = folder / "record.json"
    try:
        content = json.loads(path.read_text())
        stated = content.pop("digest")
        if stated != _digest_of(content):
            raise RecordError(f"{path} was altered after it was written (its digest does not match); remove {folder} and run again")
        for name, digest in content["files"].items():
            file = folder / name
            if not file.is_file():
                raise RecordError(f"{file} is missing; remove {folder} and run again")
            if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
                raise RecordError(f"{file} was altered after it was written; remove {folder} and run again")
        return RunRecord(folder, TrainSpec.from_mapping(content["spec"]), content["result"], content["circumstances"])
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, AttributeError) as error:
        raise RecordError(f"{path} is no run record ({type(error).__name__}: {error}); remove {folder} and run again") from error


def _digest_of(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------------------- making

def prepare(spec: TrainSpec, device: str = "cpu", progress: bool = True, store: Store | None = None) -> tuple[Method, Feed]:
    """The untrained method and what feeds it: another run's embeddings, cached maps where the regime freezes a part of the trunk, else images."""
    dtype = features.PRECISIONS[spec.precision]
    manifest, training, cls = spec.manifest(), spec.training(), METHODS[spec.method]
    photos = (manifest.samples.domain == spec.gallery_domain).to_numpy()
    if spec.features:
        record = (store or Store()).make(spec.features_spec(), device=device, progress=progress)
        own = embed(*record.model(device, progress), np.arange(len(manifest)))
        trunk, upper, channels, feed = None, nn.Sequential(), own.shape[1], Feed(features.Inputs(own), dtype, device, photos)
    else:
        # A wholly frozen trunk is only read, so runs of one process share it; a trained one is each run's own.
        trunk = (_frozen_trunk if spec.regime == "frozen" else backbones.trunk)(spec.backbone, spec.weights)
        upper, channels = trunk.split(spec.regime)[1], trunk.channels
        if spec.regime == "finetune":
            pixels = features.Pixels(features.pixels(manifest, spec.size_px, progress), device)
            inverted = manifest.samples.domain.isin(list(spec.invert_domains)).to_numpy() if spec.invert_domains else None
            feed = Feed(pixels, dtype, device, photos, trunk.to(device, dtype).normalise if spec.pixels == "normalised" else nn.Identity(), inverted)
        else:
            def maps(jigsaw: bool) -> features.Maps:
                return features.maps(manifest, trunk, spec.regime, spec.size_px, precision=spec.precision, invert_domains=spec.invert_domains,
                                     jigsaw=jigsaw, positions=cls.wants_positions or spec.regime != "frozen", device=device, progress=progress)
            jigsaw = (maps(True), features.jigsaw_labels(len(manifest))) if cls.wants_jigsaw else (None, None)
            feed = Feed(maps(False), dtype, device, photos, jigsaw=jigsaw[0], jigsaw_labels=jigsaw[1])
        upper.autocast = spec.precision == "bfloat16"
    method = build(spec, training, upper, channels, trunk).to(device)
    if device.startswith("cuda"):
        method = method.to(memory_format=torch.channels_last)
    return method, feed


def build(spec: TrainSpec, training: protocols.Training, upper: nn.Module, channels: int, trunk: backbones.Trunk | None) -> Method:
    """The untrained method on a trunk's upper part, or on another run's embeddings (trunk None), on the CPU in its own precision."""
    dtype, cls = features.PRECISIONS[spec.precision], METHODS[spec.method]
    unseen = (*training.split.val, *training.split.test) if cls.wants_unlabelled else ()
    vectors = np.zeros((len(training.seen), spec.embedding_dim))
    if cls.uses_class_vectors:
        raw = semantics.class_vectors((*training.seen, *unseen), spec.vectors, training.split.words)
        vectors = semantics.prepare(raw, spec.vectors_centred, spec.vectors_normalised, spec.embedding_dim, spec.vectors_length)
        if spec.permuted_names:
            vectors = vectors[_derangement(len(vectors), spec.seed)]
    of_seen, of_unseen = torch.from_numpy(vectors).split([len(training.seen), len(unseen)])
    options = from_mapping(cls.Options, spec.options, f"options of {spec.method}")
    extra: dict[str, Any] = {"unseen_vectors": of_unseen} if cls.wants_unlabelled else {}
    if getattr(options, "fully_connected", False):
        if spec.regime == "frozen" or spec.features:
            raise OptionError("spec: fully_connected takes the map of a trained trunk; set regime to 'finetune'")
        extra["layers"] = FullyConnected(trunk.fully_connected())
    if cls.wants_teacher:
        extra["teacher"] = trunk.classifier()
        if options.weight_similarity:
            extra["similarity"] = torch.from_numpy(semantics.imagenet_similarity(training.seen, training.split.words))
    with torch.random.fork_rng(devices=[]), _default_dtype(dtype):
        torch.manual_seed(spec.seed)
        method = cls(upper, channels, of_seen, options, **extra)
    return method.to(dtype)


@contextmanager
def _default_dtype(dtype: torch.dtype):
    """Initial weights are drawn in the precision of the training: single precision would differ between processors in the eighth digit."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@lru_cache(maxsize=2)
def _frozen_trunk(name: str, weights: str) -> backbones.Trunk:
    return backbones.trunk(name, weights)


def _derangement(count: int, seed: int) -> np.ndarray:
    """A permutation that leaves nothing in its place."""
    random = np.random.default_rng([seed, 3])
    order = random.permutation(count)
    result = np.empty(count, int)
    result[order] = np.roll(order, 1)  # one cycle through all
    return result


class Store:
    """The runs of one folder ($UCDR_HOME/runs by default)."""

    def __init__(self, root: Path | None = None):
        self.root = root or paths.runs()

    def folder(self, spec: TrainSpec) -> Path:
        return self.root / spec.key

    def get(self, spec: TrainSpec) -> RunRecord | None:
        """The record of this spec, or None where there is none.  Raises RecordError where it is damaged."""
        folder = self.folder(spec)
        return load_record(folder) if folder.exists() else None

    def need(self, spec: TrainSpec) -> RunRecord:
        """The record of this spec.  Raises RecordError where there is none, saying how to make it."""
        record = self.get(spec)
        if record is None:
            raise RecordError(f"there is no run {spec.key} ({describe(spec)}) under {self.root}; make it with `ucdr reproduce` or `ucdr run`")
        return record

    def make(self, spec: TrainSpec, *, device: str = "cpu", progress: bool = True, checkpoint_seconds: float = 20.0, compiled: bool = False) -> RunRecord:
        """The record of this spec, trained and asked everything it can be asked if there is none yet.

        A cut-off training goes on from its last state; a damaged record is set aside as `<key>.damaged` and made anew.
        Two processes that want the same run make it once.
        """
        folder = self.folder(spec)
        self.root.mkdir(parents=True, exist_ok=True)
        with _locked(self.root / ".locks" / folder.name):
            if folder.exists():
                try:
                    return load_record(folder)
                except RecordError as error:
                    aside = folder.with_suffix(".damaged")
                    shutil.rmtree(aside, ignore_errors=True)
                    folder.rename(aside)
                    print(f"set aside as {aside.name}: {error}", flush=True)
            work = self.root / f".{folder.name}.partial"
            work.mkdir(exist_ok=True)
            (work / "spec.json").write_text(json.dumps(spec.mapping(), indent=1))
            if spec.world_size > 1:
                parallel.launch(work, spec.world_size, device, progress, checkpoint_seconds, compiled)
            else:
                self.fill(work, spec, device, progress, checkpoint_seconds, compiled)
            work.rename(folder)
        return load_record(folder)

    def fill(self, work: Path, spec: TrainSpec, device: str, progress: bool, checkpoint_seconds: float, compiled: bool) -> None:
        """Trains and asks in the folder of an unfinished run; of several processes that do so together, the first writes."""
        started = time.monotonic()
        training = spec.training()
        tasks = [protocols.ask(training, evaluation) for evaluation in spec.evaluations()]
        if not tasks:
            raise data.DataError("this training can be asked nothing: no domain but the gallery's has images of test classes")
        method, feed = prepare(spec, device, progress, self)
        state = work / "state.pt"
        log = fit(method, training, feed, from_mapping(Recipe, spec.recipe, "recipe"), spec.seed, test=(tasks[0].query, tasks[0].gallery),
                  state_file=state, checkpoint_seconds=checkpoint_seconds, progress=progress, compiled=compiled) if method.trained else []
        scores, per_query, counts = {}, {}, {}
        embedded: dict[tuple[str, int], np.ndarray] = {}

        def embeddings(rows: np.ndarray, space: str) -> np.ndarray:
            new = np.array([row for row in rows if (space, row) not in embedded], int)
            if len(new):
                embedded.update(zip(((space, row) for row in new.tolist()), embed(method, feed, new, space)))
            return np.array([embedded[space, row] for row in rows])

        labels = training.manifest.samples.class_name.to_numpy().astype(str)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)  # chance draws its embeddings
            for task, space in ((task, space) for task in tasks for space in method.spaces):
                name = task.evaluation.name + (f"@{space}" if space else "")
                queries, gallery = method.together(embeddings(task.query, space), embeddings(task.gallery, space))
                got = metrics.evaluate(queries, labels[task.query], gallery, labels[task.gallery], method.distance, precision_at=PRECISION_AT, device=device)
                scores[name] = got.mean
                counts[name] = {"queries": len(task.query), "gallery": len(task.gallery)}
                per_query.update({f"{name}/{metric}": values.astype(np.float32) for metric, values in got.per_query.items()})
        if parallel.rank():
            return
        np.savez_compressed(work / "per_query.npz", **per_query)
        save_file({name: value.contiguous().cpu() for name, value in method.state_dict().items()}, work / "weights.safetensors")
        (work / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
        recipe = spec.recipe
        if log and recipe["selection"] != "last":
            scored = f"{recipe['selection']}_{recipe['select_by']}"
            selected = max(range(len(log)), key=lambda epoch: (round(log[epoch][scored], 9), -epoch))
        else:
            selected = len(log) - 1
        content = {
            "key": spec.key, "spec": spec.mapping(),
            "result": {"scores": scores, "counts": counts, "epochs": len(log), "selected_epoch": selected,
                       "data": {"name": training.manifest.name, "fingerprint": training.manifest.fingerprint, "images": len(training.manifest),
                                "trained_on": len(training.train)},
                       "split": {"name": training.split.name, "train": list(training.seen), "val": list(training.split.val),
                                 "test": list(training.split.test), "source": training.split.source},
                       "code": code_digest(spec.method)},
            "circumstances": {"seconds": round(time.monotonic() - started, 2), "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                              "compiled": compiled, "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, **surroundings(device)},
            "files": {name: hashlib.sha256((work / name).read_bytes()).hexdigest()
                      for name in ("spec.json", "per_query.npz", "weights.safetensors", "log.jsonl")},
        }
        state.unlink(missing_ok=True)
        partial = work / "record.json.partial"
        partial.write_text(json.dumps({**content, "digest": _digest_of(content)}, indent=1))
        partial.replace(work / "record.json")


def surroundings(device: str) -> dict[str, Any]:
    """Where a run was made: device, threads, versions, commit."""
    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "?"

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(paths.REPOSITORY), *arguments], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine(),
        "device_kind": "CUDA" if device.startswith("cuda") else "CPU", "threads": torch.get_num_threads(), "cpu_capability": torch.backends.cpu.get_cpu_capability(), "python": platform.python_version(),
        "versions": {name: installed(name) for name in ("torch", "timm", "numpy", "scikit-learn", "ucdr-core")},
        "commit": git("rev-parse", "--short=12", "HEAD"), "modified": bool(git("status", "--porcelain", "--untracked-files=no")),
    }


def describe(spec: TrainSpec) -> str:
    return f"{spec.method} on {spec.dataset}, {'+'.join(spec.train_domains)}, split {spec.split or 'drawn'}, seed {spec.seed}"


@contextmanager
def _locked(path: Path):
    """Holds an exclusive lock on the file; the system frees it when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
