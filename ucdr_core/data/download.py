"""Fetching archives from their official addresses: resumable, checksummed, unpacked inside their folder only."""

from __future__ import annotations

import errno
import fcntl
import http.client
import json
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ucdr_core import documents, files, paths
from ucdr_core.data.manifest import DataError
from ucdr_core.data.published import PUBLISHED, how_to_get
from ucdr_core.progress import bar as progress_bar

BLOCK = 1 << 20
TIMEOUT_SECONDS = 60.0  # without a byte
PAUSES_SECONDS = (0.0, 2.0, 10.0)  # before each attempt
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that may be others the next time
DAMAGED = (  # what the standard library's readers raise on archives that were altered
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    OverflowError,
    RuntimeError,
)


def download(name: str, root: Path | str | None = None, progress: bool = True) -> list[str]:
    """Fetches and unpacks every archive of a data set that has an address.

    Returns lines to print: what was done, and what a person must do.  An archive that was cut off goes on from where it
    was.  Its SHA-256 is written beside it when it is first whole, and checked afterwards: the publishers give none.
    Raises DataError where an address does not answer, or an archive is damaged, leaves its folder, or holds another
    file than the one that stands in its place.
    """
    root = paths.resolved(root) if root else paths.data(name)
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for archive in PUBLISHED[name].archives:
        if not archive.url:
            lines.append(f"{archive.name}: {archive.by_hand}")
            continue
        unpacked = root / f".{archive.name}.unpacked"
        if unpacked.is_file() and re.fullmatch(r"[0-9a-f]{64}\n", unpacked.read_text(errors="replace")):
            lines.append(f"{archive.name}: unpacked before (delete {unpacked} to do it again)")
            continue
        file = fetch(archive.url, root / archive.name, progress)
        unpack(file, root / archive.into)
        os.sync()  # the pictures are on the disk before the line that says so
        files.write(unpacked, _stated_sum(file)["sha256"] + "\n")
        lines.append(f"{archive.name}: fetched from {archive.url} and unpacked; it may be deleted now")
    return [*lines, how_to_get(name)] if any(not archive.url for archive in PUBLISHED[name].archives) else lines


# --------------------------------------------------------------------------------------------------------------- fetch


@dataclass(frozen=True)
class Origin:
    """Where a partial file comes from; it is kept beside it.

    validator  the strong ETag or the Last-Modified of what was sent, or "": then a transfer cannot be resumed
    total      bytes of the whole, where the server says so
    """

    url: str
    validator: str = ""
    total: int | None = None


class Again(Exception):
    """Why an attempt failed that another may mend."""


def fetch(url: str, file: Path, progress: bool = True) -> Path:
    """The file from the address, complete.

    What was cut off goes on from `FILE.partial`, if the server says that it is still the same file; else it begins
    anew.  A file of that name that no fetch from this address has made is set aside.  Raises DataError where the
    address does not give the file, saying what is kept.
    """
    if file.exists():
        check(file)
        return file
    partial = file.with_name(file.name + ".partial")
    beside = partial.with_name(partial.name + ".json")
    with _owned(partial, beside, url) as out:
        why = ""
        for pause in PAUSES_SECONDS:
            time.sleep(pause)
            try:
                _attempt(url, out, partial, beside, progress)
                break
            except Again as error:
                why = str(error)
        else:
            raise DataError(f"{url} could not be fetched: {why}; the same command goes on from {partial}")
        os.fsync(out.fileno())
        partial.replace(file)
    beside.unlink(missing_ok=True)
    _write_sum(file, url)
    return file


def _owned(partial: Path, beside: Path, url: str) -> IO[bytes]:
    """The partial file of this address, open for appending, into which no other process fetches."""
    if os.path.lexists(partial) and (partial.is_symlink() or not partial.is_file()):
        partial.rename(paths.numbered(partial))
    out = open(partial, "ab")
    try:
        fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(out.fileno()).st_ino != partial.stat().st_ino:
            raise FileNotFoundError  # it has become the whole file meanwhile
    except (BlockingIOError, FileNotFoundError):
        out.close()
        raise DataError(f"another process fetches into {partial}; wait for it, or end it") from None
    if out.seek(0, os.SEEK_END) and _origin(beside).url != url:
        partial.rename(paths.numbered(partial))
        out.close()
        return _owned(partial, beside, url)
    return out


