"""Made folders take their place whole, and nothing of a user's is deleted for it."""

import json
import os
from pathlib import Path

import pytest

from ucdr_core import cli, files, paths
from ucdr_core.apps import folder
from ucdr_core.apps.folder import FolderError, made


def make(target, text="new", what="export"):
    with made(target, what) as work:
        (work / "sub").mkdir()
        (work / "sub" / "a.txt").write_text(text)
        (work / "b.txt").write_text(text)


def content_of(target):
    return {
        path.relative_to(target).as_posix(): path.read_text()
        for path in sorted(target.rglob("*"))
        if path.is_file() and path.name != folder.LIST
    }


NEW = {"sub/a.txt": "new", "b.txt": "new"}


@pytest.mark.parametrize("there", [lambda path: None, Path.mkdir, lambda path: make(path, "old")])
def test_a_new_an_empty_and_an_earlier_folder_are_replaced_whole(tmp_path, there):
    target = tmp_path / "out"
    there(target)
    make(target)
    assert content_of(target) == NEW
    assert list(tmp_path.iterdir()) == [target]


def test_the_rights_of_a_folder_stay(tmp_path):
    (tmp_path / "out").mkdir(mode=0o750)
    make(tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750


def test_an_error_or_an_interrupt_leaves_what_was_there(tmp_path):
    make(tmp_path / "out", "old")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), made(tmp_path / "out", "export") as work:
            (work / "b.txt").write_text("half")
            raise error
    assert content_of(tmp_path / "out")["b.txt"] == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def with_files(path):
    path.mkdir()
    (path / "thesis.tex").write_text("mine")


def with_a_foreign_file(path):
    make(path)
    (path / "sub" / "thesis.tex").write_text("mine")


def with_an_altered_file(path):
    make(path)
    (path / "b.txt").write_text("mine")


def with_a_foreign_folder(path):
    make(path)
    (path / "mine").mkdir()


def with_a_foreign_link(path):
    make(path)
    (path / "mine").symlink_to("/etc")


def with_a_forged_list(path):
    with_files(path)
    (path / folder.LIST).write_text("{}")


def linked(path):
    with_files(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


REFUSED = {
    "other files": (with_files, "holds files that are no earlier export"),
    "a foreign file": (with_a_foreign_file, "holds sub/thesis.tex beside the earlier export"),
    "an altered file": (with_an_altered_file, "b.txt has been changed since the export was made"),
    "a foreign folder": (with_a_foreign_folder, "holds mine beside"),
    "a foreign link": (with_a_foreign_link, "holds mine beside"),
    "a forged list": (with_a_forged_list, "holds files that are no earlier export"),
    "an earlier site": (lambda path: make(path, what="site"), "is an earlier site, not an earlier export"),
    "a file": (lambda path: path.write_text("mine"), "is a file"),
    "a link": (linked, "is a link"),
    "a broken link": (lambda path: path.symlink_to("nowhere"), "is a link"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused_and_stays(tmp_path, case):
    there, message = REFUSED[case]
    there(tmp_path / "out")
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(FolderError, match=message):
        make(tmp_path / "out")
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("target", [".", "", "..", "/", "~", str(paths.REPOSITORY), str(paths.REPOSITORY.parent)])
def test_places_that_are_more_than_a_folder_are_refused(tmp_path, monkeypatch, target):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(FolderError, match="or holds it"):
        make(target)


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="no folder that you may write to"):
        make(tmp_path / "file" / "out")


def test_siblings_are_not_touched(tmp_path):
    """The first edition deleted them."""
    for name in (".out.old", ".out.partial", ".out.former.1"):
        with_files(tmp_path / name)
    make(tmp_path / "out", "old")
    make(tmp_path / "out")
    assert content_of(tmp_path / "out") == NEW
    for name in (".out.old", ".out.partial", ".out.former.1"):
        assert (tmp_path / name / "thesis.tex").read_text() == "mine"


def test_a_list_that_names_files_elsewhere_deletes_none(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    make(tmp_path / "out", "old")
    listed = json.loads((tmp_path / "out" / folder.LIST).read_text())
    listed["files"]["../thesis.tex"] = files.sha256(tmp_path / "thesis.tex")
    (tmp_path / "out" / folder.LIST).write_text(json.dumps(listed))
    make(tmp_path / "out")
    assert (tmp_path / "thesis.tex").exists()


def test_a_file_that_comes_at_the_last_moment_stays(tmp_path, monkeypatch):
    make(tmp_path / "out", "old")
    rename = Path.rename

    def slow(self, target):
        if self.name == "out":
            (self / "late.txt").write_text("mine")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", slow)
    make(tmp_path / "out")
    assert content_of(tmp_path / "out") == NEW
    assert [path.read_text() for path in tmp_path.rglob("late.txt")] == ["mine"]


def test_a_rename_that_fails_brings_the_former_folder_back(tmp_path, monkeypatch):
    make(tmp_path / "out", "old")
    rename = Path.rename

    def failing(self, target):
        if self.name == "new":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError):
        make(tmp_path / "out")
    assert content_of(tmp_path / "out")["b.txt"] == "old" and len(list(tmp_path.iterdir())) == 1


def test_export_refuses_before_a_model_is_trained_for_it(tmp_path, monkeypatch, capsys):
    with_files(tmp_path / "out")
    monkeypatch.setattr("ucdr_core.apps.search.reader_record", lambda: pytest.fail("trained"))
    for more in ([], ["--page"]):
        assert cli.main(["export", "--to", str(tmp_path / "out"), *more]) == 2
        assert "holds files that are no earlier export" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out") == ["thesis.tex"]
