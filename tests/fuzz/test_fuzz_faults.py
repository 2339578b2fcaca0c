"""Commands that are killed, run out of disk, or find flipped bits, and are called again."""

import faults
import pytest
from cases import Broken, held


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = faults.World(tmp_path_factory.mktemp("world"))
    yield world
    world.close()


@pytest.mark.parametrize("kind", ["kill", "flip", "file limit"])
@pytest.mark.parametrize("seed", range(3))
def test_a_fault_costs_no_number_and_no_file(world, kind, seed):
    faults.check(faults.case_of(kind, seed), world)


@pytest.mark.parametrize("seed", range(3))
def test_a_full_disk_is_one_line(world, seed):
    if not faults.may_mount(world.root / "mount"):
        pytest.skip("no tmpfs may be mounted here; the cases 'file limit' stand in for it")
    faults.check(faults.case_of("full disk", seed), world)


def test_an_altered_answer_is_noticed(world, monkeypatch):
    monkeypatch.setitem(world.answers, "search", [])
    with pytest.raises(Broken, match="search: answers"):
        faults.check(faults.case_of("kill", 0), world)


def test_a_changed_picture_is_noticed(world):
    from cases import unchanged

    with pytest.raises(Broken, match="drawing.png"), unchanged(world.root):
        content = world.drawing.read_bytes()
        world.drawing.write_bytes(content + b"x")
    world.drawing.write_bytes(content)
    held(world.drawing.read_bytes() == content, "is not put back")