def _attempt(url: str, out: IO[bytes], partial: Path, beside: Path, progress: bool) -> None:
    """Fetches what is missing of the partial file.  Raises Again where that failed and may not the next time."""
    origin, start = _origin(beside), out.seek(0, os.SEEK_END)
    if start and start == origin.total and origin.url == url:
        return  # it ended between the last byte and its renaming
    headers = {"Accept-Encoding": "identity"}
    if resumed := bool(start and origin.url == url and origin.validator and start < (origin.total or start + 1)):
        headers |= {"Range": f"bytes={start}-", "If-Range": origin.validator}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and resumed:  # the partial file is none of what the server has now
            _restart(out)
            raise Again(f"it no longer has byte {start:,}") from error
        if error.code in PASSING:
            raise Again(f"it answers {error.code} {error.reason}") from error
        raise DataError(f"{url} answers {error.code} {error.reason}; what was fetched stays in {partial}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Again(_reason(error)) from error
    with answer:
        _refuse_other_kinds(url, answer, partial)
        said, first = _said(url, answer)
        if answer.status not in (200, 206) or not resumed and first:
            raise DataError(f"{url} answers {answer.status} {answer.reason}, not with the whole file")
        same = said.validator == origin.validator and origin.total in (None, said.total)
        if resumed and answer.status == 206 and (first != start or not same):
            _restart(out)
            raise Again("it sent other bytes than were asked for, or those of another file")
        if said.total and shutil.disk_usage(partial.parent).free < said.total - start:
            raise DataError(f"{url} has {said.total:,} bytes, for which {partial.parent} has no space; free some")
        blocks = _blocks(answer)
        block = next(blocks, b"")
        if not first:
            if re.match(rb"\s*<(!doctype html|html)", block, re.IGNORECASE):
                raise DataError(_web_page(url, partial))
            if block or not said.total:  # nothing was sent: what there is may still be gone on with
                _restart(out)
                files.write(beside, json.dumps(asdict(said)) + "\n")
        size = {"total": said.total, "initial": first, "unit": "B", "unit_scale": True}
        with progress_bar(**size, desc=partial.stem, disable=not progress) as bar:
            while block:
                try:
                    out.write(block)
                    out.flush()
                except OSError as error:
                    raise DataError(f"{partial}: {error.strerror}; the same command goes on from it") from error
                bar.update(len(block))
                block = next(blocks, b"")
    there = out.seek(0, os.SEEK_END)
    if not there:
        raise Again("it sends nothing")
    if said.total and there < said.total:
        raise Again(f"it was cut off at {there:,} of {said.total:,} bytes")
    if said.total and there > said.total:
        _restart(out)
        raise Again(f"it sent more than the {said.total:,} bytes that it has")
    if said.total is None and not answer.chunked and not _is_whole(partial):
        raise DataError(
            f"{url} does not say how long it is, and what it sent is no whole archive; fetch it by other means to "
            f"{partial.with_suffix('')}"
        )


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """What the server sends, as it comes.  Raises Again where the connection breaks or stalls."""
    try:
        while block := answer.read1(BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise Again(f"it was cut off ({_reason(error)})") from error


def _said(url: str, answer: http.client.HTTPResponse) -> tuple[Origin, int]:
    """What an answer says of the whole file, and which byte its first is."""
    total, first = answer.length, 0
    if answer.status == 206:
        stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", "").strip())
        first, total = (int(stated[1]), int(stated[2])) if stated else (0, None)
    return Origin(url, _validator(answer.headers), total), first


def _validator(headers: http.client.HTTPMessage) -> str:
    """The strong ETag, or a Last-Modified that lies a second or more before the answer: the file may have been changed
    twice in the same second (RFC 9110, 8.8.2.2)."""
    if (tag := headers.get("ETag", "")) and not tag.startswith("W/"):
        return tag
    modified = headers.get("Last-Modified", "")
    try:
        age = parsedate_to_datetime(headers["Date"]) - parsedate_to_datetime(modified)
        return modified if age.total_seconds() >= 1 else ""
    except (TypeError, ValueError):
        return ""


def _refuse_other_kinds(url: str, answer: http.client.HTTPResponse, partial: Path) -> None:
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise DataError(
            f"{url} sends its bytes encoded ({encoding}) although plain ones were asked for; fetch it by other means "
            f"to {partial.with_suffix('')}"
        )
    if answer.headers.get_content_type() == "text/html":
        raise DataError(_web_page(url, partial))


def _web_page(url: str, partial: Path) -> str:
    return (
        f"{url} answers with a web page, not with an archive; open it in a browser, do what it asks for, and save the "
        f"archive as {partial.with_suffix('')}"
    )


def _restart(out: IO[bytes]) -> None:
    out.truncate(0)
    out.seek(0)


def _origin(beside: Path) -> Origin:
    try:
        content = documents.read(beside)
        documents.check(content, {"url": str, "validator": str, "total": (int, type(None))})
        return Origin(content["url"], content["validator"], content["total"])
    except documents.DocumentError:
        return Origin("")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error or type(error).__name__)


def _is_whole(file: Path) -> bool:
    try:
        with _opened(file) as members:
            for member in members:
                with member.open() as stream:
                    while stream.read(BLOCK):
                        pass
        return True
    except (DataError, *DAMAGED, OSError):
        return False


# ----------------------------------------------------------------------------------------------------------------- sum


def check(file: Path) -> None:
    """Raises DataError where the file is not what it was when it was first whole."""
    if not _sum_file(file).exists():
        _write_sum(file, "laid here by hand")
        return
    stated = _stated_sum(file)
    if stated["bytes"] != file.stat().st_size or stated["sha256"] != files.sha256(file):
        raise DataError(
            f"{file} has changed since it was fetched (its SHA-256 differs from {_sum_file(file).name}); delete both "
            "and fetch again"
        )


def _sum_file(file: Path) -> Path:
    return file.with_name(file.name + ".sha256.json")


def _stated_sum(file: Path) -> dict[str, Any]:
    try:
        content = documents.read(_sum_file(file))
        documents.check(content, {"sha256": str, "bytes": int})
        return content
    except documents.DocumentError as error:
        raise DataError(
            f"{_sum_file(file)} is damaged: {error}; delete it to take {file.name} as it is, or delete both to fetch "
            "again"
        ) from error


def _write_sum(file: Path, url: str) -> None:
    stated = {"sha256": files.sha256(file), "bytes": file.stat().st_size, "url": url}
    files.write(_sum_file(file), json.dumps(stated) + "\n")


# -------------------------------------------------------------------------------------------------------------- unpack


@dataclass(frozen=True)
class Member:
    """A file of an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(file: Path, folder: Path) -> None:
    """Unpacks a .zip or .tar archive; each file is there whole or not at all.

    Files that are there with the same content stay, so that an unpacking that was cut off goes on.  Raises DataError
    before anything is written where a member would leave the folder, is no plain file, stands twice, has the place of
    another file that is there, or where the disk has no space for them; and where the archive is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _opened(file) as members:
            targets = _targets(members, file, folder)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking.") as scratch:
                for target, member in targets.items():
                    if not _is_there(target, member, file):
                        _write(member, target, Path(scratch) / "file", file)
    except DataError:
        raise
    except DAMAGED as error:
        raise _damage(file, str(error)) from error
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # of bz2 and gzip; a zip's list that points before its file
            raise _damage(file, str(error)) from error
        raise


@contextmanager
def _opened(file: Path) -> Iterator[Iterator[Member]]:
    """The files of an archive.  Raises DataError for another kind of file, and for a member that is no plain one."""
    with open(file, "rb") as stream:
        start = stream.read(6)
    # Not by LZMA: a few bytes of it make Python take 4 GB, and no data set is packed so.
    mode = "r:gz" if start.startswith(b"\x1f\x8b") else "r:bz2" if start.startswith(b"BZh") else "r:"
    try:
        pack_or_none = tarfile.open(file, mode)  # type: ignore[call-overload]
    except tarfile.ReadError:
        pack_or_none = None
    if pack_or_none is not None:
        with pack_or_none as pack:
            yield _of_tar(pack, file)
    elif zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as pack:
            yield _of_zip(pack, file)
    else:
        raise DataError(f"{file} is no .zip, .tar, .tar.gz or .tar.bz2 archive; delete it, or unpack it by hand")


def _of_tar(pack: tarfile.TarFile, file: Path) -> Iterator[Member]:
    for info in pack:
        if not (info.isreg() or info.isdir()):
            raise _refusal(file, info.name, "is a link or a special file")
        if info.isreg():
            yield Member(info.name, info.size, lambda info=info: pack.extractfile(info))  # type: ignore[misc]
    stream = pack.fileobj
    assert stream is not None  # the archive is open
    stream.seek(pack.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # `tarfile` ends at a damaged header, in silence
        raise tarfile.ReadError(f"no member and no end at byte {pack.offset:,}")
    while stream.read(BLOCK):  # to the checksum of what is compressed
        pass


def _of_zip(pack: zipfile.ZipFile, file: Path) -> Iterator[Member]:
    with open(file, "rb") as stream:
        stream.seek(-min(file.stat().st_size, 22 + 0xFFFF), os.SEEK_END)
        end = stream.read()
    (stated,) = struct.unpack_from("<H", end, end.rindex(b"PK\5\6") + 10)
    if stated not in (0xFFFF, len(pack.infolist()) & 0xFFFF):  # `zipfile` does not look at it
        raise zipfile.BadZipFile(f"it lists {len(pack.infolist()):,} members where it says {stated:,}")
    for info in pack.infolist():
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refusal(file, info.filename, "is a link or a special file")
        if info.flag_bits & 1:
            raise _refusal(file, info.filename, "is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
            raise _refusal(file, info.filename, "is compressed in a way that is not read")
        if not info.is_dir():
            yield Member(info.filename, info.file_size, lambda info=info: pack.open(info))  # type: ignore[misc]


def _refusal(file: Path, name: str, why: str) -> DataError:
    shown = repr(name) if len(name) < 200 else f"{name[:200]!r}..."
    return DataError(f"{file} holds {shown}, which {why}; it was not unpacked")


def _damage(file: Path, reason: str) -> DataError:
    return DataError(f"{file} is damaged ({reason[:200]}); delete it and fetch it again")


def _targets(members: Iterable[Member], file: Path, folder: Path) -> dict[Path, Member]:
    """Where each member goes.  Raises DataError for one that must not go there."""
    folder = folder.resolve()
    free = shutil.disk_usage(folder).free
    targets: dict[Path, Member] = {}
    parents: set[Path] = set()
    for member in members:
        path = PurePosixPath(member.name.replace("\\", "/"))
        if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in member.name:
            raise _refusal(file, member.name, "would leave its folder")
        target = folder / PurePosixPath(member.name)
        if max(len(os.fsencode(part)) for part in path.parts) > 255 or len(os.fsencode(target)) > 4000:
            raise _refusal(file, member.name, "has a name that is too long")
        if target in targets:
            raise _refusal(file, member.name, "stands there twice")
        if target.parent not in parents:
            if not target.parent.resolve().is_relative_to(folder):
                raise _refusal(file, member.name, f"would leave its folder by a link in {target.parent}")
            parents.update(parent for parent in target.parents if parent.is_relative_to(folder))
        targets[target] = member
        free -= 0 if _is_there(target, member, file) else member.size
        if free < 0:
            raise DataError(f"{file} is larger than the free space of {folder} when unpacked; free some")
    for parent in parents:
        if parent in targets or parent.exists() and not parent.is_dir():
            raise _refusal(file, parent.relative_to(folder).as_posix(), "is a folder where a file is")
    return targets


def _is_there(target: Path, member: Member, file: Path) -> bool:
    """Whether the file is there with this content.  Raises DataError where it is another."""
    if not os.path.lexists(target):
        return False
    if target.is_file() and not target.is_symlink() and target.stat().st_size == member.size:
        with open(target, "rb") as there, member.open() as stream:
            while (block := stream.read(BLOCK)) == there.read(len(block) or 1):
                if not block:
                    return True
    raise DataError(
        f"{target} is there, and is another than {file.name} holds; it was not unpacked: move that file, or give an "
        "empty folder"
    )


def _write(member: Member, target: Path, partial: Path, file: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as stream, open(partial, "wb") as out:
        shutil.copyfileobj(stream, out, BLOCK)
        if out.tell() != member.size:
            raise _damage(file, f"{member.name!r} is cut off")
    partial.rename(target)
