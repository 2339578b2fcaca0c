"""What the cases are made of: hypothesis strategies for files of every kind that the library reads.

Most files are good ones that were changed: what is nearly right goes deepest.
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
import warnings
import zipfile
import zlib
from typing import Any

import numpy as np
from cases import Case
from hypothesis import strategies as st
from PIL import Image

CLASSES = ("bird", "car", "cat", "dog", "fish", "house")


def seeded() -> st.SearchStrategy[np.random.Generator]:
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """The bytes with some flipped, cut off, put in, or put in another place."""
    for _ in range(draw(st.integers(1, 3))):
        size = len(content)
        if not size:
            return content
        place = draw(st.integers(0, size - 1))
        match draw(st.sampled_from(("flip", "flip", "flip", "set", "cut", "insert", "repeat", "zero", "head"))):
            case "flip":
                flipped = content[place] ^ 1 << draw(st.integers(0, 7))
                content = content[:place] + bytes([flipped]) + content[place + 1 :]
            case "set":
                value = draw(st.sampled_from((b"\x00", b"\xff", b"\x7f", b"\x80\x00\x00\x00", b"\xff\xff\xff\xff")))
                content = content[:place] + value + content[place + len(value) :]
            case "cut":
                content = content[:place]
            case "insert":
                content = content[:place] + draw(st.binary(min_size=1, max_size=8)) + content[place:]
            case "repeat":
                content = content[:place] + content[max(0, place - 16) :]
            case "zero":
                content = content[:place] + bytes(min(16, size - place)) + content[place + 16 :]
            case "head":
                place = draw(st.integers(0, min(size - 1, 63)))
                flipped = content[place] ^ 1 << draw(st.integers(0, 7))
                content = content[:place] + bytes([flipped]) + content[place + 1 :]
    return content


def perhaps_damaged(content: bytes, share: int = 3) -> st.SearchStrategy[bytes]:
    """Damaged in one of `share` cases."""
    return st.integers(1, share).flatmap(lambda n: damaged(content) if n == share else st.just(content))


# ---------------------------------------------------------------------------------------------------------------- npz

NUMBERS = (
    "<f8",
    "<f4",
    "<f2",
    ">f8",
    ">f4",
    "<i8",
    "<i4",
    "<i2",
    "i1",
    "<u8",
    "<u4",
    "u1",
    "?",
    "g",
    "<c8",
    "<U3",
    "<M8[s]",
)
VALUES = ("normal", "lattice", "offset", "huge", "tiny", "mixed", "constant", "copies", "outlier", "not finite")
HEADERS = (  # of an array, in the place of its own
    "{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000, 4), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 4), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 18446744073709551616), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (2.0, 4), }",
    "{'descr': '<f8', 'fortran_order': True, 'shape': (3, 2), }",
    "{'descr': '<f8', 'fortran_order': 0, 'shape': (3, 2), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (3, 2), }",
    "{'descr': '<U1000000000', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': [('a', '<f8'), ('b', '<f8')], 'fortran_order': False, 'shape': (3,), }",
    "{'descr': 'V8', 'fortran_order': False, 'shape': (3, 2), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (), }",
    f"{{'descr': '<f8', 'fortran_order': False, 'shape': {(1,) * 70}, }}",
    "{'descr': __import__('os').getpid(), 'fortran_order': False, 'shape': (3, 2), }",
    "{'descr': '<f8', 'shape': (3, 2), }",
    "(" * 500,
    "\x00",
    "",
)


@st.composite
def embeddings(draw, rows: int, dimension: int, values: str) -> np.ndarray:
    """(rows, dimension) float64 of the named kind of VALUES."""
    random = draw(seeded())
    array = random.standard_normal((rows, dimension))
    match values:
        case "lattice":
            array = np.round(array)
        case "offset":
            array += 10.0 ** draw(st.integers(2, 15))
        case "huge":
            array *= 10.0 ** draw(st.integers(150, 307))
        case "tiny":
            array *= 10.0 ** -draw(st.integers(150, 320))
        case "mixed":
            array *= 10.0 ** random.integers(-200, 200, array.shape)
        case "constant":
            array[:] = array[0]
        case "copies":
            array = array[random.integers(0, max(1, rows // 2), rows)]
        case "outlier":
            array[random.integers(rows)] *= 10.0 ** draw(st.integers(3, 18))
        case "not finite":
            array[random.integers(rows), random.integers(dimension)] = draw(st.sampled_from((np.nan, np.inf, -np.inf)))
    return array


LABELS = {
    "text": lambda codes: np.array(CLASSES)[codes],
    "bytes": lambda codes: np.array(CLASSES, "S")[codes],
    "unicode": lambda codes: np.array(["ñ", "n\u0303", "猫", "😀", "", " cat"])[codes],
    "integers": lambda codes: codes,
    "unsigned": lambda codes: codes.astype(np.uint64),
    "large": lambda codes: codes + 2**53,
    "largest": lambda codes: codes.astype(np.uint64) + np.uint64(2**64 - 9),
    "smallest": lambda codes: codes + np.iinfo(np.int64).min,
    "fractions": lambda codes: codes.astype(np.float64),
    "large fractions": lambda codes: (codes + 2**53).astype(np.float64),
    "single": lambda codes: (codes + 2**24).astype(np.float32),
    "truths": lambda codes: codes % 2 == 1,
    "dates": lambda codes: codes.astype("M8[D]"),
    "complex": lambda codes: codes.astype(np.complex128),
    "not finite": lambda codes: np.where(codes == 0, np.nan, codes),
    "column": lambda codes: codes[:, None],
    "too few": lambda codes: codes[:-1],
}


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version, allow_pickle=False)
    return file.getvalue()


def with_header(array: bytes, header: str) -> bytes:
    """The bytes of a .npy file under another header."""
    length = struct.unpack("<H", array[8:10])[0]
    text = header.encode("latin1") + b"\n"
    return array[:8] + struct.pack("<H", len(text)) + text + array[10 + length :]


@st.composite
def npz(draw, arrays: dict[str, np.ndarray], hostile: bool) -> bytes:
    """An .npz file of the arrays; a hostile one has a header, a member, or a flag that is not what it should be."""
    members = [(f"{name}.npy", npy(array)) for name, array in arrays.items()]
    what = "" if not hostile else draw(st.sampled_from((
        "header", "header", "duplicate", "bare duplicate", "extra", "bare", "empty", "one array", "encrypted", "larger",
        "trailing", "checksum", "damaged array", "version", "folder", "none",
    )))  # fmt: skip
    number = draw(st.integers(0, len(members) - 1))
    name, content = members[number]
    match what:
        case "header":
            members[number] = (name, with_header(content, draw(st.sampled_from(HEADERS))))
        case "duplicate":
            members.append((name, draw(damaged(content))))
        case "bare duplicate":
            members.insert(draw(st.integers(0, 2)), (name.removesuffix(".npy"), content))
        case "extra":
            members.insert(0, ("notes.npy", b"no array"))
        case "bare":
            members[number] = (name.removesuffix(".npy"), content)
        case "empty":
            members = []
        case "one array":
            return content
        case "trailing":
            members[number] = (name, content + b"more")
        case "damaged array":
            members[number] = (name, draw(damaged(content)))
        case "version":
            members[number] = (name, content[:6] + bytes([draw(st.integers(0, 4)), 0]) + content[8:])
        case "folder":
            members[number] = (f"{name}/", b"")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))) as pack:
        for name, content in members:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a name that is there twice
                pack.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, compress_type=pack.compression)
    whole = file.getvalue()
    entry = whole.find(b"PK\x01\x02")
    match what:
        case "encrypted":
            whole = whole[: entry + 8] + b"\x01\x00" + whole[entry + 10 :]
        case "larger":
            whole = whole[: entry + 24] + struct.pack("<I", 0xFFFFFF00) + whole[entry + 28 :]
        case "checksum":
            whole = whole[: entry + 16] + b"\x00\x01\x02\x03" + whole[entry + 20 :]
    return whole


def cast(array: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        if np.dtype(dtype).kind in "iu":
            array = np.nan_to_num(array * 10).clip(-100, 100) if np.dtype(dtype).itemsize < 8 else np.nan_to_num(array)
            array = np.abs(array) if np.dtype(dtype).kind == "u" else array
            limit = float(2 ** (62 if np.dtype(dtype).itemsize == 8 else 6))
            array = array.clip(-limit, limit)
        return array.astype(dtype)


@st.composite
def evaluations(draw) -> Case:
    """Two .npz files of embeddings and labels, and a distance: `ordinary` ones must be scored."""
    hostile = draw(st.booleans())
    rows, dimension = {"q": draw(st.integers(1, 5)), "g": draw(st.integers(1, 12))}, draw(st.integers(1, 5))
    values = draw(st.sampled_from(VALUES))
    kind = draw(st.sampled_from((*NUMBERS[:2] * 6, *NUMBERS)))
    label = draw(st.sampled_from((*("text", "integers") * 6, *LABELS)))
    other = draw(st.sampled_from((*(label,) * 2 * len(LABELS), *LABELS)))
    both = draw(embeddings(sum(rows.values()), dimension, values))
    random = draw(seeded())
    files, start = {}, 0
    for side, chosen in (("q", label), ("g", other)):
        array = cast(both[start : start + rows[side]], kind if side == "q" or draw(st.booleans()) else "<f8")
        if draw(st.booleans()):
            array = np.asfortranarray(array)
        labels = LABELS[chosen](random.integers(0, len(CLASSES) // 2, rows[side]))
        content = draw(npz({"embeddings": array, "labels": labels}, hostile and draw(st.booleans())))
        files[f"{side}.npz"] = draw(perhaps_damaged(content, 4)) if hostile else content
        start += rows[side]
    ordinary = not hostile and kind in ("<f8", "<f4", "<i8") and label == other and label in ("text", "integers")
    ordinary &= (
        values in ("normal", "lattice", "offset", "constant", "copies", "outlier") and np.dtype(kind).kind == "f"
    )
    return Case("evaluate", files, {
        "distance": draw(st.sampled_from(("euclidean", "cosine"))), "ordinary": ordinary,
    })  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- pictures

SIDE = (12, 8)  # width and height of the small pictures
FORMATS = {  # modes of each format that Pillow writes
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "P transparent", "L transparent"),
    "jpeg": ("L", "RGB", "CMYK"),
    "webp": ("RGB", "RGBA", "animated"),
    "gif": ("L", "P", "P transparent", "animated"),
    "bmp": ("1", "L", "P", "RGB", "RGBA"),
    "tiff": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"),
}
COMPRESSIONS = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "raw")


def shape(seed: int = 0, size: tuple[int, int] = SIDE) -> np.ndarray:
    """(height, width, 3) uint8: a drawing of smooth colours, in which no turn or flip looks like another."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width] / max(size)
    random = np.random.default_rng(seed)
    waves = [np.sin(x * random.uniform(1, 3) + y * random.uniform(1, 3) + random.uniform(0, 6)) for _ in range(3)]
    picture = (np.stack(waves, 2) * 100 + 128).astype(np.uint8)
    picture[: height // 2, : width // 3] = 20
    return picture


def picture(format: str, mode: str, orientation: int = 1, compression: str | None = None) -> bytes:
    """A small picture in this format and mode; its middle looks as `shape` does."""
    pixels = shape()
    colour = Image.fromarray(pixels)
    grey = np.asarray(colour.convert("L"))
    more: dict[str, Any] = {"quality": 95} if format in ("jpeg", "webp") else {}
    if format == "webp":
        more["lossless"] = True
    if compression and format == "tiff":
        more["compression"] = compression
    if orientation != 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        more["exif"] = exif.tobytes()
    match mode.split():
        case ["I;16"]:
            image = Image.fromarray(grey.astype(np.uint16) * 257)
        case ["I"]:
            image = Image.fromarray(grey.astype(np.int32) * 257)
        case ["F"]:
            image = Image.fromarray(grey.astype(np.float32) / 255)
        case ["animated"]:
            image = colour if format == "webp" else colour.convert("P")
            more |= {"save_all": True, "append_images": [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]}
        case [name, "transparent"]:
            image = colour.convert(name)
            more["transparency"] = 0
        case ["LA"]:
            image = colour.convert("L").convert("LA")
        case [name]:
            image = colour.convert(name)
    file = io.BytesIO()
    image.save(file, format, **more)
    return file.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header has this size, over the pixels of a small one."""
    content = picture("png", "RGB")
    header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


NO_PICTURES = (
    b"",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n0 0 8 8 rectfill\nshowpage\n",
    b"<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'/>",
    b"\x00\x00\x01\x00\x01\x00\x08\x08\x00\x00\x01\x00\x20\x00" + bytes(64),
    b"P6 99999 99999 255\n" + bytes(64),
    b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(40),
    b"BM" + bytes(16) + struct.pack("<ii", 60_000, 60_000) + bytes(32),
    b"II*\x00\x08\x00\x00\x00\xff\xff" + bytes(64),
    b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00" + b"\xff\xff\xff" * 2,
    b"%PDF-1.4\n",
)


@st.composite
def pictures(draw) -> Case:
    """A file with a picture's name; `format` and `mode` of one that was not damaged."""
    format = draw(st.sampled_from(sorted(FORMATS)))
    mode = draw(st.sampled_from(FORMATS[format]))
    orientation = draw(st.sampled_from((1, *range(1, 9)))) if format in ("png", "jpeg", "webp", "tiff") else 1
    content = picture(format, mode, orientation, draw(st.sampled_from(COMPRESSIONS)))
    suffix = draw(st.sampled_from((format, format, "png", "jpg", "tif")))
    values: dict[str, Any] = {"name": f"picture.{suffix}"}
    match draw(st.sampled_from(("whole", "damaged", "damaged", "damaged", "spliced", "sized", "none"))):
        case "whole":
            values |= {"format": format, "mode": mode, "orientation": orientation}
        case "damaged":
            content = draw(damaged(content))
        case "spliced":
            other = draw(st.sampled_from(sorted(FORMATS)))
            tail = picture(other, draw(st.sampled_from(FORMATS[other])))
            content = content[: draw(st.integers(0, len(content)))] + tail[draw(st.integers(0, len(tail))) :]
        case "sized":
            sides = st.sampled_from((0, 1, 12, 13, 5_000, 20_000, 65_535, 2**31 - 1, 2**32 - 1))
            content = png_of_size(draw(sides), draw(sides))
        case "none":
            content = draw(st.sampled_from(NO_PICTURES))
    return Case("picture", {values["name"]: content}, values)


# --------------------------------------------------------------------------------------------------- splits and specs

WEIRD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from((0, -1, 1, 2, 3.5, 10**400, -(10**30), 2**63, 2**64, 1e308, 1e-320, float("nan"), float("inf"))),
    st.sampled_from(
        ("", " ", "cat", "../cat", "/etc", "a\nb", "\x00", "\u2028", "\x1b[31m", "ñ", "\ud800", "x" * 5000)
    ),
    st.text(max_size=5),
    st.sampled_from(([], {}, [[]], [None], ["cat", "cat"], {"cat": None}, {"": ""}, [["cat"]], {"0": [1]})),
    st.recursive(st.integers(-9, 9) | st.text(max_size=2), lambda inner: st.lists(inner, max_size=3), max_leaves=5),
)


