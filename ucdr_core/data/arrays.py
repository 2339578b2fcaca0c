"""Arrays on disk whose rows say what they were made of and have a checksum: what cannot be trusted is made again."""

from __future__ import annotations

import io
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ucdr_core import files
from ucdr_core.data.manifest import DataError, printable
from ucdr_core.progress import bar as progress_bar

SAVE_SECONDS = 5.0
ORIGIN = 16  # bytes that say what a row was made of; all 0: it is not made
Make = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

# Rows whose checksums this process has looked at, by the state of their file: runs of one process look once.
_looked_at: dict[tuple, np.ndarray] = {}


class CheckedArray:
    """An array (n, ...) on disk, indexed as one in memory.

    path     of the array, a .npy file; beside it is .sums: what each row was made of, and its CRC-32
    origins  (n, 16) uint8, what each row should be made of
    make     rows (k,) -> (those of them that could be made (j,), their values (j, ...))
    batch    how many rows are made at once
    title    of the progress bar; "" shows none

    A checksum is looked at when its row is first read in a process; a row that does not match is made again, and that
    is said.  A file without checksums, or of another shape, is made anew.
    given_up (n,) bool, rows that need not be made: they are 0.
    """

    def __init__(self, path: Path, origins: np.ndarray, make: Make, batch: int, title: str = ""):
        self.path, self._origins, self._make, self._batch, self._title = path, origins, make, batch, title
        self.given_up = np.zeros(len(origins), bool)
        self._open()

    # ------------------------------------------------------------------------------------------------- reading

    def __len__(self) -> int:
        return len(self._origins)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def state(self) -> tuple:
        """Changes with the file."""
        return self._state

    def __getitem__(self, rows) -> np.ndarray:
        """Raises DataError where a damaged row cannot be made again."""
        if not self._looked_at.all():
            self._look_at(np.atleast_1d(np.arange(len(self))[rows[0] if isinstance(rows, tuple) else rows]).ravel())
        return self._array[rows]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self[:], dtype)

    def missing(self) -> np.ndarray:
        """Rows (k,) that are not made, or were made of something else."""
        return np.flatnonzero((self._made != self._origins).any(1) & ~self.given_up)

    def _look_at(self, rows: np.ndarray) -> None:
        rows = np.unique(rows[~self._looked_at[rows]])
        if len(stale := self._stale(rows)):
            print(
                f"{self.path.name}: {len(stale)} of {len(self)} rows do not match their checksums; they are made again "
                "(has a disk or another program changed them?)",
                flush=True,
            )
            self.fill(stale)
            if len(left := self._stale(stale)):
                raise DataError(f"{self.path}: row {left[0]} is damaged and could not be made again; remove the file")
        self._looked_at[rows] = True

    def _stale(self, rows: np.ndarray) -> np.ndarray:
        """Those of the rows that are not made of their origins, or do not match their checksums."""
        if self._array is None:
            return rows
        is_stale = (self._made[rows] != self._origins[rows]).any(1)
        for place in np.flatnonzero(~is_stale).tolist():
            is_stale[place] = zlib.crc32(self._array[rows[place]]) != self._sums[rows[place]]
        return rows[is_stale & ~self.given_up[rows]]

    # ------------------------------------------------------------------------------------------------- making

    def fill(self, rows: np.ndarray) -> None:
        """Makes the rows; what is made stays when the work is cut off.

        Of the processes that want it one makes it.  Raises DataError where the disk is full or cannot be written, and
        what `make` does.
        """
        if not len(rows):
            return
        with written_to(self.path), files.locked(self.path.with_suffix(".lock")):
            if why := self._open():
                print(f"{self.path.name}: {why}; it is made anew", flush=True)
            stale, saved = self._stale(rows), time.monotonic()
            try:
                with progress_bar(
                    total=len(self),
                    initial=len(self) - len(stale),
                    desc=self._title,
                    unit="img",
                    disable=not self._title,
                ) as bar:
                    for start in range(0, len(stale), self._batch):
                        made, values = self._make(stale[start : start + self._batch])
                        self._store(made, values)
                        bar.update(len(stale[start : start + self._batch]))
                        if time.monotonic() - saved > SAVE_SECONDS:
                            self._save()
                            saved = time.monotonic()
            finally:
                self._save()
                self._open()

    def _store(self, rows: np.ndarray, values: np.ndarray) -> None:
        if self._array is None:
            self._create(values)
        with open(self.path, "r+b") as file:
            for row, value in zip(rows.tolist(), np.ascontiguousarray(values, self.dtype)):
                file.seek(len(self._header) + row * value.nbytes)
                file.write(value)
                self._made[row], self._sums[row] = self._origins[row], zlib.crc32(value)

    def _create(self, values: np.ndarray) -> None:
        header = io.BytesIO()
        shape = (len(self), *values.shape[1:])
        content = {"descr": np.lib.format.dtype_to_descr(values.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, content)
        for suffix in (".npy", ".partial", ".done"):  # and what an earlier version left of an unfinished one
            self.path.with_suffix(suffix).unlink(missing_ok=True)
        files.allocate(self.path, header.tell() + int(np.prod(shape)) * values.itemsize)
        with open(self.path, "r+b") as file:
            file.write(header.getvalue())
        self._header = header.getvalue()
        self._save()
        self._open()

    def _save(self) -> None:
        """Flushes the rows, and then what says that they are there."""
        if not self._header:
            return
        files.sync(self.path)
        content = io.BytesIO()
        np.savez(content, header=np.frombuffer(self._header, np.uint8), made=self._made, sums=self._sums)
        files.seal(self._sums_file, content.getvalue())

    @property
    def _sums_file(self) -> Path:
        return self.path.with_suffix(".sums")

    def _open(self) -> str:
        """Takes what is on the disk; why that is nothing, "" where it is something or nothing is there."""
        self._made, self._sums = np.zeros_like(self._origins), np.zeros(len(self), np.uint32)
        self._header, self._array, self._state, self._looked_at = b"", None, (), np.zeros(len(self), bool)
        if not self.path.exists():
            return ""
        try:
            with np.load(io.BytesIO(files.sealed(self._sums_file))) as stored:
                header, made, sums = stored["header"].tobytes(), stored["made"], stored["sums"]
        except FileNotFoundError:
            return "it has no checksums (an earlier version made it)"
        except files.Damaged as error:
            return f"its checksums are damaged ({error})"
        with open(self.path, "rb") as file:
            if file.read(len(header)) != header:
                return "its header is damaged"
        version = io.BytesIO(header)
        np.lib.format.read_magic(version)
        shape, _, dtype = np.lib.format.read_array_header_1_0(version)
        stat, size = self.path.stat(), len(header) + int(np.prod(shape)) * dtype.itemsize
        if stat.st_size != size:
            return f"it has {stat.st_size:,} bytes, not {size:,}"
        if made.shape != self._origins.shape:
            return "it is of other pictures"
        self._header, self._made, self._sums = header, made, sums
        self._array = np.memmap(self.path, dtype, "r", len(header), shape).view(np.ndarray)
        self._state = (str(self.path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        self._looked_at = _looked_at.setdefault(self._state, self._looked_at)
        return ""


@contextmanager
def written_to(path: Path) -> Iterator[None]:
    """Turns what the system says of a full disk, or of a folder that cannot be written, into one DataError."""
    try:
        yield
    except OSError as error:
        where = next(folder for folder in path.parents if folder.exists())
        free = shutil.disk_usage(where).free / 1e9
        raise DataError(
            f"{printable(path)} cannot be written: {error.strerror or error}, {free:.2f} GB free; make room, or set "
            "UCDR_HOME to a folder that can be written"
        ) from error
