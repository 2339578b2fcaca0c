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
        "LICENSE": "",
        "ucdr_core/data/emoji_domains/emoji.zip": "pictures",
        "ucdr_core/data/emoji_domains/LICENSES.md": "licences",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    publish.building(tmp_path)
    site = publish.site_of(tmp_path)
    for name in ("notebooks/one.ipynb", "book/index.md"):
        (site / "_sources" / name).parent.mkdir(parents=True, exist_ok=True)
        (site / "_sources" / name).write_bytes((tmp_path / name).read_bytes())
    (site / "index.html").write_text("site")
    publish.built(tmp_path)
    publish.passed(tmp_path)
    return tmp_path


def rebuilt(repository, text):
    """The site after `make site` has made another first page."""
    publish.building(repository)
    (publish.site_of(repository) / "index.html").write_text(text)
    publish.built(repository)
    return publish.checked(repository)


def test_what_passed_is_published_whole_and_replaces_the_site_before(repository, tmp_path):
    site, to = publish.checked(repository), tmp_path / "host" / "site"
    publish.to_folder(site, to)
    assert (to / "index.html").read_text() == "site" and (to / ".nojekyll").exists()
    publish.to_folder(rebuilt(repository, "next"), to)
    assert (to / "index.html").read_text() == "next"
    assert [path.name for path in to.parent.iterdir()] == ["site"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda root: (root / "ucdr_core" / "x.py").write_text("x = 2"), "have changed since the gate passed"),
        (lambda root: (root / "notebooks" / "two.ipynb").write_text("{}"), "have changed since the gate passed"),
        (lambda root: publish.stamp_file(root).unlink(), "the gate has not passed"),
        (lambda root: publish.stamp_file(root).write_text("["), "the gate has not passed"),
        (lambda root: (publish.site_of(root) / "index.html").unlink(), "there is no built site"),
        (lambda root: (root / "ucdr_core/data/emoji_domains/emoji.zip").write_text("x"), "have changed since the gate"),
        (lambda root: (root / "ucdr_core/data/emoji_domains/LICENSES.md").unlink(), "have changed since the gate"),
        (lambda root: (root / "LICENSE").write_text("x"), "have changed since the gate"),
        (lambda root: publish.building(root), "not built to its end"),
        (lambda root: publish.manifest_file(publish.site_of(root)).write_text("{}"), "not built to its end"),
        (lambda root: (publish.site_of(root) / "index.html").write_text("x"), "index.html was changed since the site"),
        (lambda root: (publish.site_of(root) / "more.html").write_text("x"), "more.html was added since the site"),
        (
            lambda root: (publish.site_of(root) / "_sources" / "book" / "index.md").unlink(),
            "_sources/book/index.md was deleted since the site",
        ),
        (
            lambda root: (publish.site_of(root) / "secret.html").symlink_to("/etc/passwd"),
            "secret.html has become a link",
        ),
    ],
)
def test_what_did_not_pass_is_refused(repository, change, message):
    change(repository)
    with pytest.raises(PublishError, match=message):
        publish.checked(repository)


def test_a_site_of_other_sources_is_refused(repository):
    (repository / "book" / "index.md").write_text("# two")
    publish.passed(repository)
    with pytest.raises(PublishError, match="built of other notebooks"):
        publish.checked(repository)


def test_sources_that_change_while_the_gate_runs_have_not_passed(repository):
    before = publish.digest(repository)
    (repository / "book" / "index.md").write_text("# two")
    publish.passed(repository, before)
    assert not publish.has_passed(repository)


@pytest.mark.parametrize(
    "change",
    [
        lambda root, site: (site / "index.html").write_text("altered"),
        lambda root, site: (site / "stale.html").write_text("added"),
        lambda root, site: (root / "book" / "index.md").unlink(),
        lambda root, site: publish.manifest_file(site).unlink(),
    ],
    ids=["altered", "added", "of a source that is gone", "built by an interrupted call"],
)
def test_a_page_that_the_builder_would_keep_is_built_anew(repository, change):
    site = publish.site_of(repository)
    publish.building(repository)
    publish.built(repository)
    assert (site / "index.html").exists()  # what is as it was built stays
    change(repository, site)
    publish.building(repository)
    assert not site.exists()


def test_a_page_that_changes_while_it_is_copied_is_noticed(repository, tmp_path):
    site = publish.checked(repository)
    (site / "index.html").write_text("altered")
    with pytest.raises(PublishError, match="index.html was changed while it was copied"):
        publish.to_folder(site, tmp_path / "host")
    assert not (tmp_path / "host").exists()


def test_a_folder_in_the_built_site_is_refused(repository):
    site = publish.checked(repository)
    with pytest.raises(PublishError, match="lies in the built site"):
        publish.to_folder(site, site / "host")


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
    remote = f"--git-dir={tmp_path / 'remote.git'}"
    assert {"index.html", ".nojekyll"} <= set(git(remote, "ls-tree", "-r", "--name-only", "gh-pages").split())
    publish.to_branch(rebuilt(repository, "next"), "gh-pages")
    assert git(remote, "show", "gh-pages:index.html") == "next"
    git("branch", "-D", "gh-pages")  # as on another machine
    publish.to_branch(rebuilt(repository, "third"), "gh-pages")
    assert git(remote, "show", "gh-pages:index.html") == "third"
    git("push", "-q", "origin", "main:work")
    for branch, message in {
        "main": "holds something else",
        "work": "holds something else",
        "-x": "is no name of a branch",
        "": "is no name of a branch",
        "a b": "is no name of a branch",
    }.items():
        with pytest.raises(PublishError, match=message):
            publish.to_branch(publish.checked(repository), branch)
    assert git("show", "main:book/index.md") == git(remote, "show", "work:book/index.md") == "# one"
    (publish.site_of(repository) / "index.html").write_text("altered")
    with pytest.raises(PublishError, match="was changed while it was copied"):
        publish.to_branch(publish.site_of(repository), "gh-pages")