@st.composite
def changed(draw, value: Any) -> Any:
    """A JSON value with some of its parts replaced, left out, added or wrapped."""
    for _ in range(draw(st.integers(1, 2))):
        value = draw(_changed_once(value))
    return value


@st.composite
def _changed_once(draw, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        name = draw(st.sampled_from(sorted(value)))
        match draw(st.sampled_from(("inside", "inside", "inside", "leave out", "add", "rename"))):
            case "inside":
                return {**value, name: draw(_changed_once(value[name]))}
            case "leave out":
                return {key: one for key, one in value.items() if key != name}
            case "add":
                return {**value, draw(st.text(max_size=6)): draw(WEIRD)}
            case "rename":
                return {key if key != name else name.upper(): one for key, one in value.items()}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(value) - 1))
        replacement = draw(_changed_once(value[place]) | st.just(value[0]))
        return [*value[:place], replacement, *value[place + 1 :]]
    alike: tuple[Any, ...] = ()
    if isinstance(value, bool):
        alike = (not value,)
    elif isinstance(value, int | float):
        half = value / 2 if abs(value) < 2**1000 else value // 2
        alike = (value + 1, half, value * 2, -value)
    elif isinstance(value, str):
        alike = (*CLASSES, "sketch", "photo", "moon", "val", "last")
    if alike and draw(st.booleans()):
        return draw(st.sampled_from(alike))
    return draw(WEIRD | st.just([value]) | st.just({"": value}) | st.just(str(value)))


