"""Publishing refuses what the gate has not passed."""

import subprocess

import pytest

from ucdr_core import paths
from ucdr_core.apps import publish
from ucdr_core.apps.publish import PublishError


@pytest.fixture
def repository(tmp_path):
    """A small checkout whose gate has passed and whose site is built."""
    for name, text in {
        "notebooks/one.ipynb": "{}",
        "book/index.md": "# one",
        "ucdr_core/x.py": "x = 1",
        "_config.yml": "",
        "constraints.txt": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    site = publish.site_of(tmp_path)
    for name in ("notebooks/one.ipynb", "book/index.md"):
        (site / "_sources" / name).parent.mkdir(parents=True, exist_ok=True)
        (site / "_sources" / name).write_bytes((tmp_path / name).read_bytes())
    (site / "index.html").write_text("site")
    publish.passed(tmp_path)
    return tmp_path


def test_what_passed_is_published_whole_and_replaces_the_site_before(repository, tmp_path):
    site, to = publish.checked(repository), tmp_path / "host" / "site"
    publish.to_folder(site, to)
    assert (to / "index.html").read_text() == "site" and (to / ".nojekyll").exists()
    (site / "index.html").write_text("next")
    (to / "stale.html").touch()
    publish.to_folder(site, to)
    assert (to / "index.html").read_text() == "next" and not (to / "stale.html").exists()
    assert [path.name for path in to.parent.iterdir()] == ["site"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda root: (root / "ucdr_core" / "x.py").write_text("x = 2"), "have changed since the gate passed"),
        (lambda root: (root / "notebooks" / "two.ipynb").write_text("{}"), "have changed since the gate passed"),
        (lambda root: publish.stamp_file(root).unlink(), "the gate has not passed"),
        (lambda root: publish.stamp_file(root).write_text("["), "the gate has not passed"),
        (lambda root: (publish.site_of(root) / "index.html").unlink(), "there is no built site"),
        (
            lambda root: (publish.site_of(root) / "_sources" / "book" / "index.md").write_text("older"),
            "built before book/index.md was last changed",
        ),
    ],
)
def test_what_did_not_pass_is_refused(repository, change, message):
    change(repository)
    with pytest.raises(PublishError, match=message):
        publish.checked(repository)


def test_a_folder_with_other_files_is_not_replaced(repository, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").touch()
    with pytest.raises(PublishError, match="holds files that are no earlier site"):
        publish.to_folder(publish.checked(repository), tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.tex").exists()


def test_a_branch_is_written_and_pushed(repository, tmp_path, monkeypatch):
    def git(*arguments):
        return subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=repository,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    git("init", "-q", "-b", "main")
    git("config", "user.name", "a")
    git("config", "user.email", "a@b")
    git("add", "book", "notebooks")
    git("commit", "-qm", "first")
    git("init", "-q", "--bare", str(tmp_path / "remote.git"))
    git("remote", "add", "origin", str(tmp_path / "remote.git"))
    monkeypatch.setattr(paths, "REPOSITORY", repository)
    publish.to_branch(publish.checked(repository), "gh-pages")
    listed = subprocess.run(
        ["git", "--git-dir", str(tmp_path / "remote.git"), "ls-tree", "-r", "--name-only", "gh-pages"],
        capture_output=True,
        text=True,
    ).stdout.split()
    assert {"index.html", ".nojekyll"} <= set(listed)
