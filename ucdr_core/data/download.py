"""Fetching archives from their official addresses: resumable, checksummed, unpacked inside their folder only."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path, PurePosixPath

from ucdr_core import paths
from ucdr_core.data.manifest import DataError
from ucdr_core.data.published import PUBLISHED, how_to_get
from ucdr_core.progress import bar as progress_bar

BLOCK = 1 << 20


def download(name: str, root: Path | str | None = None, progress: bool = True) -> list[str]:
    """Fetches and unpacks every archive of a data set that has an address.

    Returns lines to print: what was done, and what a person must do.  An archive that was cut off goes on from where it
    was.  Its SHA-256 is written beside it when it is first whole, and checked afterwards: the publishers give none.
    Raises DataError where an address does not answer, or an archive is damaged or leaves its folder.
    """
    root = (Path(root) if root else paths.data(name)).expanduser().resolve()
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for archive in PUBLISHED[name].archives:
        if not archive.url:
            lines.append(f"{archive.name}: {archive.by_hand}")
            continue
        unpacked = root / f".{archive.name}.unpacked"
        if unpacked.exists():
            lines.append(f"{archive.name}: unpacked before")
            continue
        file = fetch(archive.url, root / archive.name, progress)
        unpack(file, root / archive.into)
        unpacked.write_text(json.loads(_sums(file).read_text())["sha256"] + "\n")
        lines.append(f"{archive.name}: fetched from {archive.url} and unpacked; it may be deleted now")
    return [*lines, how_to_get(name)] if any(not archive.url for archive in PUBLISHED[name].archives) else lines


def fetch(url: str, file: Path, progress: bool = True) -> Path:
    """The file from the address, complete.  Raises DataError where that fails, saying what is kept."""
    if file.exists():
        check(file)
        return file
    partial = file.with_name(file.name + ".partial")
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            if start and answer.status != 206:  # the server does not resume: from the beginning
                start = 0
            total = start + int(answer.headers.get("Content-Length") or 0)
            size = {"total": total or None, "initial": start, "unit": "B", "unit_scale": True}
            with (
                open(partial, "ab" if start else "wb") as out,
                progress_bar(**size, desc=file.name, disable=not progress) as bar,
            ):
                while block := answer.read(BLOCK):
                    out.write(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing is left to send, the partial file is whole
            raise DataError(
                f"{url} answers {error.code} {error.reason}; what was fetched stays in {partial}"
            ) from error
        total = start
    except (urllib.error.URLError, OSError) as error:
        raise DataError(f"{url} could not be fetched ({error}); the same command goes on from {partial}") from error
    if total and partial.stat().st_size != total:
        raise DataError(
            f"{url} was cut off at {partial.stat().st_size:,} of {total:,} bytes; the same command goes on from "
            f"{partial}"
        )
    partial.replace(file)
    _write_sums(file, url)
    return file


def check(file: Path) -> None:
    """Raises DataError where the file is not what it was when it was first whole."""
    sums = _sums(file)
    if not sums.exists():
        _write_sums(file, "laid here by hand")
    elif json.loads(sums.read_text())["sha256"] != _sha256(file):
        raise DataError(
            f"{file} has changed since it was fetched (its SHA-256 differs from {sums.name}); delete both and fetch "
            "again"
        )


def unpack(file: Path, folder: Path) -> None:
    """Unpacks a .zip or .tar archive.

    Raises DataError where a member would leave the folder, before anything is written, and where it is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as pack:
                for member in pack.infolist():
                    _inside(member.filename, file, link=(member.external_attr >> 16) & 0o170000 == 0o120000)
                pack.extractall(folder)
        elif tarfile.is_tarfile(file):
            with tarfile.open(file) as pack:
                for member in pack:
                    _inside(member.name, file, link=member.issym() or member.islnk() or member.isdev())
                pack.extractall(folder, filter="data")
        else:
            raise DataError(f"{file} is no .zip or .tar archive; unpack it by hand into {folder}")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, shutil.ReadError) as error:
        raise DataError(f"{file} is damaged ({error}); delete it and fetch it again") from error


def _inside(member: str, file: Path, link: bool) -> None:
    path = PurePosixPath(member.replace("\\", "/"))
    if link or path.is_absolute() or ".." in path.parts or ":" in (path.parts[0] if path.parts else ""):
        raise DataError(
            f"{file} holds {member!r}, which {'is a link' if link else 'would leave its folder'}; it was not unpacked"
        )


def _sums(file: Path) -> Path:
    return file.with_name(file.name + ".sha256.json")


def _write_sums(file: Path, url: str) -> None:
    _sums(file).write_text(json.dumps({"sha256": _sha256(file), "bytes": file.stat().st_size, "url": url}) + "\n")


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