SPLIT = {
    "name": "own",
    "source": "made by hand",
    "words": {"house": "home"},
    "train": ["bird", "car", "cat"],
    "val": ["dog"],
    "test": ["fish", "house"],
}


@st.composite
def splits(draw) -> Case:
    """A split file."""
    what = draw(
        st.sampled_from(
            ("whole", "whole", "changed", "changed", "changed", "text", "twice", "deep", "not UTF-8", "mark")
        )
    )
    text = json.dumps(SPLIT).encode()
    match what:
        case "changed":
            text = json.dumps(draw(changed(SPLIT))).encode()
        case "text":
            text = draw(damaged(text))
        case "twice":
            name = draw(st.sampled_from(("train", "test", "val", "words")))
            text = text[:-1] + f', "{name}": {json.dumps(draw(WEIRD | st.just(["moon"])))}}}'.encode()
        case "deep":
            depth = draw(st.sampled_from((100, 5_000, 200_000)))
            text = b'{"train": ' + b"[" * depth + b"]" * depth + b"}"
        case "not UTF-8":
            text = text.replace(b"cat", draw(st.sampled_from((b"c\xe4t", b"\xff\xfe", b"\xed\xa0\x80"))))
        case "mark":
            text = b"\xef\xbb\xbf" + text
    return Case("split", {"own.json": text}, {"ordinary": what == "whole"})


