"""`ucdr evaluate`: the metrics on anyone's embeddings."""

from __future__ import annotations

import io
import json
import math
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from ucdr_core.data import DataError
from ucdr_core.retrieval import evaluate

ARRAYS = ("embeddings", "labels")
HEADER = 1 << 16  # bytes at most; NumPy's own are a few hundred
DEFLATED = 1032  # no deflated byte stands for more


def add_evaluate(parser) -> None:
    parser.add_argument("--query", required=True, type=Path)
    parser.add_argument("--gallery", required=True, type=Path)
    parser.add_argument("--distance", choices=["euclidean", "cosine"], default="euclidean")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(do=_evaluate)


def _evaluate(options) -> None:
    queries, query_labels = read_embeddings(options.query)
    gallery, gallery_labels = read_embeddings(options.gallery)
    try:
        scores = evaluate(
            queries, query_labels, gallery, gallery_labels, options.distance, progress=sys.stderr.isatty()
        )
    except ValueError as error:
        raise DataError(f"{error} (query {options.query}, gallery {options.gallery})") from error
    if scores.without_relevant:
        print(
            f"ucdr evaluate: {scores.without_relevant} of {len(queries)} queries have no relevant item in the gallery "
            "and score 0",
            file=sys.stderr,
        )
    if options.json:
        counts = {"queries": len(queries), "gallery": len(gallery), "queries_without_relevant": scores.without_relevant}
        print(json.dumps({**scores.mean, **counts, "distance": options.distance, "arithmetic": scores.arithmetic}))
    else:
        for name, value in scores.mean.items():
            print(f"{name:12} {value:.4f}")


def read_embeddings(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Arrays `embeddings` and `labels` of an .npz file, pickles refused.

    Their sizes are read and compared before memory is taken.  Raises DataError saying what is wrong with the file.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if not path.is_file():
        raise DataError(f"{path} is no file")
    with open(path, "rb") as file:
        if file.read(6) == np.lib.format.MAGIC_PREFIX:
            raise DataError(f"{path} is one array, not an .npz file with `embeddings` and `labels` (numpy.savez)")
        with _told(f"{path} is no .npz file, or is cut off"), zipfile.ZipFile(file) as archive:
            members = _members(archive, path)
            headers = {name: _header(archive, member, path) for name, member in members.items()}
            needed = sum(math.prod(shape) * kind.itemsize for shape, kind in headers.values())
            if needed > (available := _available_memory()):
                raise DataError(
                    f"{path} holds {needed / 1e9:,.1f} GB of arrays, and {available / 1e9:,.1f} GB of memory are free; "
                    "evaluate the queries in parts"
                )
            embeddings, labels = (_array(archive, members[name], path) for name in ARRAYS)
            return embeddings, labels


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The two arrays' entries, each of which is there once, is not encrypted and can be as large as it says."""
    listed = [member.filename.removesuffix(".npy") for member in archive.infolist()]
    if missing := [name for name in ARRAYS if name not in listed]:
        raise DataError(f"{path} lacks {' and '.join(missing)}; it has {', '.join(listed[:10]) or 'nothing'}")
    if twice := [name for name in ARRAYS if listed.count(name) > 1]:
        raise DataError(f"{path} holds {' and '.join(twice)} more than once; save it anew")
    members = {name: archive.infolist()[listed.index(name)] for name in ARRAYS}
    for name, member in members.items():
        if member.flag_bits & 0x1:
            raise DataError(f"{path} is encrypted; save it without a password")
        if member.compress_type == zipfile.ZIP_DEFLATED and member.file_size > DEFLATED * (member.compress_size + 1):
            raise DataError(f"{path} is damaged ({member.compress_size} bytes cannot hold {name})")
    return members


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and kind of an array, which agree with the size of its entry."""
    with _told(f"{path} is damaged: {member.filename} cannot be read"), archive.open(member) as content:
        start = io.BytesIO(content.read(HEADER))
        version = np.lib.format.read_magic(start)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(start)
    if kind.hasobject:
        raise DataError(f"{path} holds pickled objects, which are not read; save plain numbers and text")
    if kind.kind == "V":
        raise DataError(f"{path}: {member.filename} is of kind {kind}; save plain numbers and text")
    size = start.tell() + math.prod(shape) * kind.itemsize
    if min(shape, default=0) < 0 or size != member.file_size:
        raise DataError(f"{path} is damaged: {member.filename} has {member.file_size:,} bytes, not {size:,} as it says")
    return shape, kind


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> np.ndarray:
    with _told(f"{path} is damaged: {member.filename} cannot be read"), archive.open(member) as content:
        array = np.lib.format.read_array(content, allow_pickle=False)
        content.read(1)  # at its end the checksum is compared
        return array


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turns any error of reading a file that may be anything into a DataError of one line."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib, lzma, struct, ast and NumPy raise many kinds
        told = str(error).partition(": <ast")[0]  # no object of ours by its address
        raise DataError(f"{what} ({told or type(error).__name__})") from error


CGROUPS = (  # what a container may have and has, in versions 2 and 1; the cache of files can be given up
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def _available_memory(root: Path = Path("/")) -> int:
    """Bytes that can be had without swapping, by the machine and by the container's limit."""
    try:
        available = _entries(root / "proc/meminfo")["MemAvailable:"] * 1024
    except (OSError, ValueError, KeyError):
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, used, given_up in CGROUPS:
        folder = root / "sys/fs/cgroup"
        with suppress(OSError, ValueError, KeyError):
            most, now = (int((folder / name).read_text()) for name in (limit, used))
            available = min(available, most - now + _entries((folder / used).with_name("memory.stat"))[given_up])
    return max(0, available)


def _entries(path: Path) -> dict[str, int]:
    """A file of a name and a whole number in each line."""
    return {name: int(value) for name, value, *_ in map(str.split, path.read_text().splitlines())}
