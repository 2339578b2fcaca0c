"""Folders that are made whole and take their place by rename.  What a user keeps in one is never deleted.

A made folder has a list of its own files with their digests in it.  It is replaced only while it holds these files and
nothing else; the former files are then deleted one by one, so that a file that comes meanwhile stays.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ucdr_core import documents, files, paths
from ucdr_core.data import DataError

LIST = ".ucdr-made.json"  # in every made folder: what it is, and the digest of each file
EXPORT, SITE, EDITION = "export", "site", "edition"  # what is made


class FolderError(DataError):
    """A folder that may not be replaced."""


@contextmanager
def made(folder: Path, what: str) -> Iterator[Path]:
    """A new folder to fill beside `folder`; it takes that one's place when the block ends without an error.

    what  what is made: it replaces an earlier one of the same kind
    Raises FolderError as `check` does, before and after the block, and OSError where no folder can be made there.
    """
    folder = check(Path(folder), what)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name[:100]}.") as beside:
        work = Path(beside) / "new"
        work.mkdir()
        if folder.exists():
            shutil.copymode(folder, work)
        yield work
        files.write(work / LIST, json.dumps({"what": what, "files": digests(work)}, indent=1))
        check(folder, what)
        _replace(folder, work, what)


def check(folder: Path, what: str) -> Path:
    """The absolute path of a folder that may be made or replaced.

    That is one that does not exist, is empty, or holds an earlier one of the same kind and nothing else.
    Raises FolderError for anything else, saying what it is.
    """
    if Path(os.path.expanduser(folder)).is_symlink():
        raise FolderError(f"{folder} is a link; give the folder itself, or a new one")
    folder = paths.resolved(folder)
    home = Path(os.path.expanduser("~"))
    for place, name in ((Path.cwd(), "the current folder"), (home, "your home"), (paths.REPOSITORY, "this book's own")):
        if place.resolve().is_relative_to(folder):
            raise FolderError(f"{folder} is {name}, or holds it; give a folder of its own")
    above = next(path for path in folder.parents if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise FolderError(f"{folder} cannot be made: {above} is no folder that you may write to; give another")
    if not folder.exists():
        return folder
    if not folder.is_dir():
        raise FolderError(f"{folder} is a file; give a folder")
    if not any(folder.iterdir()):
        return folder
    listed = _listed(folder, what)
    found = digests(folder)
    if foreign := sorted(set(found) - set(listed)):
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise FolderError(
            f"{folder} holds {foreign[0]}{more} beside the earlier {what}; move that, or give an empty or a new folder"
        )
    if altered := sorted(name for name in found if found[name] != listed[name]):
        raise FolderError(
            f"{folder}: {altered[0]} has been changed since the {what} was made; move the folder, or give a new one"
        )
    return folder


def digests(folder: Path) -> dict[str, str]:
    """{path below the folder: SHA-256} of every file but the list; `folder` for a folder without files, `link` for a
    link, which is not followed.  Raises OSError."""
    found = {}
    for top, names, file_names in os.walk(folder, onerror=_raise):
        here = Path(top)
        for name in (*names, *file_names):
            path = here / name
            key = path.relative_to(folder).as_posix()
            if path.is_symlink():
                found[key] = "link"
            elif path.is_file():
                found[key] = files.sha256(path)
            elif not path.is_dir():
                found[key] = "special file"
        if not names and not file_names and here != folder:
            found[here.relative_to(folder).as_posix()] = "folder"
    found.pop(LIST, None)
    return found


def _listed(folder: Path, what: str) -> dict[str, str]:
    try:
        stated = documents.read(folder / LIST)
        documents.check(stated, {"what": str, "files": {str: str}})
    except documents.DocumentError:
        raise FolderError(f"{folder} holds files that are no earlier {what}; give an empty or a new folder") from None
    if stated["what"] != what:
        raise FolderError(f"{folder} is an earlier {stated['what']}, not an earlier {what}; give a new folder")
    return stated["files"]


def _replace(folder: Path, work: Path, what: str) -> None:
    if folder.exists() and any(folder.iterdir()):
        former = paths.numbered(folder.with_name(f".{folder.name}.former"))
        folder.rename(former)
        try:
            work.rename(folder)
        except BaseException:
            former.rename(folder)
            raise
        _remove(former, _listed(former, what))
    else:
        work.rename(folder)
    files.sync(folder.parent)


def _remove(folder: Path, listed: dict[str, str]) -> None:
    """Deletes the files that are listed and unchanged, the list, and the folders that are empty then."""
    for name, digest in digests(folder).items():
        if listed.get(name) == digest and digest != "folder":
            (folder / name).unlink()
    (folder / LIST).unlink()
    for top, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # something has come into it: it stays
            os.rmdir(top)


def _raise(error: OSError) -> None:
    raise error