SPEC = {
    "method": "snmpnet",
    "dataset": "emoji-sketchy",
    "split": "emoji",
    "train_domains": ["sketch", "photo"],
    "gallery_domain": "photo",
    "gallery_held_out": 0.1,
    "classes_left_out": 0.0,
    "samples_left_out": 0.0,
    "query_share": 1.0,
    "backbone": "efficientnet_lite0",
    "weights": "random",
    "regime": "frozen",
    "size_px": 64,
    "precision": "float32",
    "pixels": "normalised",
    "invert_domains": ["sketch"],
    "vectors": "glove-50",
    "vectors_centred": True,
    "vectors_normalised": True,
    "vectors_length": 6.7,
    "embedding_dim": 300,
    "permuted_names": False,
    "options": {"kappa": 2.0, "distance": "cosine"},
    "recipe": {
        "optimiser": "adam", "lr": 1e-3, "decay": "constant", "momentum": 0.9, "nesterov": True, "weight_decay": 0.0,
        "batch_size": 12, "epochs": 2, "patience": 3, "selection": "val", "select_by": "map_all", "beta1": 0.9,
        "photo_share": 0.5, "warmup_steps": 2, "clip_norm": 1.0, "reshuffle": True,
    },
    "features": {},
    "world_size": 1,
    "seed": 3,
    "data_root": None,
}  # fmt: skip


