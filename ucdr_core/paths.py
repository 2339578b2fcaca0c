"""Every path there is.

Notebooks, nbval and papermill start in different folders, so nothing is relative to the current one.
"""

from __future__ import annotations

import errno
import os
from itertools import count
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent
WEB = PACKAGE / "apps" / "web"  # scripts and style of the doodle page


def home() -> Path:
    """Folder for runs, caches and drawn splits: $UCDR_HOME, else `.ucdr` in the repository, else `~/.cache/ucdr`.

    Raises FileNotFoundError where that names no place, as `~nobody/x` does.
    """
    if os.environ.get("UCDR_HOME"):
        return resolved(os.environ["UCDR_HOME"])
    if (REPOSITORY / "pyproject.toml").exists():
        return REPOSITORY / ".ucdr"
    return resolved("~/.cache/ucdr")


def runs() -> Path:
    return home() / "runs"


def cache() -> Path:
    return home() / "cache"


def indexes() -> Path:
    """Of folders of own pictures (`search`)."""
    return home() / "indexes"


def data(name: str) -> Path:
    """Folder of a data set that is not embedded: $UCDR_DATA/name, else ~/data/name."""
    return resolved(os.environ.get("UCDR_DATA") or "~/data") / name


def drawn_splits() -> Path:
    return home() / "splits"


def run_notebook() -> Path:
    """The papermill template of one run."""
    return PACKAGE / "apps" / "run.ipynb"


def resolved(path: str | Path) -> Path:
    """The absolute path, `~` and links followed.  Raises FileNotFoundError for an unknown user or a circle of links."""
    try:
        return Path(path).expanduser().resolve()
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, f"it names no place ({error})", str(path)) from error


def numbered(path: Path) -> Path:
    """The first of `path.1`, `path.2`, ... that is free: where something is set aside and nothing is replaced."""
    return next(free for number in count(1) if not os.path.lexists(free := path.with_name(f"{path.name}.{number}")))
