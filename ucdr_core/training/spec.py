"""What is trained, as plain values, and the name that follows from them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

from ucdr_core import data, paths
from ucdr_core.data import protocols, published
from ucdr_core.methods import METHODS, backbones, semantics
from ucdr_core.options import OptionError, Positive, Range, ShareBelow1, Width, from_mapping
from ucdr_core.training.loop import Recipe

FIRST_STAGE = ("method", "options", "recipe", "regime")  # of `TrainSpec.features`


@dataclass(frozen=True)
class TrainSpec:
    """What is trained.  `from_mapping` checks names, types and that the parts fit one another."""

    method: str
    dataset: str = "emoji-sketchy"
    split: str | None = (
        "emoji"  # shipped name, path of a JSON file, "NAME_foldK" of five folds, or None: drawn from the seed 0
    )
    train_domains: tuple[str, ...] = ("sketch", "photo")
    gallery_domain: str = "photo"
    gallery_held_out: ShareBelow1 = 0.0  # share of each seen class's gallery-domain photos kept out of training
    classes_left_out: ShareBelow1 = 0.0  # share of the seen classes kept out of training (gzs_sbir)
    # Samples of seen classes kept out of it, as a share of the test samples (gzs_sbir).
    samples_left_out: ShareBelow1 = 0.0
    # udcdr: share of each seen class's samples that are queries (SnMpNet, QuickDraw: 0.1).
    query_share: Annotated[float, Range(0, 1, open="low")] = 1.0
    backbone: str = "efficientnet_lite0"
    weights: str = "imagenet"
    regime: Literal["frozen", "last-blocks", "finetune"] = "frozen"
    size_px: Annotated[int, Range(32, 1024)] = 96
    precision: Literal["float64", "float32", "bfloat16"] = "float64"  # bfloat16: of the trained trunk, by autocast
    pixels: Literal["normalised", "unit"] = (
        "normalised"  # finetune regime: as the trunk was trained, or in [0, 1] (Doodle's code)
    )
    invert_domains: tuple[str, ...] = ()  # domains shown white on black; the code inverts `sketch` and `quickdraw`
    vectors: str = semantics.PACKAGED
    vectors_centred: bool = True
    vectors_normalised: bool = True  # the paper says so for DomainNet; its vectors are not
    # Of normalised vectors: the mean length of the GloVe vectors that the paper uses for Sketchy.
    vectors_length: Positive = 6.7
    embedding_dim: Width = 300  # class vectors of fewer dimensions are lifted isometrically
    permuted_names: bool = False  # control: each class gets another class's vector
    options: dict = field(default_factory=dict)
    recipe: dict = field(default_factory=dict)
    # The method whose embeddings the method is fed instead of the trunk's output ("method", "options", "recipe",
    # "regime"), trained first on the same data with the same seed; none: the trunk's.
    features: dict = field(default_factory=dict)
    # Processes, one GPU each, that train together on the same batches (`parallel`).
    world_size: Annotated[int, Range(1, 1024)] = 1
    seed: Annotated[int, Range(0, (1 << 64) - 1)] = 0
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
            raise OptionError(
                f"spec: {spec.backbone} is trained as a whole or not at all; set regime to 'frozen' or 'finetune'"
            )
        if spec.size_px % backbone.patch_px:
            raise OptionError(
                f"spec: size_px must be a multiple of {backbone.patch_px} for {spec.backbone} "
                f"({backbone.size_px} is its own), not {spec.size_px}"
            )
        if not spec.train_domains:
            raise OptionError("spec: train_domains is empty")
        for name in ("train_domains", "invert_domains"):
            domains = getattr(spec, name)
            if len(set(domains)) < len(domains):
                raise OptionError(f"spec: {name} lists a domain twice: {', '.join(domains)}")
        if spec.pixels == "unit" and spec.regime != "finetune":
            raise OptionError(
                f"spec: pixels 'unit' is for regime 'finetune'; {spec.regime!r} starts from maps of a trunk "
                f"that was trained on normalised ones"
            )
        if spec.world_size > 1 and (spec.regime == "frozen" or spec.features or not METHODS[spec.method].trained):
            raise OptionError(
                "spec: world_size above 1 shares out the work of a trained trunk, and this run trains none; set it to 1"
            )
        # Written out in full, so that a default named and a default left out are the same run.
        options = from_mapping(METHODS[spec.method].Options, spec.options, f"options of {spec.method}")
        recipe = from_mapping(Recipe, spec.recipe, "recipe")
        if METHODS[spec.method].frozen_features and spec.regime != "frozen":
            raise OptionError(
                f"spec: {spec.method} is defined on frozen features; set regime to 'frozen', not {spec.regime!r} "
                "(`features` feeds it from a trained method)"
            )
        if METHODS[spec.method].wants_teacher and spec.features:
            raise OptionError(
                f"spec: {spec.method} learns from the trunk's ImageNet classifier, so it cannot be fed from "
                f"another method"
            )
        spec = replace(spec, options=asdict(options), recipe=asdict(recipe))
        if not spec.features:
            return spec
        if unknown := set(spec.features) - set(FIRST_STAGE):
            raise OptionError(
                f"spec: features has the unknown entries {', '.join(sorted(unknown))}; known: {', '.join(FIRST_STAGE)}"
            )
        first = cls.from_mapping({**spec.mapping(), "options": {}, "recipe": {}, **spec.features, "features": {}})
        return replace(spec, features={name: getattr(first, name) for name in FIRST_STAGE})

    def features_spec(self) -> TrainSpec | None:
        """The training whose embeddings this one is fed, or None."""
        return replace(self, **self.features, features={}, world_size=1) if self.features else None

    def mapping(self) -> dict[str, Any]:
        """The values as JSON has them."""
        return json.loads(json.dumps(asdict(self)))

    def manifest(self) -> data.Manifest:
        """The data set.  Raises DataError where it is not there."""
        named = self.dataset in published.PUBLISHED or self.dataset in data.SMALL_SETS
        root = str(paths.data(self.dataset)) if self.data_root is None and named else self.data_root
        return _manifest(self.dataset, root)  # the root by name, so that another $UCDR_DATA is another manifest

    def named_split(self) -> data.Split:
        """The split as its file spells it, which needs no pictures; drawn from the data's classes where none is
        named."""
        return data.splits.for_manifest(self.manifest(), None) if self.split is None else _named_split(self.split)

    def class_split(self) -> data.Split:
        """The split under the data set's own class names."""
        return self.named_split() if self.split is None else self.named_split().resolve(self.manifest())

    def training(self) -> protocols.Training:
        """The rows that training may see.  Raises DataError, for a domain that the data set lacks above all."""
        for domain in self.invert_domains:
            self.manifest().check_domain(domain)
        return protocols.training(
            self.manifest(),
            self.class_split(),
            self.train_domains,
            self.gallery_domain,
            gallery_held_out=self.gallery_held_out,
            classes_left_out=self.classes_left_out,
            samples_left_out=self.samples_left_out,
        )

    def evaluations(self) -> list[data.Evaluation]:
        """Everything that this training can be asked."""
        return protocols.answerable(self.training(), query_share=self.query_share)

    @cached_property
    def key(self) -> str:
        """16 hex digits: the hash of what is asked: these values, the split's classes, the data, word vectors and
        weights.

        The code does not count: a record says which code made it (`evidence.code`).  Files count by their content,
        never by where they lie.  Raises DataError where the data set is not there and its fingerprint is not known.
        """
        split = self.named_split()
        uses_vectors = METHODS[self.method].uses_class_vectors
        identity = {
            **{
                name: value
                for name, value in self.mapping().items()
                if name not in NOT_ASKED and ADDED.get(name) != value
            },
            "classes": [split.train, split.val, split.test, sorted(split.words.items())],
            "data": self.fingerprint,
            "vectors": semantics.digest(self.vectors) if uses_vectors else "",
            "weights": self.weights if self.weights in ("imagenet", "random") else semantics.file_digest(self.weights),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def fingerprint(self) -> str:
        """Of the data set; of one that is not on this machine, that which the committed evidence was made of."""
        try:
            return self.manifest().fingerprint
        except data.DataError:
            if self.data_root is None and self.dataset in data.FINGERPRINTS:
                return data.FINGERPRINTS[self.dataset]
            raise


FOLDS = 5
NOT_ASKED = ("data_root", "split", "vectors", "weights")  # paths and names of what counts by its content
# Values that came later, and what they are where nobody asks for them: so that older runs keep their names.
ADDED = {"samples_left_out": 0.0}


def _named_split(name: str) -> data.Split:
    if "_fold" in name and not name.endswith(".json"):
        base, _, number = name.rpartition("_fold")
        if number not in map(str, range(FOLDS)):
            raise data.DataError(f"{name!r}: folds are numbered 0 to {FOLDS - 1}")
        return data.splits.folds(data.splits.load(base), FOLDS)[int(number)]
    return data.splits.load(name)


@lru_cache(maxsize=8)
def _manifest(dataset: str, data_root: str | None) -> data.Manifest:
    return data.load(dataset, data_root)


def describe(spec: TrainSpec) -> str:
    """One line for lists and messages."""
    domains = "+".join(spec.train_domains)
    return f"{spec.method} on {spec.dataset}, {domains}, split {spec.split or 'drawn'}, seed {spec.seed}"
