"""Files that are whole or not there: a full disk, a damaged file, two writers."""

import os
import subprocess
import threading

import pytest

from ucdr_core import files


@pytest.fixture
def tiny(tmp_path):
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("only root may mount")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_file_is_allocated_whole_or_not_at_all(tiny):
    with pytest.raises(OSError, match="No space left"):
        files.allocate(tiny / "a", 2 << 20)
    assert not list(tiny.iterdir())
    files.allocate(tiny / "a", 1 << 19)
    assert (tiny / "a").stat().st_blocks * 512 >= 1 << 19


def test_where_the_system_cannot_reserve_zeros_are_written(tiny, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    with pytest.raises(OSError, match="No space left"):
        files.allocate(tiny / "a", 2 << 20)
    assert not list(tiny.iterdir())
    files.allocate(tiny / "a", (1 << 19) + 1)
    assert (tiny / "a").stat().st_size == (1 << 19) + 1


def test_a_full_disk_leaves_the_former_file(tiny):
    files.seal(tiny / "a", b"former")
    with pytest.raises(OSError, match="No space left"):
        files.seal(tiny / "a", bytes(2 << 20))
    assert files.sealed(tiny / "a") == b"former" and len(list(tiny.iterdir())) == 1


def test_every_flipped_bit_every_cut_and_another_name_is_damage(tmp_path):
    files.seal(tmp_path / "a", b"content")
    whole = (tmp_path / "a").read_bytes()
    assert files.sealed(tmp_path / "a") == b"content"
    flipped = [(place, bit) for place in range(39) for bit in (0, 7)]
    damaged = [bytes(b ^ (1 << bit) * (i == place) for i, b in enumerate(whole)) for place, bit in flipped]
    damaged += [whole[:length] for length in range(39)] + [whole + b"x"]
    for content in damaged:
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(files.Damaged, match="it is empty|does not match its checksum"):
            files.sealed(tmp_path / "a")
    (tmp_path / "b").write_bytes(whole)
    with pytest.raises(files.Damaged):
        files.sealed(tmp_path / "b")


def test_one_at_a_time_is_inside_a_lock(tmp_path):
    inside, most = [], []

    def work():
        with files.locked(tmp_path / "lock"):
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.005)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8
