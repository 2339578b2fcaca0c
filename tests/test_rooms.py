"""The architecture is a test: imports go down only, and no room has two dozen modules at its root."""

import subprocess
import sys
from pathlib import Path

from ucdr_core import paths


def test_arrows_point_down():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=paths.REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout


def test_the_root_holds_rooms_not_modules():
    modules = {path.stem for path in paths.PACKAGE.glob("*.py")}
    assert modules == {"__init__", "__main__", "paths", "device", "progress", "files", "documents", "options"}


def test_figure_primitives_know_no_paper():
    for path in (paths.PACKAGE / "render").glob("*.py"):
        text = path.read_text()
        assert "chapters" not in text, path