@st.composite
def specs(draw) -> Case:
    """Values of a TrainSpec, as JSON."""
    ordinary = draw(st.integers(0, 5)) == 5
    spec = SPEC if ordinary else draw(changed(SPEC))
    return Case("spec", {"spec.json": json.dumps(spec).encode()}, {"ordinary": ordinary})


# ------------------------------------------------------------------------------------------------------------ vectors

DIMENSION = 4
VECTORS = {  # whole in single precision, so that every format holds them
    word: [float(value) for value in np.random.default_rng(n).integers(-64, 64, DIMENSION) / 8]
    for n, word in enumerate((*CLASSES, "the", "home"))
}


def vectors_file(suffix: str, rows: list[tuple[str, list[float]]]) -> bytes:
    """A file of word vectors in the format of its suffix."""
    match suffix:
        case ".txt":
            return "".join(f"{word} {' '.join(map(repr, row))}\n" for word, row in rows).encode()
        case ".vec":
            return f"{len(rows)} {DIMENSION}\n".encode() + vectors_file(".txt", rows)
        case ".bin":
            binary = (word.encode() + b" " + np.array(row, "<f4").tobytes() + b"\n" for word, row in rows)
            return f"{len(rows)} {DIMENSION}\n".encode() + b"".join(binary)
        case ".npz":
            file = io.BytesIO()
            np.savez(file, words=np.array([word for word, _ in rows]), vectors=np.array([row for _, row in rows]))
            return file.getvalue()
    raise ValueError(suffix)


