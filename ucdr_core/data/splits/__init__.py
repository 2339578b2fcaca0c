"""Split: which classes are trained on, validated, tested.

The published lists are the JSON files beside this module.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from ucdr_core import documents, files, paths
from ucdr_core.data.manifest import DataError, Manifest
from ucdr_core.data.splits.words import OURS, of_authors

FOLDER = Path(__file__).parent
AUTHORS_WORDS = "_authors_words"


def unified(name: str) -> str:
    """Class names are compared with spaces and hyphens read as underscores: folders and lists disagree about them."""
    return name.replace(" ", "_").replace("-", "_")


@dataclass(frozen=True)
class Split:
    """Class names of the three parts.  `words` says which words stand for a class in the place of its name.

    Raises DataError where two parts share a class, where a part that must not be empty is, and for words of a class
    that is in no part.
    """

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    source: str = ""
    words: dict[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self):
        parts = {"train": self.train, "val": self.val, "test": self.test}
        for part, classes in parts.items():
            count = Counter(map(unified, classes))
            repeated = {c for c in classes if count[unified(c)] > 1}
            if repeated:
                raise DataError(f"split {self.name!r} lists {_some(repeated)} more than once in {part!r}")
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            shared = {unified(c) for c in parts[one]} & {unified(c) for c in parts[other]}
            if shared:
                raise DataError(
                    f"split {self.name!r}: {_some(shared)} are in both {one!r} and {other!r}; a class has one part"
                )
        for part in ("train", "test"):
            if not parts[part]:
                raise DataError(f"split {self.name!r} has no classes in {part!r}")
        known = {unified(c) for classes in parts.values() for c in classes}
        if strangers := {c for c in self.words if unified(c) not in known}:
            raise DataError(f"split {self.name!r} has words for {_some(strangers)}, which no part lists")

    def resolve(self, manifest: Manifest) -> Split:
        """The same split under the manifest's own class names.

        Raises DataError naming classes that the manifest lacks, and two of its classes that have one name here.
        """
        own_name: dict[str, str] = {}
        for class_name in manifest.classes:
            if unified(class_name) in own_name:
                raise DataError(
                    f"{manifest.root}: classes {own_name[unified(class_name)]!r} and {class_name!r} are one name here; "
                    "rename one"
                )
            own_name[unified(class_name)] = class_name
        absent = [c for c in (*self.train, *self.val, *self.test) if unified(c) not in own_name]
        if absent:
            raise DataError(
                f"split {self.name!r} names classes that data set {manifest.name!r} ({manifest.root}) does not have: "
                f"{_some(absent)}; take them out of the split file, or add their images"
            )
        parts = {part: tuple(own_name[unified(c)] for c in getattr(self, part)) for part in ("train", "val", "test")}
        return replace(self, **parts, words={own_name.get(unified(c), c): words for c, words in self.words.items()})

    def save(self, path: Path) -> None:
        """Writes the split as a JSON file that `load` reads."""
        content = {
            "name": self.name,
            "source": self.source,
            "words": self.words,
            "train": list(self.train),
            "val": list(self.val),
            "test": list(self.test),
        }
        files.write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def names() -> list[str]:
    """The shipped splits."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name_or_path: str | Path) -> Split:
    """The shipped split of this name, or the one in a JSON file.

    {"train": [...], "val": [...], "test": [...], "words": {...}} is what the file holds; "val" and "words" may lack.
    "pacs_without_A_B" is a split of PACS by its two unseen classes.  "NAME_authors_words" is the shipped split NAME
    with the words that the authors of its class vectors took in the place of names (`words.of_authors`).

    Raises DataError where there is no such split, or where the file is not one.
    """
    if str(name_or_path).startswith("pacs_without_"):
        return pacs(*str(name_or_path).removeprefix("pacs_without_").split("_"))
    if str(name_or_path).endswith(AUTHORS_WORDS):
        split = load(str(name_or_path).removesuffix(AUTHORS_WORDS))
        of_classes = of_authors(split.name, (*split.train, *split.val, *split.test))
        return replace(split, name=split.name + AUTHORS_WORDS, words={**of_classes, **split.words})
    if str(name_or_path).endswith(".json"):
        path = Path(name_or_path)
    elif str(name_or_path) in names():
        path = FOLDER / f"{name_or_path}.json"
    else:
        raise DataError(
            f"there is no split {str(name_or_path)!r}; shipped are {', '.join(names())}; or give the path of a .json "
            "file"
        )
    try:
        path = path.expanduser()
        content = documents.read(path)
        documents.check(content, dict)
        if unknown := set(content) - set(KIND):
            raise documents.DocumentError(f"unknown entries {_some(unknown)}")
        content = {"name": path.stem, "source": "", "words": {}, "val": []} | content
        documents.check(content, KIND)
    except (documents.DocumentError, RuntimeError) as error:  # RuntimeError: ~ of nobody
        raise DataError(f"{path} is no split file ({error}); it needs the lists 'train', 'val' and 'test'") from error
    parts = {part: tuple(content[part]) for part in ("train", "val", "test")}
    words = {c: OURS[c] for classes in parts.values() for c in classes if c in OURS} | content["words"]
    return Split(content["name"], source=content["source"], words=words, **parts)


