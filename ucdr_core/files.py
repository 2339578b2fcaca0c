"""Files that are whole or not there: written beside their place, flushed to disk, and put there by one rename."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A file to write in the same folder; when the block ends without an error it takes the place of `path`.

    Its content is on the disk before the rename, so that a power cut leaves the former file or the new one.  After an
    error nothing is left behind and `path` is what it was.  Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    partial = Path(name)
    try:
        partial.chmod(0o666 & ~_umask())  # mkstemp's own files are private
        yield partial
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write(path: Path, content: bytes | str) -> None:
    """Writes a whole file, text as UTF-8.  Raises OSError, and then `path` is what it was."""
    with written(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def sync(path: Path) -> None:
    """Flushes what the system holds of a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def allocate(path: Path, size: int) -> None:
    """Makes a file of `size` bytes whose blocks exist on the disk.

    A mapped file without them is killed by SIGBUS when the disk is full; here that is an OSError beforehand, and no
    file is left.
    """
    try:
        with open(path, "wb") as file:
            if size and not _reserved(file.fileno(), size):
                for start in range(0, size, 1 << 20):
                    file.write(bytes(min(1 << 20, size - start)))
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _reserved(handle: int, size: int) -> bool:
    """Whether the system could be asked for the blocks; some file systems have no such call."""
    try:
        os.posix_fallocate(handle, 0, size)
    except AttributeError:
        return False
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return False
        raise
    return True


def sha256(path: Path) -> str:
    """Digest of a file's bytes, 64 hex digits.  Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Damaged(ValueError):
    """A file is not what `seal` wrote under its name; the message says how, and does not name it."""


def seal(path: Path, content: bytes) -> None:
    """Writes a whole file: the SHA-256 of its name and content, and the content.  Raises OSError."""
    write(path, _digest(path, content) + content)


def sealed(path: Path) -> bytes:
    """The content that `seal` wrote.

    Raises Damaged where a bit of it has changed or it stood under another name; OSError, FileNotFoundError too.
    """
    stored = path.read_bytes()
    if not stored:
        raise Damaged("it is empty")
    digest, content = stored[:32], stored[32:]
    if digest != _digest(path, content):
        raise Damaged("it does not match its checksum")
    return content


def _digest(path: Path, content: bytes) -> bytes:
    return hashlib.sha256(os.fsencode(path.name) + b"\0" + content).digest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Of the processes and threads that want this file's lock, one at a time is inside; it ends with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