@st.composite
def vectors(draw) -> Case:
    """A file of word vectors; `rows` {word: values} where it was written as they say."""
    suffix = draw(st.sampled_from((".txt", ".vec", ".bin", ".npz")))
    rows = list(VECTORS.items())
    what = draw(st.sampled_from(("whole", "whole", "row", "row", "damaged", "damaged", "hostile", "none")))
    rows_known: dict[str, Any] | None = dict(rows) if what == "whole" else None
    content = vectors_file(suffix, rows)
    if what == "row":
        place, (word, row) = 2, rows[2]
        wrong = draw(st.sampled_from(("short", "long", "nan", "inf", "huge", "zero", "twice", "word", "missing")))
        changed_row = {
            "short": row[:-1], "long": [*row, 1.0], "nan": [*row[:-1], float("nan")], "inf": [*row[:-1], float("inf")],
            "huge": [1e308] * DIMENSION, "zero": [0.0] * DIMENSION,
        }.get(wrong, row)  # fmt: skip
        if suffix == ".npz" and wrong in ("short", "long"):
            changed_row = [*row[:-1], float("nan")]
        rows[place] = (word if wrong != "word" else draw(st.sampled_from(("Cat", "cat ", "ca\tt", "cät"))), changed_row)
        if wrong == "twice":
            rows.append((word, [value + 1 for value in row]))
        if wrong == "missing":
            del rows[place]
        if suffix == ".bin":
            changed_row = [min(max(value, -3e38), 3e38) if np.isfinite(value) else value for value in changed_row]
            rows = [(name, changed_row if name == word and wrong == "huge" else one) for name, one in rows]
        content = vectors_file(suffix, rows)
    elif what == "damaged":
        content = draw(damaged(content))
    elif what == "hostile":
        if suffix == ".npz":
            arrays = {"words": np.array([w for w, _ in rows]), "vectors": np.array([r for _, r in rows])}
            content = draw(npz(arrays, True))
        else:
            first = draw(
                st.sampled_from((b"9999999999 4", b"-1 4", b"8 -4", b"8 9999999999", b"8", b"", b"x y", b"8 0"))
            )
            content = first + b"\n" + content.split(b"\n", 1)[1]
    elif what == "none":
        content = draw(st.sampled_from((b"", b"\n", b"\x00" * 64, b"PK\x05\x06" + bytes(18))))
    return Case("vectors", {f"own{suffix}": content}, {"name": f"own{suffix}", "rows": rows_known})


# ----------------------------------------------------------------------------------------------------------- archives

NAMES = (
    "a/one.txt", "a/two.txt", "three.txt", "a/", "./four.txt", "ñ/🐟.txt", "a//five.txt", "../out.txt",
    "a/../../out.txt", "/tmp/ucdr-fuzz-out.txt", "C:\\out.txt", "..\\out.txt", "a\\..\\..\\out.txt", "a", "a/one.txt/b",
    "x" * 300, "", ".", "..", "own.txt/inner", "a/..", "con:stream", "\x1b[31m.txt", "line\nbreak.txt",
)  # fmt: skip


@st.composite
def archives(draw) -> Case:
    """An archive; `members` {name: content} of one that is good."""
    members = {"a/one.txt": b"one" * 50, "a/two.txt": b"two", "three.txt": b""}
    what = draw(
        st.sampled_from(("whole", "damaged", "damaged", "name", "name", "name", "kind", "kind", "bomb", "none"))
    )
    suffix = draw(st.sampled_from((".zip", ".tar", ".tar.gz", ".tar.bz2")))
    odd = draw(st.sampled_from(NAMES)) if what == "name" else None
    if what == "none":
        content = draw(
            st.sampled_from((b"", b"PK", b"\x1f\x8b\x08\x00", b"<html>404</html>", b"ustar" * 100, bytes(10240)))
        )
    elif suffix == ".zip":
        content = draw(_zip(members, odd, what))
    else:
        content = draw(_tar(members, odd, what, suffix))
    if what == "damaged":
        content = draw(damaged(content))
    good = {name: data.decode() for name, data in members.items()} if what == "whole" else None
    return Case("archive", {f"pack{suffix}": content}, {"name": f"pack{suffix}", "members": good})


