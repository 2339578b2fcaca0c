"""Publishing: the built site goes out only as the gate passed it and as it was built.

When nbval has passed, `make gate` writes a stamp with a digest of everything that the pages are made of.  `make site`
writes that digest and one of every built file beside the site.  It may be published while all of them still agree.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ucdr_core import documents, files, paths
from ucdr_core.apps import folder as folders

SOURCES = (
    "notebooks/**/*.ipynb",
    "book/**/*",
    "ucdr_core/**/*",
    "_config.yml",
    "constraints.txt",
    "LICENSE",
    "CITATION.cff",
)


class PublishError(RuntimeError):
    """The site may not be published."""


def stamp_file(repository: Path = paths.REPOSITORY) -> Path:
    return repository / "build" / ".gated"


def site_of(repository: Path = paths.REPOSITORY) -> Path:
    return repository / "build" / "_build" / "html"


def manifest_file(site: Path) -> Path:
    """What `make site` says of a site: {"digest": of its sources, "files": {path: SHA-256}}."""
    return site.with_name("site.json")


def digest(repository: Path = paths.REPOSITORY) -> str:
    """SHA-256 over names and bytes of the notebooks, the prose, the library, its pictures and licences, and the pinned
    versions."""
    whole = hashlib.sha256()
    for path in sorted({path for pattern in SOURCES for path in repository.glob(pattern)}):
        if path.is_file() and not any(
            part.startswith(".") or part == "__pycache__" for part in path.relative_to(repository).parts
        ):
            whole.update(path.relative_to(repository).as_posix().encode() + b"\0" + files.sha256(path).encode())
    return whole.hexdigest()


def has_passed(repository: Path = paths.REPOSITORY) -> bool:
    """Whether the gate has passed what is there now."""
    return _stated(stamp_file(repository)).get("digest") == digest(repository)


def passed(repository: Path = paths.REPOSITORY, before: str = "") -> None:
    """Written by `make gate` after nbval has passed.  `before`: the digest when nbval began; default: the one now."""
    files.write(stamp_file(repository), json.dumps({"digest": before or digest(repository)}) + "\n")


def building(repository: Path = paths.REPOSITORY) -> None:
    """Before the site is built.  One that is not as it was built, or has pages of sources that are gone, is built anew:
    the builder would keep their pages.

    Raises FolderError where the doodle page's files, which are copied into the site, are not as they were exported.
    """
    folders.check(repository / "build" / "static" / "doodle", folders.EXPORT)
    site, stated = site_of(repository), _stated(manifest_file(site_of(repository)))
    sources = site / "_sources"
    gone = [page for page in sources.rglob("*.*") if not (repository / page.relative_to(sources)).is_file()]
    found = folders.digests(site) if site.exists() else None
    if site.parent.exists() and (gone or found is None or found != stated.get("files")):
        shutil.rmtree(site.parent)
    files.write(manifest_file(site), json.dumps({"digest": digest(repository)}) + "\n")


def built(repository: Path = paths.REPOSITORY) -> None:
    """After the site was built: writes the digests of its files."""
    site = site_of(repository)
    stated = {**_stated(manifest_file(site)), "files": folders.digests(site)}
    files.write(manifest_file(site), json.dumps(stated, indent=1))


def checked(repository: Path = paths.REPOSITORY) -> Path:
    """The folder of the built site.

    Raises PublishError where the gate has not passed what it is made of, or it is not as it was built, saying what to
    do.
    """
    stamp, site = _stated(stamp_file(repository)), site_of(repository)
    stated = _stated(manifest_file(site))
    if "digest" not in stamp:
        raise PublishError("the gate has not passed: run `make book`")
    now = digest(repository)
    if stamp["digest"] != now:
        raise PublishError("notebooks, prose or library have changed since the gate passed: run `make book` again")
    if not (site / "index.html").is_file():
        raise PublishError(f"there is no built site at {site}: run `make site`")
    if not isinstance(stated.get("files"), dict):
        raise PublishError("the site was not built to its end: run `make site` again")
    if stated.get("digest") != now:
        raise PublishError("the site was built of other notebooks, prose or library: run `make site` again")
    if difference := _difference(stated["files"], folders.digests(site)):
        raise PublishError(f"{difference} since the site was built: run `make site` again")
    return site


def _difference(stated: dict[str, str], found: dict[str, str]) -> str:
    """The first file that is not as stated, or nothing."""
    for name in (*sorted(stated), *sorted(set(found) - set(stated))):
        if found.get(name) in ("link", "special file"):
            return f"{name} has become a {found[name]}"
        if name not in found:
            return f"{name} was deleted"
        if name not in stated:
            return f"{name} was added"
        if found[name] != stated[name]:
            return f"{name} was changed"
    return ""


def _stated(file: Path) -> dict:
    """The JSON object of a file; an empty one where there is none."""
    try:
        content = documents.read(file)
        documents.check(content, dict)
        return content
    except documents.DocumentError:
        return {}


def _copy(site: Path, target: Path) -> None:
    """Copies what was built; the copy is compared with its digests, since a page may change meanwhile."""
    stated = _stated(manifest_file(site)).get("files", {})
    for name, kind in stated.items():
        place = target / name
        if kind == "folder":
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(site / name, place, follow_symlinks=False)
    if difference := _difference(stated, folders.digests(target)):
        raise PublishError(f"{difference} while it was copied: run `make site` again")
    (target / ".nojekyll").touch()  # folders that begin with _ are served as they are


def to_folder(site: Path, folder: Path) -> None:
    """Replaces a folder by the checked site, by rename.

    Raises PublishError where a page changes meanwhile, and FolderError where the folder holds what is no earlier site.
    """
    if paths.resolved(folder).is_relative_to(site.parent.resolve()):
        raise PublishError(f"{folder} lies in the built site; give a folder elsewhere")
    with folders.made(folder, folders.SITE) as work:
        _copy(site, work)


def to_branch(site: Path, branch: str) -> None:
    """Commits the checked site to a branch of the repository and pushes it (ghp-import).

    Raises PublishError for a branch, here or at the remote, that holds anything but an earlier site.
    """
    repository = paths.REPOSITORY
    if branch.startswith("-") or _git(repository, "check-ref-format", f"refs/heads/{branch}").returncode:
        raise PublishError(f"{branch!r} is no name of a branch; give one such as gh-pages")
    if (fetched := _git(repository, "fetch", "--quiet", "origin")).returncode:
        raise PublishError(f"the remote `origin` does not answer: {_last_line(fetched)}")
    for reference in (f"refs/heads/{branch}", f"refs/remotes/origin/{branch}"):
        there = not _git(repository, "rev-parse", "--verify", "--quiet", reference).returncode
        if there and _git(repository, "cat-file", "-e", f"{reference}:{folders.LIST}").returncode:
            raise PublishError(f"branch {branch} holds something else than an earlier site ({reference}); give another")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch) / "site"
        with folders.made(work, folders.SITE) as new:
            _copy(site, new)
        command = [sys.executable, "-m", "ghp_import", "--no-jekyll", "--push", "--branch", branch]
        done = subprocess.run(
            [*command, "--message", "Publish the book", str(work)], cwd=repository, capture_output=True, text=True
        )
    if done.returncode:
        raise PublishError(f"ghp-import failed: {_last_line(done)}")


def _git(repository: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    return subprocess.run(["git", *arguments], cwd=repository, env=environment, capture_output=True, text=True)


def _last_line(done: subprocess.CompletedProcess) -> str:
    return ((done.stderr or "").strip() or (done.stdout or "").strip() or "no reason given").splitlines()[-1]


if __name__ == "__main__":
    steps = {"building": building, "built": built}
    if len(sys.argv) != 2 or sys.argv[1] not in steps:
        sys.exit("usage: python -m ucdr_core.apps.publish building|built (by `make site`)")
    try:
        steps[sys.argv[1]]()
    except (folders.FolderError, OSError) as error:
        sys.exit(f"{error}")
