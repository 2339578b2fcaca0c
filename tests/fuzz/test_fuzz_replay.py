"""Cases that failed once: those in `cases/`, and those in the folder that $UCDR_CASES names (of a soak)."""

import os
from pathlib import Path

import faults
import pytest
from cases import Case
from kinds import FAULTS, KINDS

FOLDERS = [Path(__file__).parent / "cases", *map(Path, filter(None, [os.environ.get("UCDR_CASES")]))]
FILES = [file for folder in FOLDERS for file in sorted(folder.glob("*.json"))]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_case_that_failed_holds(file, tmp_path):
    case = Case.load(file)
    if case.kind in FAULTS:
        world = faults.World(tmp_path / "world")
        faults.check(case, world)
        world.close()
    else:
        KINDS[case.kind][1](case, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_is_the_same_after_it_was_kept(kind, tmp_path):
    case = Case(kind, {"a": b"\x00\xff", "b/c": b""}, {"name": "ñ", "number": 1.5})
    assert Case.load(case.dump(tmp_path)) == case