@st.composite
def _zip(draw, members: dict[str, bytes], odd: str | None, what: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))) as pack:

        def add(name: str, content: bytes, mode: int = 0o644) -> None:
            info = zipfile.ZipInfo("x", (1980, 1, 1, 0, 0, 0))
            info.filename, info.external_attr, info.compress_type = name, mode << 16, pack.compression
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a name that is there twice
                pack.writestr(info, content)

        for name, content in members.items():
            add(name, content)
        if odd is not None:
            add(odd, b"odd")
        if what == "kind":
            add("odd", b"../../out.txt", draw(st.sampled_from((0o120777, 0o010644, 0o060644, 0o104755, 0o000000))))
        if what == "bomb":
            pack.writestr(zipfile.ZipInfo("zeros"), bytes(8 << 20), zipfile.ZIP_DEFLATED)
    whole = file.getvalue()
    entry = whole.rfind(b"PK\x01\x02")
    if what == "bomb":
        whole = whole[: entry + 24] + struct.pack("<I", draw(st.sampled_from((0, 1, 0xFFFFFF00)))) + whole[entry + 28 :]
    if what == "kind" and draw(st.booleans()):
        whole = whole[: entry + 8] + b"\x01\x00" + whole[entry + 10 :]  # encrypted
    return whole


