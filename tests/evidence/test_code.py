"""A run's name depends on what is asked, its code digest on what the code means."""

import io
import json
import os
import shutil
import subprocess
import sys
import tokenize

import pytest

from ucdr_core import paths
from ucdr_core.evidence.code import meaning

SOURCE = '''
"""Module."""
def area(width, height=2):
    """Of a rectangle."""
    total = 0
    for row in range(height):
        total += width  # one row
    return [value for value in (total,)]
'''


def test_comments_docstrings_layout_and_local_names_have_no_meaning():
    changed = '''
"""Another text,
of two lines."""


def area(width,
         height=2):
    # said otherwise
    sum_of_rows = 0
    for line in range(height):
        sum_of_rows += width
    return [one for one in (sum_of_rows,)]
'''
    assert meaning(SOURCE) == meaning(changed)


@pytest.mark.parametrize(
    "old, new",
    [
        ("total += width", "total -= width"),
        ("height=2", "height=3"),
        ("def area(width", "def area(wide"),
        ("range(height)", "range(width)"),
        ("total = 0", "total = 1"),
        ("(total,)", "(total, total)"),
    ],
)
def test_what_is_computed_has(old, new):
    assert meaning(SOURCE.replace(old, new)) != meaning(SOURCE)


def test_closures_see_the_same_variable_under_any_name():
    one = (
        "def outer():\n    count = 0\n    def inner():\n        nonlocal count\n        count += 1\n    return inner\n"
    )
    other = "def outer():\n    free = 0\n    limit = 1\n    def inner():\n        return free\n    return inner\n"
    assert meaning(one) != meaning(other)
    assert meaning(other) == meaning(other.replace("free", "bound").replace("limit", "edge"))


def restyled(source: str) -> str:
    """The same module with a comment at its end, longer docstrings left out, and another blank line after each line of
    code."""
    lines = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NEWLINE and token.line.strip() and not token.line.lstrip().startswith(("@", "#")):
            lines.append(token.start[0])
    result = []
    for number, line in enumerate(source.split("\n"), 1):
        result.append(line)
        if number in lines and not line.rstrip().endswith("\\"):
            result.append("")
    return "\n".join(result) + "\n# A comment that changes nothing.\n"


PRINTED = """
import json
from ucdr_core import chapters
from ucdr_core.evidence.code import code_digest
import ucdr_core
runs = chapters.runs_of("embedded", "doodle")
print(json.dumps([[spec.key for spec in runs], code_digest("doodle"), ucdr_core.table("doodle", "table3").text]))
"""


def test_a_comment_in_every_file_renames_nothing_and_changes_no_table(tmp_path):
    """Names of runs, the digest of the code, and a rendered table, from a copy of the library with every file
    restyled."""
    shutil.copytree(paths.PACKAGE, tmp_path / "ucdr_core", ignore=shutil.ignore_patterns("__pycache__"))
    changed = 0
    for path in (tmp_path / "ucdr_core").rglob("*.py"):
        text = path.read_text()
        path.write_text(restyled(text))
        changed += path.read_text() != text
    assert changed > 90

    def printed(folder) -> list:
        environment = {**os.environ, "PYTHONPATH": str(folder), "UCDR_HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-c", PRINTED], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert printed(tmp_path) == printed(paths.REPOSITORY)
