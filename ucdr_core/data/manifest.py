"""Manifest: which images there are.  A table (path, class_name, domain) over one root, a folder or a zip file."""

from __future__ import annotations

import hashlib
import os
import unicodedata
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ["path", "class_name", "domain"]
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


class DataError(ValueError):
    """What is wrong with the data, where, and what to do about it."""


@dataclass(frozen=True, eq=False)
class Manifest:
    """Samples of one data set, sorted by path, so that nothing depends on the order of a directory listing.

    `base_rows` places the samples in the table of `base`, the data set that this one is a view of: decoded images and
    trunk features are cached once per base.  A manifest that is no view is its own base.
    left_out    {reason: paths} of what stands under the root and is no sample
    """

    name: str
    root: Path
    samples: pd.DataFrame
    base: Manifest | None = None
    base_rows: np.ndarray | None = None
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self):
        missing = [column for column in COLUMNS if column not in self.samples.columns]
        if missing:
            raise DataError(f"manifest {self.name!r} lacks the columns {missing}; it needs {COLUMNS}")
        if self.samples.empty:
            left_out = "; ".join(left_out_lines(self.left_out))
            raise DataError(
                f"data set {self.name!r} has no images under {self.root}; expected <domain>/<class>/<image file>"
                + (f" ({left_out})" if left_out else "")
            )
        twice = self.samples.path[self.samples.path.duplicated()]
        if len(twice):
            raise DataError(f"data set {self.name!r} lists {twice.iloc[0]!r} twice")

    @cached_property
    def domains(self) -> list[str]:
        return sorted(self.samples.domain.unique())

    @cached_property
    def classes(self) -> list[str]:
        return sorted(self.samples.class_name.unique())

    def __len__(self) -> int:
        return len(self.samples)

    def check_domain(self, domain: str) -> None:
        """Raises DataError where no sample has this domain."""
        if domain not in self.domains:
            raise DataError(f"data set {self.name!r} has no domain {domain!r}; it has {', '.join(self.domains)}")

    def rows(self, domains=None, classes=None) -> np.ndarray:
        """Sorted row numbers (n,) of the samples of these domains and classes; None means all."""
        keep = np.ones(len(self), bool)
        if domains is not None:
            for domain in domains:
                self.check_domain(domain)
            keep &= self.samples.domain.isin(list(domains)).to_numpy()
        if classes is not None:
            keep &= self.samples.class_name.isin(list(classes)).to_numpy()
        return np.flatnonzero(keep)

    def counts(self) -> pd.DataFrame:
        """Images per domain (rows) and class (columns)."""
        return pd.crosstab(self.samples.domain, self.samples.class_name)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the list of samples, their labels, and their content.

        Content means the members' CRC-32 in a zip file, and the sizes of the files in a folder (reading every byte of a
        17 GB data set at each start would cost minutes).  `images.contents` sees an edit that keeps the size.
        """
        digest = hashlib.sha256()
        if self.root.is_dir():
            marks = [str(size) for size in self.stamps()[:, 0].tolist()]
        else:
            marks = [f"{checksum:08x}" for checksum, _ in self.members()]
        for values in zip(self.samples.path, self.samples.class_name, self.samples.domain, marks):
            digest.update("\t".join(values).encode(errors="surrogateescape") + b"\n")
        return digest.hexdigest()[:16]

    def stamps(self) -> np.ndarray:
        """(n, 3) int64 of the files in a folder as they are now: `stamp`.  Raises DataError naming one that is gone."""
        try:
            return np.array([stamp(self.root / path) for path in self.samples.path], np.int64)
        except OSError as error:
            raise DataError(f"{printable(error.filename)} is gone since it was listed ({error.strerror})") from error

    def members(self) -> list[tuple[int, int]]:
        """(CRC-32, size in bytes) of each sample in a zip file.  Raises DataError where the file is damaged."""
        try:
            known = _members(self.root, self.root.stat().st_mtime_ns)
            return [known[path] for path in self.samples.path]
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.root} is damaged ({error}); install it again") from error

    def view(self, name: str, domains: dict[str, list[str]]) -> Manifest:
        """The samples of some domains under other names: {new domain: [domains of this manifest that it pools]}."""
        new_name = {old: new for new, olds in domains.items() for old in olds}
        rows = self.rows(domains=list(new_name))
        samples = self.samples.iloc[rows].reset_index(drop=True)
        samples["domain"] = samples.domain.map(new_name)
        return Manifest(name, self.root, samples, base=self, base_rows=rows)


@lru_cache(maxsize=2)
def _members(pack: Path, modified_ns: int) -> dict[str, tuple[int, int]]:
    """CRC-32 and size of each member: read once, since every run asks for the fingerprints of several views."""
    with zipfile.ZipFile(pack) as members:
        return {member.filename: (member.CRC, member.file_size) for member in members.infolist()}


def stamp(path: Path) -> tuple[int, int, int]:
    """Size in bytes, time of change, and time of change of the file's entry, both in ns: a program that edits a file
    can put back the first two and not the third.  Raises OSError.
    """
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


# ------------------------------------------------------------------------------------------------------------- listing

BAD_NAME = "a name that is not UTF-8 or has a control character"
NO_PICTURE = "no picture"


def why_left_out(entry: os.DirEntry, root: Path) -> str:
    """Why a file is no sample; "" where it is a picture by its name, or a link to one that stays under the root."""
    if not is_plain(entry.name):
        return BAD_NAME
    if Path(entry.name).suffix.lower() not in IMAGE_SUFFIXES:
        return NO_PICTURE
    try:
        if entry.is_symlink() and not Path(os.path.realpath(entry.path, strict=True)).is_relative_to(root):
            return "a link out of the folder"
        return "" if entry.is_file() else NO_PICTURE
    except OSError:
        return "a link that leads nowhere"


def pictures(root: Path, depth: int | None = None) -> tuple[list[str], dict[str, list[str]]]:
    """(paths of the pictures below a folder, {reason: paths} of what else is there); links to folders are not followed.

    depth  pictures stand so many levels down; None: anywhere

    Hidden files and folders are passed over.
    """
    found: list[str] = []
    left_out: dict[str, list[str]] = defaultdict(list)
    folders = [(root, 1)]
    while folders:
        folder, level = folders.pop()
        try:
            with os.scandir(folder) as entries:
                visible = sorted((one for one in entries if not one.name.startswith(".")), key=lambda one: one.name)
        except OSError as error:
            left_out[f"cannot be opened ({error.strerror})"].append(folder.relative_to(root).as_posix())
            continue
        for entry in visible:
            path = Path(entry.path)
            if _is_folder(entry) and level != depth:
                reason = "" if is_plain(entry.name) else BAD_NAME
                reason = reason or ("a link to a folder" if entry.is_symlink() else "")
                if not reason:
                    folders.append((path, level + 1))
                    continue
            else:
                reason = why_left_out(entry, root)
                if depth in (None, level) and not reason:
                    found.append(path.relative_to(root).as_posix())
                    continue
                if depth not in (None, level) and path.suffix.lower() not in IMAGE_SUFFIXES:
                    continue  # a README beside the folders
            left_out[reason or f"not {depth} levels down"].append(path.relative_to(root).as_posix())
    return found, {reason: sorted(paths) for reason, paths in left_out.items()}


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_plain(name: str) -> bool:
    """Whether a name can be written in UTF-8 and on one line."""
    return name.isprintable() or not {unicodedata.category(c) for c in name} & {"Cc", "Cs", "Zl", "Zp"}


def printable(path: Path | str) -> str:
    """A path as one line of UTF-8, whatever bytes it is made of."""
    return str(path) if is_plain(str(path)) else repr(str(path))[1:-1]


NAMED = 20  # files that a line names


def left_out_lines(left_out: dict[str, list[str]]) -> list[str]:
    """One line for each reason: how many, under which folders, and their names, up to NAMED.

    >>> left_out_lines({"no picture": ["photo/cat/notes.txt"]})
    ['left out, no picture: 1 (photo: 1): photo/cat/notes.txt']
    """
    lines = []
    for reason, paths in left_out.items():
        tops = Counter(path.split("/")[0] for path in paths).most_common(4)
        listed = ", ".join(f"{printable(top)}: {count:,}" for top, count in tops)
        named = ", ".join(map(printable, paths[:NAMED]))
        named += f" and {len(paths) - NAMED:,} more" if paths[NAMED:] else ""
        lines.append(f"left out, {reason}: {len(paths):,} ({listed}): {named}")
    return lines
