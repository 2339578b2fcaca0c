"""Publishing: the built site goes out only as the gate passed it.

When nbval has passed, `make gate` writes a stamp with a digest of everything that the pages are made of.  The site may
be published while that digest is still the same and the built pages were made of the same sources.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from ucdr_core import paths

SOURCES = (
    "notebooks/**/*.ipynb",
    "book/**/*",
    *(f"ucdr_core/**/*.{kind}" for kind in ("py", "csv", "json", "parquet")),
    "ucdr_core/apps/web/*",
    "_config.yml",
    "constraints.txt",
)


class PublishError(RuntimeError):
    """The site may not be published."""


def stamp_file(repository: Path = paths.REPOSITORY) -> Path:
    return repository / "build" / ".gated"


def site_of(repository: Path = paths.REPOSITORY) -> Path:
    return repository / "build" / "_build" / "html"


def digest(repository: Path = paths.REPOSITORY) -> str:
    """SHA-256 over names and bytes of the notebooks, the prose, the library and the pinned versions."""
    whole = hashlib.sha256()
    for path in sorted({path for pattern in SOURCES for path in repository.glob(pattern)}):
        if path.is_file() and not any(
            part.startswith(".") or part == "__pycache__" for part in path.relative_to(repository).parts
        ):
            whole.update(
                path.relative_to(repository).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest()
            )
    return whole.hexdigest()


def passed(repository: Path = paths.REPOSITORY) -> None:
    """Written by `make gate` after nbval has passed."""
    file = stamp_file(repository)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"digest": digest(repository)}) + "\n")


def checked(repository: Path = paths.REPOSITORY) -> Path:
    """The folder of the built site.

    Raises PublishError where the gate has not passed what it is made of, saying what to do.
    """
    file, site = stamp_file(repository), site_of(repository)
    try:
        stated = json.loads(file.read_text())["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        raise PublishError("the gate has not passed: run `make book`") from None
    if stated != digest(repository):
        raise PublishError("notebooks, prose or library have changed since the gate passed: run `make book` again")
    if not (site / "index.html").is_file():
        raise PublishError(f"there is no built site at {site}: run `make site`")
    for source in (*repository.glob("notebooks/**/*.ipynb"), *repository.glob("book/*.md")):
        if any(part.startswith(".") for part in source.relative_to(repository).parts):
            continue
        built = site / "_sources" / source.relative_to(repository)
        if not built.is_file() or built.read_bytes() != source.read_bytes():
            raise PublishError(
                f"the site was built before {source.relative_to(repository)} was last changed: run `make site` again"
            )
    return site


def to_folder(site: Path, folder: Path) -> None:
    """Replaces a folder by the site, by rename.  Raises PublishError where it holds something that is no such site."""
    folder = folder.expanduser().resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / ".ucdr-site").exists():
        raise PublishError(f"{folder} holds files that are no earlier site of this book; give an empty or a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(site, partial)
    (partial / ".nojekyll").touch()  # folders that begin with _ are served as they are
    (partial / ".ucdr-site").touch()
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def to_branch(site: Path, branch: str) -> None:
    """Commits the site to a branch of the repository and pushes it (ghp-import)."""
    command = [sys.executable, "-m", "ghp_import", "--no-jekyll", "--push", "--force", "--branch", branch]
    done = subprocess.run(
        [*command, "--message", "Publish the book", str(site)], cwd=paths.REPOSITORY, capture_output=True, text=True
    )
    if done.returncode:
        raise PublishError(f"ghp-import failed: {done.stderr.strip() or done.stdout.strip()}")


if __name__ == "__main__":
    if sys.argv[1:] != ["passed"]:
        sys.exit("usage: python -m ucdr_core.apps.publish passed (by `make gate`)")
    passed()