@st.composite
def _tar(draw, members: dict[str, bytes], odd: str | None, what: str, suffix: str) -> bytes:
    file = io.BytesIO()
    mode = {".tar": "w:", ".tar.gz": "w:gz", ".tar.bz2": "w:bz2"}[suffix]
    form = draw(st.sampled_from((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)))
    with tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT if odd else form) as pack:

        def add(name: str, content: bytes, kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, link
            pack.addfile(info, io.BytesIO(content))

        for name, content in members.items():
            add(name, content)
        if odd is not None:
            add(odd, b"odd")
        if what == "kind":
            kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z")
            targets = ("../../out.txt", "/etc/passwd", "a/one.txt", "odd", "nowhere")
            add("odd", b"", draw(st.sampled_from(kinds)), draw(st.sampled_from(targets)))
        if what == "bomb":
            add("zeros", bytes(8 << 20))
    return file.getvalue()


# ------------------------------------------------------------------------------------------------ folders and options

DOMAINS = ("photo", "sketch")
ODD = {  # what lies in a folder beside good pictures: kind, path, content or target, and what must be said of it
    "damaged": ("file", "photo/cat/damaged.png", b"\x89PNG\r\n\x1a\n" + bytes(20), ("damaged",)),
    "empty": ("file", "photo/cat/empty.png", b"", ("empty",)),
    "large": ("file", "sketch/dog/large.png", png_of_size(30_000, 30_000), ("large",)),
    "postscript": ("file", "photo/dog/postscript.png", NO_PICTURES[1], ("postscript",)),
    "not UTF-8": ("file", "photo/cat/not-\udcff.png", picture("png", "RGB"), ("not",)),
    "line break": ("file", "photo/cat/line\nbreak.png", picture("png", "L"), ()),
    "escape": ("file", "photo/cat/\x1b[31mred.png", b"no picture", ()),
    "text": ("file", "photo/cat/notes.txt", b"no picture", ()),
    "hidden": ("file", "photo/cat/.hidden.png", b"no picture", ()),
    "deep": ("file", "photo/cat/deep/er.png", picture("png", "L"), ()),
    "shallow": ("file", "photo/shallow.png", picture("png", "L"), ()),
    "to itself": ("link", "photo/cat/itself.png", "itself.png", ("itself",)),
    "to nothing": ("link", "photo/cat/nothing.png", "nowhere.png", ("itself", "nothing")),
    "out": ("link", "photo/cat/out.png", "../../../outside.png", ("out.png",)),
    "folder out": ("link", "photo/outside", "../..", ()),
    "loop": ("link", "photo/loop", ".", ()),
    "pipe": ("pipe", "photo/cat/pipe.png", "", ()),
    "folder": ("folder", "photo/cat/folder.png", "", ()),
}


@st.composite
def folders(draw) -> Case:
    """A folder of own pictures, <domain>/<class>/<file>, with odd entries."""
    kinds = draw(st.lists(st.sampled_from(sorted(ODD)), max_size=5, unique=True))
    files = {
        f"own/{domain}/{name}/{one}.png": picture("png", mode)
        for domain in DOMAINS
        for name in CLASSES
        for one, mode in enumerate(("RGB", "L"))
    }
    files["outside.png"] = picture("png", "RGB")
    if draw(st.integers(0, 9)) == 0:
        files = {"outside.png": files["outside.png"]}
    return Case("folder", files, {"odd": kinds})


KEY = "0123456789abcdef"  # of a run that is not there
SMALL = ("--set", "size_px=32", "--set", "precision=float32", "--set", "recipe.batch_size=8")
COMMANDS = {  # name: its arguments, of which one or two are changed
    "run": ("run", "simple", "--dataset", "folders", "--data-root", "OWN", "--protocol", "zs_sbir", "--plan", *SMALL),
    "set": ("run", "simple", "--dataset", "folders", "--data-root", "OWN", "--plan", *SMALL, "--set", "NAME=VALUE"),
    "evaluate": ("evaluate", "--query", "q.npz", "--gallery", "q.npz", "--distance", "cosine"),
    "data": ("data", "status", "folders", "--data-root", "OWN"),
    "pack": ("data", "pack", "folders", "--data-root", "OWN", "--size-px", "32"),
    "search": ("search", "outside.png", "--folder", "OWN", "-k", "3", "--json"),
    "index": ("index", "OWN", "--run", KEY, "--device", "cpu"),
    "table": ("table", "snmpnet", "table2", "--tier", "embedded"),
    "export": ("export", KEY, "--to", "new"),
}
WORDS = (
    "", " ", "0", "-1", "1e400", str(2**64), str(2**31), "nan", "cat", "photo", "zzz", "cuda:99", "cpu:x", "meta", "..",
    "/", "/dev/null", "/proc/self/mem", "nowhere/at/all", "outside.png", "OWN", "*", "a\nb", "\x1b[31m", "ñ🐟",
    "x" * 300, "--seed", "-k", "\udcff",
)  # fmt: skip
SETTINGS = tuple(SPEC) + tuple(f"recipe.{name}" for name in SPEC["recipe"]) + ("options.zzz", "options.shared", "zzz")


@st.composite
def options(draw) -> Case:
    """A command line that is nearly right; `OWN` stands for a folder of pictures."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    arguments = list(COMMANDS[name])
    if name == "set":
        setting = draw(st.sampled_from(SETTINGS))
        known = {**SPEC, **{f"recipe.{entry}": value for entry, value in SPEC["recipe"].items()}}.get(setting)
        value = draw(st.just(known) | st.just(known) | WEIRD | st.sampled_from(WORDS))
        arguments[-1] = f"{setting}={value if isinstance(value, str) else json.dumps(value)}"
    else:
        place = draw(st.integers(1, len(arguments) - 1))
        match draw(st.sampled_from(("whole", "other", "other", "other", "leave out", "twice"))):
            case "other":
                arguments[place] = draw(st.sampled_from(WORDS))
            case "leave out":
                del arguments[place]
            case "twice":
                arguments.insert(place, draw(st.sampled_from(WORDS)))
    if name in ("export", "index") and KEY not in arguments:  # without a run they train the reader's model, for minutes
        arguments = list(COMMANDS[name])
    if name in ("run", "set") and "--plan" not in arguments:  # they train through a notebook, for half a minute
        arguments.append("--plan")
    arguments = [one.replace("\x00", "") for one in arguments]  # a process cannot be given it
    return Case("options", {}, {"arguments": arguments})
