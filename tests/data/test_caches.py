"""Caches are never silently wrong: bits are flipped, files cut, swapped and left over, pictures edited, disks full."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from PIL import Image

from ucdr_core import cli, data, files, paths
from ucdr_core.data import arrays, images
from ucdr_core.data.manifest import DataError
from ucdr_core.methods import backbones
from ucdr_core.training import features


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("UCDR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def pictures(tree, tmp_path):
    """Own pictures that may be edited: as bitmaps, whose size is always the same."""
    root = tmp_path / "pictures"
    for path in sorted(tree.glob("photo/*/[!.]*.png")):
        to = root / path.relative_to(tree).with_suffix(".bmp")
        to.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(to)
    return root


def edit(path, colour="red"):
    """Another picture of the same size and with the same time of change."""
    before = path.stat()
    Image.new("RGB", (32, 32), colour).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def flip(path, place, bit=0):
    with open(path, "r+b") as file:
        file.seek(place if place >= 0 else path.stat().st_size + place)
        value = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([value ^ 1 << bit]))


def pack(root):
    manifest = data.folders(root)
    return np.asarray(images.packed(manifest, 16, progress=False)), images.pack_file(manifest, 16)


@cache
def trunk():
    return backbones.trunk("efficientnet_lite0", "imagenet")


def all_maps(root):
    manifest = data.folders(root)
    maps = features.maps(manifest, trunk(), "frozen", 32, precision="float32", progress=False)
    return maps[np.arange(len(manifest))].numpy().copy()


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


DAMAGE = {
    "a bit of the pixels": (".npy", lambda path: flip(path, -1000), "1 of 48 rows do not match their checksums"),
    "a bit of the header": (".npy", lambda path: flip(path, 20), "its header is damaged; it is made anew"),
    "the end": (".npy", cut, "bytes, not .*; it is made anew"),
    "everything": (".npy", lambda path: path.write_bytes(b""), "its header is damaged; it is made anew"),
    "a bit of the checksums": (".sums", lambda path: flip(path, -50), "its checksums are damaged .*made anew"),
    "the checksums' end": (".sums", cut, "its checksums are damaged"),
    "empty checksums": (".sums", lambda path: path.write_bytes(b""), "its checksums are damaged .it is empty"),
    "no checksums": (".sums", lambda path: path.unlink(), "it has no checksums .an earlier version made it"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_to_decoded_pictures_is_healed_and_said(home, pictures, capfd, name):
    suffix, damage, message = DAMAGE[name]
    whole, file = pack(pictures)
    assert "made" not in capfd.readouterr().out
    damage(file.with_suffix(suffix))
    again, _ = pack(pictures)
    np.testing.assert_array_equal(again, whole)
    printed = capfd.readouterr().out
    assert printed.count("\n") == 1 and re.search(message, printed), printed
    np.testing.assert_array_equal(pack(pictures)[0], whole)
    assert not capfd.readouterr().out  # once


@pytest.mark.parametrize("name", ["a bit of the pixels", "a bit of the checksums", "no checksums"])
def test_damage_to_maps_is_healed_and_said(home, pictures, capfd, name):
    suffix, damage, message = DAMAGE[name]
    whole = all_maps(pictures)
    (file,) = (home / "cache" / "maps").glob("*.npy")
    damage(file.with_suffix(suffix))
    np.testing.assert_array_equal(all_maps(pictures), whole)
    assert re.search(message, capfd.readouterr().out)


def test_caches_that_were_swapped_are_made_anew(home, pictures, tree, capfd):
    one, one_file = pack(pictures)
    shutil.copytree(pictures, other_root := pictures.parent / "other")
    for path in sorted(other_root.glob("*/*/*.bmp")):
        edit(path, "blue")
    os.rename(other_root / "photo" / "cat", other_root / "photo" / "cow")
    other, other_file = pack(other_root)
    for suffix in (".npy", ".sums"):
        shutil.copy(other_file.with_suffix(suffix), one_file.with_suffix(suffix))
    np.testing.assert_array_equal(pack(pictures)[0], one)
    assert "its checksums are damaged" in capfd.readouterr().out


def test_rows_that_were_swapped_within_a_cache_are_noticed(home, pictures):
    whole, file = pack(pictures)
    swapped = np.lib.format.open_memmap(file, "r+")
    swapped[[0, 1]] = swapped[[1, 0]]
    swapped.flush()
    np.testing.assert_array_equal(pack(pictures)[0], whole)


def test_what_an_earlier_version_left_is_not_trusted(home, pictures, capfd):
    whole, file = pack(pictures)
    file.with_suffix(".sums").unlink()
    black = np.zeros_like(whole)
    np.save(file, black)
    np.save(file.with_suffix(".partial.npy"), black)
    file.with_suffix(".partial.npy").rename(file.with_suffix(".partial"))
    file.with_suffix(".done").write_bytes(b"\1" * 200)
    np.testing.assert_array_equal(pack(pictures)[0], whole)
    assert not file.with_suffix(".partial").exists() and not file.with_suffix(".done").exists()


def test_a_damaged_row_of_an_unfinished_pack_is_decoded_again(home, pictures, monkeypatch):
    whole, file = pack(pictures)
    file.unlink()
    read = images.read
    monkeypatch.setattr(images, "BATCH", 16)
    monkeypatch.setattr(images, "read", lambda manifest, row: read(manifest, row) if row != 40 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pack(pictures)
    monkeypatch.setattr(images, "read", read)
    flip(file, 128 + 5 * whole[0].size)  # of a row that is done
    flip(file, -1)  # of one that is not
    np.testing.assert_array_equal(pack(pictures)[0], whole)


def test_a_checksum_is_looked_at_once_in_a_process(home, pictures, monkeypatch):
    pack(pictures)
    calls = []
    crc32 = arrays.zlib.crc32
    monkeypatch.setattr(arrays.zlib, "crc32", lambda row: calls.append(1) or crc32(row))
    inputs = features.pixels(data.folders(pictures), 16, progress=False)
    assert not calls  # `pack` has looked
    monkeypatch.setattr(arrays, "_looked_at", {})
    inputs = features.pixels(data.folders(pictures), 16, progress=False)
    inputs[np.array([3, 3, 5])], inputs[np.array([3, 5])], inputs[np.array([5, 7])]
    assert len(calls) == 3  # rows 3, 5 and 7: nothing is read that is not asked for


# ------------------------------------------------------------------------------------------------------------- editing


def test_a_picture_edited_at_equal_size_and_time_is_decoded_and_mapped_again(home, pictures):
    before, _ = pack(pictures)
    maps_before = all_maps(pictures)
    fingerprint = data.folders(pictures).fingerprint
    content = images.content(data.folders(pictures))
    edit(sorted(pictures.glob("*/*/*.bmp"))[7])
    assert data.folders(pictures).fingerprint == fingerprint  # which names runs
    assert images.content(data.folders(pictures)) != content
    after, _ = pack(pictures)
    assert np.flatnonzero((after != before).any((1, 2, 3))).tolist() == [7]
    assert (after[7] == (255, 0, 0)).all()
    assert np.flatnonzero((all_maps(pictures) != maps_before).any((1, 2, 3))).tolist() == [7]


def test_rehash_reads_what_no_time_tells(home, pictures, monkeypatch):
    """A disk changes bytes and no time: the stamps that are known are made those of the changed file."""
    pack(pictures)
    manifest = data.folders(pictures)
    monkeypatch.setattr(images, "RECENT_NS", -(10**18))
    images.contents(manifest)
    victim = sorted(pictures.glob("*/*/*.bmp"))[7]
    stamps = manifest.stamps()
    edit(victim)
    monkeypatch.setattr(data.Manifest, "stamps", lambda self: stamps)
    assert (images.packed(manifest, 16, progress=False)[7] != (255, 0, 0)).any()
    assert (images.packed(manifest, 16, progress=False, rehash=True)[7] == (255, 0, 0)).all()


def test_files_that_have_not_changed_are_not_read_again(home, pictures, monkeypatch):
    monkeypatch.setattr(images, "RECENT_NS", -(10**18))
    manifest = data.folders(pictures)
    images.contents(manifest)
    monkeypatch.setattr(images, "content_of", lambda path: pytest.fail(f"{path} was read"))
    images.contents(manifest)
    monkeypatch.undo()
    os.environ["UCDR_HOME"] = str(home)


def test_a_damaged_list_of_contents_is_said_and_made_again(home, pictures, capfd):
    contents = images.contents(data.folders(pictures))
    (file,) = (home / "cache" / "images").glob("*.contents")
    flip(file, -9)
    np.testing.assert_array_equal(images.contents(data.folders(pictures)), contents)
    assert "the pictures are read again" in capfd.readouterr().out


def test_a_damaged_list_of_unreadable_files_hides_none(home, pictures, capfd):
    (pictures / "photo" / "cat" / "broken.bmp").write_bytes(b"no picture")
    images.packed(data.folders(pictures), 16, progress=False, skip_unreadable=True)
    (file,) = (home / "cache" / "images").glob("*.unreadable")
    file.write_bytes(b"")
    with pytest.raises(images.Unreadable, match="broken.bmp"):
        images.packed(data.load("folders", pictures), 16, progress=False)
    assert "is tried again" in capfd.readouterr().out


def test_a_picture_that_changes_while_others_are_decoded_is_said(home, pictures, monkeypatch):
    read = images.read
    victim = sorted(pictures.glob("*/*/*.bmp"))[7]

    def edited(manifest, row):
        if row == 7:
            edit(victim)
        return read(manifest, row)

    monkeypatch.setattr(images, "read", edited)
    with pytest.raises(DataError, match=f"{victim.name} changed while the pictures were decoded"):
        pack(pictures)
    monkeypatch.setattr(images, "read", read)
    assert (pack(pictures)[0][7] == (255, 0, 0)).all()


# ---------------------------------------------------------------------------------------------------------------- disks


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A home on a disk of 300 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("only root may mount")
    monkeypatch.setenv("UCDR_HOME", str(disk))
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_is_one_line_and_no_signal(tiny, pictures):
    """In a process of its own: written through a map, the same is SIGBUS."""
    command = [sys.executable, "-m", "ucdr_core", "data", "pack", "folders", "--data-root", str(pictures)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=paths.REPOSITORY)
    assert done.returncode == 2, done
    last = done.stderr.strip().splitlines()[-1]
    assert "No space left on device" in last and "make room" in last and "Traceback" not in done.stderr
    assert not list(tiny.rglob("*.npy"))  # nor is what there was room for left


def test_a_home_that_is_a_file_is_one_line(tmp_path, pictures, monkeypatch, capsys):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("UCDR_HOME", str(tmp_path / "file"))
    assert cli.main(["data", "pack", "folders", "--data-root", str(pictures), "--size-px", "16"]) == 2
    assert "Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "-1", "1048576"])
def test_a_size_out_of_range_is_refused(pictures, capsys, size):
    assert cli.main(["data", "pack", "folders", "--data-root", str(pictures), f"--size-px={size}"]) == 2
    assert f"--size-px must lie in [1, 1024], not {size}" in capsys.readouterr().err


def test_a_checked_array_is_indexed_as_one_in_memory(home, tmp_path, random):
    values = random.standard_normal((10, 3, 2))
    origins = random.integers(1, 255, (10, arrays.ORIGIN), np.uint8)
    array = arrays.CheckedArray(tmp_path / "a.npy", origins, lambda rows: (rows, values[rows]), 4)
    array.fill(array.missing())
    for key in (3, -1, slice(2, 5), np.array([4, 4, 0]), values[:, 0, 0] > 0, (2, 1), (slice(None), 0)):
        np.testing.assert_array_equal(array[key], values[key])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)
    assert array.shape == values.shape and array.dtype == values.dtype and len(array) == 10
    assert files.sealed(tmp_path / "a.sums")
