"""The state of a training that was cut off: whole, or noticed."""

import numpy as np
import pytest
import torch

from ucdr_core import files
from ucdr_core.training import loop


def save(path, epoch, of="key code"):
    layer = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(layer.weight, epoch)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    random, generator = np.random.default_rng(0), torch.Generator()
    loop._save_state(path, of, layer, optimiser, random, generator, [{"epoch": epoch}], {"score": 0.5})


def epoch_of(state):
    return None if state is None else int(state["method"]["weight"][0, 0])


@pytest.fixture
def path(tmp_path):
    for epoch in (1, 2):
        save(tmp_path / "state.pt", epoch)
    return tmp_path / "state.pt"


def test_the_newest_state_is_gone_on_from(path, capsys):
    assert epoch_of(loop.saved_state(path, "key code")) == 2 and not capsys.readouterr().out
    assert epoch_of(loop.saved_state(loop.before(path), "key code")) == 1


def damages(content):
    yield b""
    yield b"junk"
    yield content + b"x"
    yield bytes(len(content))
    for share in (0.1, 0.5, 0.99):
        yield content[: int(share * len(content))]
    for place in np.linspace(0, len(content) - 1, 40).astype(int):
        yield content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def test_whatever_is_damaged_the_state_before_it_serves(path, capsys):
    content, former = path.read_bytes(), loop.before(path).read_bytes()
    for damaged in damages(content):
        path.write_bytes(damaged)
        assert epoch_of(loop.saved_state(path, "key code")) == 1
        said = capsys.readouterr().out
        assert said.count("\n") == 1 and "damaged" in said and "the state before it" in said
    for damaged in damages(former):
        loop.before(path).write_bytes(damaged)
        path.write_bytes(content[:-1])
        assert loop.saved_state(path, "key code") is None
        assert "begins anew" in capsys.readouterr().out


def test_a_damaged_state_never_takes_the_place_of_the_whole_one_before_it(path):
    path.write_bytes(b"junk")
    loop.saved_state(path, "key code")
    save(path, 3)
    assert epoch_of(loop.saved_state(path, "key code")) == 3
    assert epoch_of(loop.saved_state(loop.before(path), "key code")) == 1


def test_a_state_of_another_run_or_of_other_code_is_not_gone_on_from(path, capsys):
    assert loop.saved_state(path, "key other-code") is None
    assert "of another training, or of other code" in capsys.readouterr().out


def test_a_state_with_code_in_it_is_not_run(path, tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (type(path).touch, (tmp_path / "executed",))

    torch.save({"of": "key code", "method": Evil()}, path)
    with open(path, "r+b") as file:
        file.write(loop.hashlib.file_digest(file, "sha256").digest())
    assert epoch_of(loop.saved_state(path, "key code")) == 1
    assert not (tmp_path / "executed").exists() and "damaged" in capsys.readouterr().out


@pytest.mark.parametrize("step", ["save", "sync", "replace"])
def test_a_full_disk_leaves_the_states_that_there_were(path, step, monkeypatch):
    def full(*arguments, **named):  # torch has an error of its own for it
        raise RuntimeError("unexpected pos 704 vs 598") if step == "save" else OSError(28, "No space left on device")

    monkeypatch.setattr(
        *{"save": (torch, "save"), "sync": (files, "sync"), "replace": (type(path), "replace")}[step], full
    )
    with pytest.raises(OSError, match="No space|disk is full"):
        save(path, 3)
    monkeypatch.undo()
    assert epoch_of(loop.saved_state(path, "key code")) == 2
    assert sorted(file.name for file in path.parent.iterdir()) == ["state.pt", "state.pt.before"]
