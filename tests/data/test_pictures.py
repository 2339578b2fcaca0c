"""Pictures are what they show: every mode and format, what is refused, what is listed and skipped."""

import os
import socket
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ucdr_core import cli, data
from ucdr_core.data import images
from ucdr_core.data.manifest import DataError, pictures, printable

EIGHT_BIT = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
EIGHT_BIT[0, :2] = 0, 255


def saved(path, array_or_image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    image.save(path, **options)
    return path


# ---------------------------------------------------------------------------------------------------------------- modes


@pytest.mark.parametrize(
    "name, values",
    [
        ("16 bits.png", EIGHT_BIT.astype(np.uint16) * 257),
        ("16 bits.tif", EIGHT_BIT.astype(np.uint16) * 257),
        ("16 bits, other end.tif", (EIGHT_BIT.astype(np.uint16) * 257).astype(">u2")),
        ("32 bits, as of 8.tif", EIGHT_BIT.astype(np.int32)),
        ("32 bits, wide.tif", (EIGHT_BIT.astype(np.int64) * 8_000_000).astype(np.int32)),
        ("32 bits, negative.tif", EIGHT_BIT.astype(np.int32) * 1000 - 100_000),
        ("real, 0 to 1.tif", EIGHT_BIT / np.float32(255)),
        ("real, 0 to 4000.tif", EIGHT_BIT * np.float32(4000 / 255)),
        ("real, huge.tif", ((EIGHT_BIT / 255 - 0.5) * 6e38).astype(np.float32)),
    ],
)
def test_every_depth_shows_the_same_picture(tmp_path, name, values):
    read = np.asarray(images.read_file(saved(tmp_path / name, values)))
    assert np.abs(read.astype(int) - EIGHT_BIT[:, :, None]).max() <= 1, name


def test_unsigned_integers_of_32_bits_do_not_wrap_around(tmp_path):
    """Pillow reads them as signed, and writes no other kind: the tag SampleFormat is made 1 by hand."""
    path = saved(tmp_path / "a.tif", (EIGHT_BIT.astype(np.uint32) << 24).view(np.int32))
    content = path.read_bytes()
    tag = struct.pack("<HHIH", 339, 3, 1, 2)
    assert content.count(tag) == 1
    path.write_bytes(content.replace(tag, struct.pack("<HHIH", 339, 3, 1, 1)))
    read = np.asarray(images.read_file(path))
    assert np.abs(read.astype(int) - EIGHT_BIT[:, :, None]).max() <= 1


def test_a_value_that_is_not_finite_is_black_or_white_and_nothing_else_changes(tmp_path):
    values = EIGHT_BIT / np.float32(255)
    values[3, 3:6] = np.nan, np.inf, -np.inf
    read = np.asarray(images.read_file(saved(tmp_path / "a.tif", values)))[:, :, 0].astype(int)
    assert read[3, 3:6].tolist() == [0, 255, 0]
    read[3, 3:6] = EIGHT_BIT[3, 3:6]
    assert np.abs(read - EIGHT_BIT).max() <= 1
    with pytest.raises(DataError, match="b.tif is not a readable image .none of its values is finite"):
        images.read_file(saved(tmp_path / "b.tif", np.full((4, 4), np.nan, np.float32)))


def test_every_mode_of_every_format_is_laid_on_white(tmp_path):
    red = (200, 30, 30)
    half = Image.new("RGBA", (8, 8), (*red, 255))
    half.paste((0, 0, 0, 0), (4, 0, 8, 8))
    for name, image in {
        "rgba.png": half,
        "la.png": half.convert("LA"),
        "palette.png": half.quantize(8, Image.Quantize.FASTOCTREE),
        "palette.gif": half,
        "rgba.webp": half,
        "rgba.tif": half,
        "la.tif": half.convert("LA"),
    }.items():
        read = np.asarray(images.read_file(saved(tmp_path / name, image, lossless=True)))
        assert (read[:, 4:] == 255).all() and read[:, :4].max(2).min() > 60 and read[:, :4, 1].max() < 100, name
    for name, image in {
        "cmyk.jpg": Image.new("RGB", (8, 8), red).convert("CMYK"),
        "cmyk.tif": Image.new("RGB", (8, 8), red).convert("CMYK"),
        "ycbcr.tif": Image.new("RGB", (8, 8), red).convert("YCbCr"),
        "rgb.bmp": Image.new("RGB", (8, 8), red),
    }.items():
        read = np.asarray(images.read_file(saved(tmp_path / name, image))).astype(int)
        assert np.abs(read - red).max() <= 4, name
    lab = Image.merge("LAB", [Image.new("L", (8, 8), value) for value in (255, 128, 128)])
    assert np.asarray(images.read_file(saved(tmp_path / "lab.tif", lab))).min() > 250
    assert np.asarray(images.read_file(saved(tmp_path / "one bit.png", Image.new("1", (8, 8), 1)))).min() == 255


def test_what_is_transparent_in_16_bits_is_white(tmp_path):
    values = np.full((4, 4), 1000, np.uint16)
    values[0, 0] = 7
    read = np.asarray(images.read_file(saved(tmp_path / "a.png", values, transparency=7)))
    assert read[0, 0].tolist() == [255] * 3 and read[1, 1].tolist() == [4] * 3


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_orientation_is_obeyed(tmp_path, suffix):
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter to the right
    read = images.read_file(saved(tmp_path / f"a.{suffix}", image, exif=exif))
    assert read.size == (20, 40) and read.getpixel((10, 5)) > (200,) * 3 and read.getpixel((10, 35)) < (50,) * 3


# ------------------------------------------------------------------------------------------------------------- refusals


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, content: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(images.Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    for width, height in ((8001, 8000), (60_000, 60_000), (2**31 - 1, 1)):
        (tmp_path / "a.png").write_bytes(png(width, height))
        with pytest.raises(DataError, match="a.png is not a readable image .*(million pixels|decompression bomb)"):
            images.read_file(tmp_path / "a.png")


def test_threads_hold_a_limited_number_of_pixels_at_once():
    decoding, held, most = images._Decoding(), [0], []
    lock = threading.Lock()

    def work():
        with decoding.of(images.MAX_PIXELS // 3):
            with lock:
                held[0] += 1
                most.append(held[0])
            threading.Event().wait(0.01)
            with lock:
                held[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 12 and max(most) <= 3


@pytest.mark.parametrize("suffix", [".png", ".eps"])
def test_other_formats_are_refused_whatever_their_name(tmp_path, suffix):
    """An EPS would be run by Ghostscript."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / f"b{suffix}")
    with pytest.raises(DataError, match="damaged, or none of BMP, GIF, JPEG, PNG, TIFF, WEBP"):
        images.read_file(tmp_path / f"b{suffix}")


def test_damaged_files_are_errors_that_name_them(tmp_path):
    text = PngInfo()
    text.add_text("bomb", "x" * 70_000_000, zip=True)
    saved(tmp_path / "bomb.png", Image.new("RGB", (4, 4)), pnginfo=text)
    for suffix in ("png", "jpg", "webp", "gif", "bmp", "tif"):
        content = saved(tmp_path / f"whole.{suffix}", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
        (tmp_path / f"cut.{suffix}").write_bytes(content.read_bytes()[: len(content.read_bytes()) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    for path in (*tmp_path.glob("cut.*"), tmp_path / "bomb.png", tmp_path / "empty.png"):
        with pytest.raises(DataError, match=f"{path.name} is not a readable image") as error:
            images.read_file(path)
        assert "\n" not in str(error.value) and "0x" not in str(error.value)


def test_any_damage_is_a_clear_error_or_a_picture(tmp_path, random):
    """Bits of good files are flipped and their ends are cut: whatever a decoder then raises is a DataError."""
    array = random.integers(0, 255, (24, 24, 3), np.uint8)
    for suffix in ("png", "jpg", "webp", "gif", "bmp", "tif"):
        content = bytearray(saved(tmp_path / f"a.{suffix}", array).read_bytes())
        for trial in range(60):
            damaged = bytearray(content)
            for place in random.integers(0, len(content), 1 + trial % 4):
                damaged[place] ^= 1 << int(random.integers(8))
            (tmp_path / f"a.{suffix}").write_bytes(damaged[: None if trial % 3 else random.integers(1, len(damaged))])
            try:
                assert images.read_file(tmp_path / f"a.{suffix}").mode == "RGB"
            except DataError:
                pass


def test_a_picture_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", EIGHT_BIT)
    original = images._on_white
    monkeypatch.setattr(images, "_on_white", lambda image: (path.touch(), original(image))[1])
    with pytest.raises(DataError, match="it changed while it was read"):
        images.read_file(path)


# ------------------------------------------------------------------------------------------------------------- listings


@pytest.fixture
def strange(tmp_path):
    """A folder of one good picture for each of two classes, and everything else that a disk can hold."""
    root = tmp_path / "strange"
    for number, name in enumerate(("cat", "dog")):
        saved(root / "photo" / name / "good.PNG", Image.new("RGB", (8, 8), (number, 0, 0)))
    cat = root / "photo" / "cat"
    saved(tmp_path / "outside.png", EIGHT_BIT)
    good = (cat / "good.PNG").read_bytes()
    (cat / "out.png").symlink_to(tmp_path / "outside.png")
    (cat / "self.png").symlink_to("self.png")
    (cat / "dead.png").symlink_to("nowhere.png")
    (cat / "inside.png").symlink_to("good.PNG")
    (root / "photo" / "loop").symlink_to("..")
    (root / "photo" / "cat" / "up").symlink_to("../..")
    (cat / "line\nbreak.png").write_bytes(good)
    (root / "photo" / "new\nline").mkdir()
    with open(os.fsencode(cat) + b"/latin\xe9.png", "wb") as file:
        file.write(good)
    (cat / "folder.png").mkdir()
    os.mkfifo(cat / "pipe.png")
    server = socket.socket(socket.AF_UNIX)
    with socket_folder(cat):
        server.bind("socket.png")
    saved(root / "photo" / "too shallow.png", EIGHT_BIT)
    yield root
    server.close()


class socket_folder:
    """A socket's path may have 108 bytes only."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        self.before = os.open(".", os.O_RDONLY)
        os.chdir(self.folder)

    def __exit__(self, *_):
        os.fchdir(self.before)
        os.close(self.before)


def test_what_is_no_picture_is_listed_with_its_reason(strange):
    manifest = data.folders(strange)
    assert manifest.samples.path.tolist() == [
        "photo/cat/good.PNG",
        "photo/cat/inside.png",
        "photo/dog/good.PNG",
    ]
    reasons = {printable(path): reason for reason, paths in manifest.left_out.items() for path in paths}
    assert reasons == {
        "photo/cat/out.png": "a link out of the folder",
        "photo/cat/self.png": "a link that leads nowhere",
        "photo/cat/dead.png": "a link that leads nowhere",
        "photo/loop": "a link to a folder",
        "photo/cat/up": "no picture",
        "photo/cat/line\\nbreak.png": "a name that is not UTF-8 or has a control character",
        "photo/new\\nline": "a name that is not UTF-8 or has a control character",
        "photo/cat/latin\\udce9.png": "a name that is not UTF-8 or has a control character",
        "photo/cat/folder.png": "no picture",
        "photo/cat/pipe.png": "no picture",
        "photo/cat/socket.png": "no picture",
        "photo/too shallow.png": "not 3 levels down",
    }
    anywhere, left_out = pictures(strange)
    assert set(anywhere) == {*manifest.samples.path, "photo/too shallow.png"}
    assert left_out["a link to a folder"] == ["photo/cat/up", "photo/loop"]


def test_status_and_pack_name_what_is_left_out_and_what_stands_twice(strange, capsys):
    (strange / "photo" / "dog" / "twin.png").write_bytes((strange / "photo" / "cat" / "good.PNG").read_bytes())
    (strange / "photo" / "dog" / "broken.png").write_bytes(b"no picture")
    for action in ("pack", "status"):
        arguments = ["data", action, "folders", "--data-root", str(strange), "--size-px", "8"]
        assert cli.main(arguments) == 0
        output = capsys.readouterr().out
        assert "left out, a link that leads nowhere: 2 (photo: 2): photo/cat/dead.png" in output
        assert "skipped photo/dog/broken.png: it is damaged, or none of" in output
        assert "1 picture stands in several classes, byte for byte (first photo/cat/good.PNG = photo/cat/ins" in output
        output.encode()  # it can be printed in UTF-8


def test_pictures_of_seen_classes_among_the_tested_are_reported(strange):
    manifest = data.folders(strange)
    split = data.Split("mine", ("cat",), (), ("dog",))
    assert images.twins(manifest, split) == []
    (strange / "photo" / "dog" / "twin.png").write_bytes((strange / "photo" / "cat" / "good.PNG").read_bytes())
    (line,) = images.twins(data.folders(strange), split)
    assert "1 picture stands both in a class that is tested and in one that is not" in line and "dog/twin.png" in line


def test_a_mended_file_is_tried_again_though_its_size_is_the_same(tmp_path):
    root = tmp_path / "data"
    for number, name in enumerate(("cat", "dog")):
        saved(root / "photo" / name / "good.bmp", Image.new("RGB", (8, 8), (number, 0, 0)))
    good = (root / "photo" / "cat" / "good.bmp").read_bytes()
    late = root / "photo" / "cat" / "late.bmp"
    late.write_bytes(bytes(len(good)))
    images.packed(data.folders(root), 8, progress=False, skip_unreadable=True)
    assert (
        list(images.unreadable(data.folders(root))) == ["photo/cat/late.bmp"] and len(data.load("folders", root)) == 2
    )
    times = late.stat()
    late.write_bytes(good)
    os.utime(late, ns=(times.st_atime_ns, times.st_mtime_ns))
    manifest = data.load("folders", root)
    assert len(manifest) == 3 and manifest.base is None
    pixels = images.packed(manifest, 8, progress=False)
    np.testing.assert_array_equal(pixels[1], pixels[0])


def test_one_bad_file_costs_no_other_its_decoding(tree, monkeypatch, tmp_path):
    import shutil

    shutil.copytree(tree, tmp_path / "copy")
    broken = tmp_path / "copy" / "photo" / "cat" / "broken.png"
    broken.write_bytes(b"no picture")
    manifest = data.folders(tmp_path / "copy")
    with pytest.raises(images.Unreadable, match="broken.png"):
        images.packed(manifest, 13, progress=False)
    read, calls = images.read, []
    monkeypatch.setattr(images, "read", lambda manifest, row: (calls.append(row), read(manifest, row))[1])
    images.packed(manifest, 13, progress=False, skip_unreadable=True)
    assert calls == manifest.samples.index[manifest.samples.path == "photo/cat/broken.png"].tolist()


def test_an_empty_data_set_says_what_was_left_out(tmp_path):
    (tmp_path / "photo").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photo" / "cat").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="no images .*a link to a folder: 1 .photo: 1.: photo/cat"):
        data.folders(tmp_path)


def test_a_file_of_too_many_bytes_is_refused_before_it_is_read(tmp_path):
    path = saved(tmp_path / "a.bmp", Image.new("RGB", (8, 8), "red"))
    os.truncate(path, images.MAX_BYTES + 1)
    with pytest.raises(DataError, match="it has 1.07 GB; at most 1.07 GB are read"):
        images.read_file(path)
    assert images.content_of(path) == images.UNREADABLE
