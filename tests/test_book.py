"""The pages that tell how to add something are followed to the letter, and the exercises' solutions are run."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from ucdr_core import paths

BOOK = paths.REPOSITORY / "book"
STEP = re.compile(r"^```\{code-block\} (\w+)\n:caption: ([^\n]+)\n\n(.*?)^```", re.MULTILINE | re.DOTALL)


def steps(page: str) -> list[tuple[str, str, str]]:
    """(language, caption, text) of the blocks that a reader would copy, in order."""
    return STEP.findall((BOOK / f"{page}.md").read_text())


def follow(page: str, where, home) -> list[str]:
    """Does what the page says in the folder, and returns what the commands print.  A caption is a file's name, or
    `shell`."""
    bin_folder = os.path.dirname(sys.executable)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(where),
        "UCDR_HOME": str(home),
    }
    printed = []
    for language, caption, text in steps(page):
        if language == "diff":
            done = subprocess.run(
                ["git", "apply", "--unidiff-zero", "--recount", "-"],
                input=text,
                cwd=where,
                text=True,
                capture_output=True,
            )
            assert done.returncode == 0, done.stderr
        elif caption == "shell":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text], cwd=where, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            printed.append(done.stdout)
        else:
            file = where / caption
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return printed


@pytest.mark.gate  # for the cached maps of the embedded data
def test_a_method_is_added_as_the_page_says(tmp_path):
    shutil.copytree(paths.PACKAGE, tmp_path / "ucdr_core", ignore=shutil.ignore_patterns("__pycache__"))
    home = tmp_path / "home"
    home.mkdir()
    paths.cache().mkdir(parents=True, exist_ok=True)
    (home / "cache").symlink_to(paths.cache())
    printed = follow("add_a_method", tmp_path, home)
    assert "zs_sbir:sketch:unseen" in printed[0] and "1 passed" in printed[1]
    difference = r"CosFace less frozen features: [+-]0\.\d{3} \([+-]0\.\d{3} to [+-]0\.\d{3}\), \d+ queries"
    assert re.search(difference, printed[2])


def test_a_data_set_is_added_as_the_page_says(tmp_path, library):
    printed = follow("add_a_data_set", tmp_path, library)
    assert "144 images, 8 classes" in printed[0] and "unseen classes: moon, tree" in printed[1]
    layout = {}
    exec((tmp_path / "my_layout.py").read_text(), layout)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "sketch_cat_1.png").touch()
    manifest = layout["flat"](tmp_path / "flat")
    assert manifest.samples.iloc[0].to_dict() == {"path": "sketch_cat_1.png", "class_name": "cat", "domain": "sketch"}


def test_the_exercises_have_solutions_that_run():
    text = (BOOK / "exercises.md").read_text()
    assert len(re.findall(r"^## \d+\.", text, re.MULTILINE)) == text.count(":::{dropdown} Solution") >= 7
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, "exercises.md", "exec"), {})