KIND = {"name": str, "source": str, "words": {str: str}, "train": [str], "val": [str], "test": [str]}  # of a split file


PACS = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")


def pacs(*unseen: str) -> Split:
    """The split of PACS in which these classes are unseen and the others seen; none is left for validation.

    Raises DataError for an unknown class.
    """
    if unknown := set(unseen) - set(PACS):
        raise DataError(f"PACS has no class {_some(unknown)}; it has {', '.join(PACS)}")
    return Split(
        "pacs_without_" + "_".join(unseen),
        tuple(c for c in PACS if c not in unseen),
        (),
        unseen,
        "two of the seven classes unseen",
    )


def draw(classes, seed: int = 0, unseen: float = 0.25, validation: float = 0.125) -> Split:
    """A random split, which depends on the names of the classes and the seed alone.

    unseen, validation   shares of the classes

    Raises DataError for fewer than four classes.
    """
    ordered = sorted(classes)
    n_test, n_val = max(1, round(unseen * len(ordered))), max(1, round(validation * len(ordered)))
    if len(ordered) < n_test + n_val + 2:
        raise DataError(f"{len(ordered)} classes are too few to draw a split from: at least 4 are needed")
    random.Random(seed).shuffle(ordered)
    test, val, train = ordered[:n_test], ordered[n_test : n_test + n_val], ordered[n_test + n_val :]
    return Split(
        f"drawn-seed{seed}",
        tuple(sorted(train)),
        tuple(sorted(val)),
        tuple(sorted(test)),
        source=f"drawn by ucdr_core.data.splits.draw, seed {seed}",
    )


def folds(split: Split, number: int, seed: int = 0) -> list[Split]:
    """`number` splits of the same classes whose test parts partition them.

    Validation has as many classes as the given split's.
    """
    ordered = sorted((*split.train, *split.val, *split.test))
    random.Random(seed).shuffle(ordered)
    result = []
    for fold in range(number):
        test = ordered[fold::number]
        rest = [c for c in ordered if c not in set(test)]
        random.Random(f"{seed}-{fold}").shuffle(rest)
        val, train = rest[: len(split.val)], rest[len(split.val) :]
        result.append(
            Split(
                f"{split.name}_fold{fold}",
                tuple(sorted(train)),
                tuple(sorted(val)),
                tuple(sorted(test)),
                source=f"fold {fold} of {number} over the classes of {split.name}, seed {seed}",
                words=split.words,
            )
        )
    return result


def for_manifest(manifest: Manifest, name_or_path: str | None, seed: int = 0) -> Split:
    """The named split under the manifest's class names; without a name, one is drawn and stored.

    `source` of a drawn split names its file.  Raises what `load` and `resolve` do.
    """
    if name_or_path is not None:
        return load(name_or_path).resolve(manifest)
    path = paths.drawn_splits() / f"{manifest.name}-{manifest.fingerprint}-seed{seed}.json"
    if not path.exists():
        split = draw(manifest.classes, seed)
        try:
            replace(split, name=path.stem, source=f"{split.source}; stored in {path}").save(path)
        except OSError as error:
            raise DataError(f"the drawn split cannot be stored as {path}: {error.strerror or error}") from error
    try:
        return load(path).resolve(manifest)
    except DataError as error:
        raise DataError(f"{error}; remove {path}, and the split is drawn anew") from error


def _some(items, limit: int = 10) -> str:
    items = sorted(items)
    return ", ".join(map(repr, items[:limit])) + (f" and {len(items) - limit} more" if len(items) > limit else "")
