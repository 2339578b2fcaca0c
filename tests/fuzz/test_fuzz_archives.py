"""Archives: unpacked as they are, inside of their folder, or refused by their name."""

import tempfile
from pathlib import Path

import strategies
from cases import Case, bounded, held, refusal, unchanged
from hypothesis import given

from ucdr_core.data import DataError, download

OWN = {"own.txt": b"the user's", "kept/notes.txt": b"the user's, too"}


def check(case: Case, folder: Path) -> str:
    case.lay(folder)
    inside, name = folder / "data", case.values["name"]
    Case("", OWN).lay(inside)
    with bounded(), unchanged(folder, but=("data",)):
        _, error = refusal(lambda: download.unpack(folder / name, inside), (DataError,), name)
    for own, content in OWN.items():
        held((inside / own).read_bytes() == content, f"changed the user's {own}")
    for path in inside.rglob("*"):
        held(path.is_dir() or path.is_file(), f"made {path.name}, which is no file")
        held(path.resolve().is_relative_to(inside.resolve()), f"made {path.name}, which leads out of the folder")
    held(not Path("/tmp/ucdr-fuzz-out.txt").exists(), "wrote outside of the folder")
    members = case.values["members"]
    if error is not None:
        held(members is None, f"refuses a good archive: {error}")
        return "refused"
    for member, content in (members or {}).items():
        held((inside / member).read_text() == content, f"unpacks {member} as something else")
    return "unpacked"


@given(strategies.archives())
def test_archives_are_unpacked_or_refused(case):
    with tempfile.TemporaryDirectory() as folder:
        check(case, Path(folder))
