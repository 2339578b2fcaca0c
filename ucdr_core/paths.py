"""Every path there is.

Notebooks, nbval and papermill start in different folders, so nothing is relative to the current one.
"""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent
WEB = PACKAGE / "apps" / "web"  # scripts and style of the doodle page


def home() -> Path:
    """Folder for runs, caches and drawn splits: $UCDR_HOME, else `.ucdr` in the repository, else `~/.cache/ucdr`."""
    if os.environ.get("UCDR_HOME"):
        return Path(os.environ["UCDR_HOME"]).expanduser().resolve()
    if (REPOSITORY / "pyproject.toml").exists():
        return REPOSITORY / ".ucdr"
    return Path.home() / ".cache" / "ucdr"


def runs() -> Path:
    return home() / "runs"


def cache() -> Path:
    return home() / "cache"


def indexes() -> Path:
    """Of folders of own pictures (`search`)."""
    return home() / "indexes"


def data(name: str) -> Path:
    """Folder of a data set that is not embedded: $UCDR_DATA/name, else ~/data/name."""
    return Path(os.environ.get("UCDR_DATA") or "~/data").expanduser().resolve() / name


def drawn_splits() -> Path:
    return home() / "splits"


def run_notebook() -> Path:
    """The papermill template of one run."""
    return PACKAGE / "apps" / "run.ipynb"
