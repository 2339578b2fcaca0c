"""Manifest: which images there are.  A table (path, class_name, domain) over one root, a folder or a zip file."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
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
    """

    name: str
    root: Path
    samples: pd.DataFrame
    base: Manifest | None = None
    base_rows: np.ndarray | None = None

    def __post_init__(self):
        missing = [column for column in COLUMNS if column not in self.samples.columns]
        if missing:
            raise DataError(f"manifest {self.name!r} lacks the columns {missing}; it needs {COLUMNS}")
        if self.samples.empty:
            raise DataError(
                f"data set {self.name!r} has no images under {self.root}; expected <domain>/<class>/<image file>"
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
        17 GB data set at each start would cost minutes).
        """
        digest = hashlib.sha256()
        if self.root.is_dir():
            marks = [str((self.root / path).stat().st_size) for path in self.samples.path]
        else:
            checksums = _checksums(self.root, self.root.stat().st_mtime_ns)
            marks = [checksums[path] for path in self.samples.path]
        for values in zip(self.samples.path, self.samples.class_name, self.samples.domain, marks):
            digest.update("\t".join(values).encode() + b"\n")
        return digest.hexdigest()[:16]

    def view(self, name: str, domains: dict[str, list[str]]) -> Manifest:
        """The samples of some domains under other names: {new domain: [domains of this manifest that it pools]}."""
        new_name = {old: new for new, olds in domains.items() for old in olds}
        rows = self.rows(domains=list(new_name))
        samples = self.samples.iloc[rows].reset_index(drop=True)
        samples["domain"] = samples.domain.map(new_name)
        return Manifest(name, self.root, samples, base=self, base_rows=rows)


@lru_cache(maxsize=2)
def _checksums(pack: Path, modified_ns: int) -> dict[str, str]:
    """CRC-32 of each member: read once, since every run asks for the fingerprints of several views."""
    with zipfile.ZipFile(pack) as members:
        return {member.filename: f"{member.CRC:08x}" for member in members.infolist()}
