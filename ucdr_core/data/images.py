"""Images: read, decoded once into a packed uint8 cache, and augmented in whole batches on the device."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import time
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ucdr_core import files, paths
from ucdr_core.data.arrays import ORIGIN, CheckedArray, written_to
from ucdr_core.data.manifest import DataError, Manifest, left_out_lines, printable, stamp
from ucdr_core.data.splits import Split, unified
from ucdr_core.device import to_device
from ucdr_core.progress import bar as progress_bar

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MAX_PIXELS = 64_000_000  # of one picture, by its header; and of all that are decoded at the same time
MAX_BYTES = 1 << 30  # of one file
THREADS = max(4, len(os.sched_getaffinity(0)))  # Pillow works without holding the interpreter

# Pillow's own limit is higher, and a warning.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


# ------------------------------------------------------------------------------------------------------------- reading


class PictureError(DataError):
    """A file is no readable image; `why` says it without the file's name."""

    def __init__(self, path: Path, why: str):
        super().__init__(f"{printable(path)} is not a readable image ({why}); mend it or take it out")
        self.why = why


def read(manifest: Manifest, row: int) -> Image.Image:
    """One image as `read_file` gives it, also from a zip file."""
    path = manifest.samples.path.iloc[row]
    if manifest.root.is_dir():
        return read_file(manifest.root / path)
    try:
        member = io.BytesIO(_opened(manifest.root).read(path))
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{manifest.root} is damaged ({error}); install it again") from error
    return _read(member, manifest.root / path)


def read_file(path: Path) -> Image.Image:
    """A picture, RGB on white, turned upright; of several frames or pages the first.

    Integers of 16 bits are divided by 257.  Integers of 32 bits are kept where all lie in 0 to 255, and real numbers
    count from 0 to 1 where all lie there; otherwise their smallest becomes 0 and their largest 255.

    Raises PictureError for a file that is none of FORMATS, has more than MAX_PIXELS pixels, is damaged, or changes
    while it is read.
    """
    try:
        before = stamp(path)
        if before[0] > MAX_BYTES:
            raise PictureError(path, f"it has {before[0] / 1e9:.2f} GB; at most {MAX_BYTES / 1e9:.2f} GB are read")
        with open(path, "rb") as file:
            image = _read(file, path)
        if stamp(path) != before:
            raise PictureError(path, "it changed while it was read")
        return image
    except OSError as error:
        raise PictureError(path, error.strerror or str(error)) from error


def _read(file: IO[bytes], path: Path) -> Image.Image:
    try:
        with Image.open(file, formats=FORMATS) as image:
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                raise ValueError(f"it has {pixels / 1e6:,.0f} million pixels; at most {MAX_PIXELS // 10**6} are read")
            with _decoding.of(pixels), _libtiff_silent() if image.format == "TIFF" else nullcontext():
                image.load()
                with suppress(Exception):  # damaged tags say nothing of the pixels
                    ImageOps.exif_transpose(image, in_place=True)
                return _on_white(image)
    except UnidentifiedImageError as error:
        raise PictureError(path, f"it is damaged, or none of {', '.join(FORMATS)}") from error
    except Exception as error:  # of a damaged file a decoder raises anything
        raise PictureError(path, printable(str(error) or type(error).__name__)) from error


class _Decoding:
    """Bounds the memory of threads that decode: together they hold pictures of at most MAX_PIXELS pixels."""

    def __init__(self) -> None:
        self._changed, self._pixels = threading.Condition(), 0

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._pixels + pixels <= MAX_PIXELS)
            self._pixels += pixels
        try:
            yield
        finally:
            with self._changed:
                self._pixels -= pixels
                self._changed.notify_all()


_decoding = _Decoding()
_one_at_a_time = threading.Lock()


@contextmanager
def _libtiff_silent() -> Iterator[None]:
    """libtiff writes what it thinks of a damaged file to standard error itself, beside the one line that we print."""
    with _one_at_a_time:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _scaled(image).convert("RGB")
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """A picture of 16 or 32 bits a pixel, or of real numbers, as one of 8 bits."""
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    else:
        if image.mode == "I" and image.format == "TIFF" and image.tag_v2.get(339, (1,))[0] == 1:
            values = values.view(np.uint32)  # by the tag SampleFormat; Pillow takes them for signed
        finite = values[np.isfinite(values)]
        if not len(finite):
            raise ValueError("none of its values is finite")
        low, high = float(finite.min()), float(finite.max())
        usual = 255.0 if image.mode == "I" else 1.0
        if low >= 0 and high <= usual:
            low, high = 0.0, usual
    scaled = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), 256):  # in double precision a whole picture would take eight times its bytes
        part = np.nan_to_num(values[start : start + 256].astype(np.float64), nan=low, posinf=high, neginf=low)
        scaled[start : start + 256] = np.rint((part - low) * (255 / ((high - low) or 1)))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        scaled[values == transparent] = 255
    return Image.fromarray(scaled)


@lru_cache(maxsize=2)
def _opened(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)  # once: its directory of thousands of members takes longer to read than an image


# ------------------------------------------------------------------------------------------------------------ contents

UNREADABLE = b"\xff" * ORIGIN  # of a file that cannot be opened
RECENT_NS = 2_000_000_000  # a file that changed so lately may change again and have the same time


def contents(manifest: Manifest, rehash: bool = False, progress: bool = False) -> np.ndarray:
    """(n, 16) uint8 that say what the bytes of each sample are: their BLAKE2b.  In a zip file its CRC-32 stands for
    them.

    They are kept, and a file is read again when its size or one of its two times has changed (`manifest.stamp`).
    rehash  True: every file is read again
    """
    if manifest.base is not None:
        return contents(manifest.base, rehash, progress)[manifest.base_rows]
    if not manifest.root.is_dir():
        marks = [b"%08x %d" % member for member in manifest.members()]
        return _rows([hashlib.blake2b(mark, digest_size=ORIGIN).digest() for mark in marks])
    file = paths.cache() / "images" / f"{manifest.name}-{manifest.fingerprint}.contents"
    before, known = np.full((len(manifest), 3), -1), np.zeros((len(manifest), ORIGIN), np.uint8)
    try:
        with np.load(io.BytesIO(files.sealed(file))) as stored:
            before, known = stored["stamps"], stored["contents"]
    except FileNotFoundError:
        pass
    except (OSError, files.Damaged) as error:
        print(f"{file.name}: {error}; the pictures are read again", flush=True)
    pictures = [manifest.root / path for path in manifest.samples.path]
    stamps, now = read_contents(
        pictures, manifest.stamps(), before, known, rehash, f"reading {manifest.name}" * progress
    )
    if not (np.array_equal(stamps, before) and np.array_equal(now, known)):
        content = io.BytesIO()
        np.savez(content, stamps=stamps, contents=now)
        with written_to(file):
            files.seal(file, content.getvalue())
    return now


def read_contents(
    pictures: Sequence[Path], stamps: np.ndarray, before: np.ndarray, known: np.ndarray, rehash: bool, title: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """(stamps to keep (n, 3), contents (n, 16)): those of `known` where `stamps` are as `before`, others read anew.

    title  of the progress bar; "" shows none
    """
    started, contents = time.time_ns(), known.copy()
    changed = np.flatnonzero((stamps != before).any(1) | rehash)
    with (
        ThreadPoolExecutor(THREADS) as pool,
        progress_bar(total=len(changed), desc=title, unit="img", disable=not title) as bar,
    ):
        for row, content in zip(
            changed.tolist(), pool.map(content_of, [pictures[row] for row in changed], chunksize=16)
        ):
            contents[row] = np.frombuffer(content, np.uint8)
            bar.update()
    stamps = stamps.copy()
    stamps[stamps[:, 1:].max(1) > started - RECENT_NS] = -1
    return stamps, contents


def content_of(path: Path) -> bytes:
    """The BLAKE2b of a file's bytes, 16 bytes; UNREADABLE where it cannot be opened or has more than MAX_BYTES."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return UNREADABLE
        with open(path, "rb") as file:
            return hashlib.file_digest(file, partial(hashlib.blake2b, digest_size=ORIGIN)).digest()
    except OSError:
        return UNREADABLE


def content(manifest: Manifest) -> str:
    """16 hex digits that change with every byte of the pictures, where `Manifest.fingerprint` looks at sizes."""
    return hashlib.sha256(contents(manifest).tobytes()).hexdigest()[:16]


def _rows(digests: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, ORIGIN)


def twins(manifest: Manifest, split: Split | None = None, rehash: bool = False, progress: bool = False) -> list[str]:
    """Lines about pictures of equal bytes in several classes: they are labelled twice, or were seen in training.

    split  only those in a class that is trained on and in one that is tested
    """
    table = manifest.samples.assign(content=[row.tobytes() for row in contents(manifest, rehash, progress)])
    table = table[table.content.duplicated(keep=False) & (table.content != UNREADABLE)]
    sides = table.class_name
    if split is not None:
        part = {unified(name): "seen" for name in (*split.train, *split.val)}
        part |= {unified(name): "unseen" for name in split.test}
        sides = sides.map(unified).map(part)
    groups = [
        group for _, group in table[sides.notna()].groupby("content", sort=False) if sides[group.index].nunique() > 1
    ]
    where = "both in a class that is tested and in one that is not" if split else "in several classes"
    if not groups:
        return []
    first = groups[0].path.tolist()
    return [
        f"{len(groups):,} picture{'s' * (len(groups) > 1)} stand{'s' * (len(groups) == 1)} {where}, byte for byte "
        f"(first {' = '.join(map(printable, first[:4]))}); take one of each out, or results are too good"
    ]


def notes(manifest: Manifest, split: Split | None = None, rehash: bool = False, progress: bool = False) -> list[str]:
    """Lines that a reader of a score should see: what was left out, what could not be read, what stands twice."""
    skipped = unreadable(manifest.base or manifest)
    return [
        *left_out_lines((manifest.base or manifest).left_out),
        *(f"skipped {path}: {why}" for path, why in skipped.items()),
        *twins(manifest, split, rehash, progress),
    ]


# ------------------------------------------------------------------------------------------------------------- packing

BATCH = max(16, 2 * THREADS)  # pictures that are decoded before they are written


class Unreadable(DataError):
    """Files that are no readable images; problems {path in the manifest: why}."""

    def __init__(self, manifest: Manifest, problems: dict[str, str]):
        listed = "; ".join(f"{path}: {why}" for path, why in sorted(problems.items())[:10])
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        super().__init__(
            f"{len(problems)} of {len(manifest)} files of {manifest.name} could not be read ({listed}{more}); mend "
            "them, take them out, or let `ucdr data pack` skip them"
        )
        self.problems = problems


def packed(
    manifest: Manifest,
    size_px: int,
    progress: bool = True,
    skip_unreadable: bool = False,
    rehash: bool = False,
    needed: np.ndarray | None = None,
) -> CheckedArray:
    """All images of the manifest as (n, size_px, size_px, 3) uint8, memory-mapped from the cache, decoded on first use.

    Images are squashed to a square, as the papers' code does.  What is decoded stays when the work is cut off or a file
    cannot be read, and is not decoded again until the file changes (`contents`).
    skip_unreadable  True: an unreadable file is black, and listed by `unreadable(manifest)`
    rehash           True: every file is read again, to see whether it changed
    needed           rows (k,) that may not be black; None: all

    Raises Unreadable listing every unreadable file otherwise.
    """
    problems: dict[str, str] = {}

    def decoded(row: int) -> np.ndarray | None:
        try:
            image = read(manifest, row)
        except PictureError as error:
            problems[manifest.samples.path.iloc[row]] = error.why
            return None
        if image.size != (size_px, size_px):
            image = image.resize((size_px, size_px), Image.Resampling.BICUBIC)
        return np.asarray(image)

    def make(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with ThreadPoolExecutor(THREADS) as pool:
            pictures = list(pool.map(decoded, rows.tolist()))
        is_made = np.array([picture is not None for picture in pictures])
        pixels = [picture for picture in pictures if picture is not None]
        return rows[is_made], np.array(pixels, np.uint8).reshape(-1, size_px, size_px, 3)

    title, now = f"decoding {manifest.name}" * progress, contents(manifest, rehash, progress)
    array = CheckedArray(pack_file(manifest, size_px), now, make, BATCH, title)
    array.given_up = manifest.samples.path.isin(list(unreadable(manifest))).to_numpy(copy=True)
    if not skip_unreadable:
        array.given_up[slice(None) if needed is None else needed] = False
    if not len(missing := array.missing()):
        return array
    array.fill(missing)
    changed = np.flatnonzero((contents(manifest) != now).any(1))
    if len(changed):
        raise DataError(
            f"{manifest.root / manifest.samples.path.iloc[changed[0]]} changed while the pictures were decoded; "
            "the same command decodes it again"
        )
    if problems and (not skip_unreadable or len(problems) == len(manifest)):
        raise Unreadable(manifest, problems)
    if problems:
        _list_unreadable(manifest, unreadable(manifest) | problems)
        array.given_up |= manifest.samples.path.isin(list(problems)).to_numpy()
    return array


def pack_file(manifest: Manifest, size_px: int) -> Path:
    """Where `packed` keeps the images of the manifest."""
    return paths.cache() / "images" / f"{manifest.name}-{manifest.fingerprint}-{size_px}px.npy"


def _list_unreadable(manifest: Manifest, problems: dict[str, str]) -> None:
    file = _unreadable_file(manifest)
    now = dict(zip(manifest.samples.path, contents(manifest)))
    listed = {path: [now[path].tobytes().hex(), why] for path, why in sorted(problems.items())}
    with written_to(file):
        files.seal(file, json.dumps(listed, indent=1).encode())


def _unreadable_file(manifest: Manifest) -> Path:
    return paths.cache() / "images" / f"{manifest.name}-{manifest.fingerprint}.unreadable"


def unreadable(manifest: Manifest) -> dict[str, str]:
    """{path: why} of the files that packing has skipped and that have not changed since."""
    file = _unreadable_file(manifest)
    try:
        listed = json.loads(files.sealed(file))
    except FileNotFoundError:
        return {}
    except (OSError, files.Damaged) as error:
        print(f"{file.name}: {error}; what could not be read is tried again", flush=True)
        return {}
    return {path: why for path, (content, why) in listed.items() if content_of(manifest.root / path).hex() == content}


def readable(manifest: Manifest) -> Manifest:
    """The manifest without the files that packing has skipped; itself where there are none."""
    skipped = unreadable(manifest)
    if not skipped:
        return manifest
    rows = np.flatnonzero(~manifest.samples.path.isin(list(skipped)).to_numpy())
    return Manifest(
        manifest.name, manifest.root, manifest.samples.iloc[rows].reset_index(drop=True), base=manifest, base_rows=rows
    )


# -------------------------------------------------------------------------------------------------------- augmentation

AUGMENTATIONS = ("none", "snmpnet", "snmpnet_without_hue", "sake")


def augment(pixels: torch.Tensor, generator: torch.Generator, kind: str = "snmpnet") -> torch.Tensor:
    """One of AUGMENTATIONS, batched on the device: pixels (B, 3, H, W) in [0, 1] -> the same shape and range.

    snmpnet   random resized crop (area .8 to 1, ratio 3/4 to 4/3), horizontal flip (.5) and colour jitter (.4).  Hue, a
              shift in HSV in mvp18/UCDR, is a rotation about the grey axis here; with the other three that is one
              linear map per image
    sake      with probability .7 an affine map about the corner, on black: each with probability .5 a flip, scales of
              .7 to 1.3 along both sides, a turn of up to 30 degrees, a shift of up to 10 pixels of 256 (qliu24/SAKE)

    Raises ValueError for an unknown kind.
    """
    if kind not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {kind!r}; known: {', '.join(AUGMENTATIONS)}")
    count, device, dtype = len(pixels), pixels.device, pixels.dtype

    def uniform(low: float, high: float) -> torch.Tensor:
        """(B,) on the CPU: what is drawn does not depend on the device, and goes there once."""
        return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)

    def there(values: torch.Tensor) -> torch.Tensor:
        return to_device(values.numpy(), device, dtype)

    def moved(theta: torch.Tensor, fill: str) -> torch.Tensor:
        grid = torch.nn.functional.affine_grid(there(theta), list(pixels.shape), align_corners=False)
        return torch.nn.functional.grid_sample(pixels, grid, padding_mode=fill, align_corners=False)

    if kind == "none":
        return pixels
    theta = torch.zeros(count, 2, 3, dtype=torch.float64)
    if kind == "sake":
        chosen = uniform(0, 1) < 0.7

        def sometimes(neutral: float, *drawn: torch.Tensor) -> list[torch.Tensor]:
            applied = chosen & (uniform(0, 1) < 0.5)
            return [torch.where(applied, value, neutral) for value in drawn]

        (flip,) = sometimes(1.0, -torch.ones(count, dtype=torch.float64))
        scale_x, scale_y = sometimes(1.0, uniform(0.7, 1.3), uniform(0.7, 1.3))
        (angle,) = sometimes(0.0, uniform(-np.pi / 6, np.pi / 6))
        shift_x, shift_y = sometimes(0.0, uniform(-10 / 256, 10 / 256), uniform(-10 / 256, 10 / 256))
        # Where each pixel of the result comes from, so the inverse; a picture's sides are 2 long.
        inverse = torch.stack(
            [angle.cos() / scale_x, angle.sin() / scale_x, -angle.sin() / scale_y, angle.cos() / scale_y], 1
        ).view(count, 2, 2)
        corner = torch.stack([1 - 2 * shift_x, 1 - 2 * shift_y], 1)[:, :, None]
        theta = torch.cat([inverse, inverse @ corner - 1], 2)
        theta[:, 0] *= flip[:, None]
        return moved(theta, "zeros")
    area, ratio = uniform(0.8, 1.0), torch.exp(uniform(np.log(3 / 4), np.log(4 / 3)))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    flip = torch.sign(uniform(-1, 1))
    theta[:, 0, 0], theta[:, 0, 2] = width * flip, uniform(-1, 1) * (1 - width)
    theta[:, 1, 1], theta[:, 1, 2] = height, uniform(-1, 1) * (1 - height)
    pixels = moved(theta, "border")
    brightness, contrast, saturation = (there(uniform(0.6, 1.4))[:, None, None, None] for _ in range(3))
    luma = to_device(np.array([0.299, 0.587, 0.114]), device, dtype)[:, None, None]
    pixels = (pixels * brightness).clamp(0, 1)
    grey = (pixels * luma).sum(1, keepdim=True)
    pixels = (grey.mean((2, 3), keepdim=True) * (1 - contrast) + pixels * contrast).clamp(0, 1)
    grey = (pixels * luma).sum(1, keepdim=True)
    pixels = (grey * (1 - saturation) + pixels * saturation).clamp(0, 1)
    if kind == "snmpnet_without_hue":
        return pixels
    return torch.einsum("bij,bjhw->bihw", there(hue_rotation(uniform(-0.4, 0.4) * 2 * np.pi)), pixels).clamp(0, 1)


def hue_rotation(angle: torch.Tensor) -> torch.Tensor:
    """(B,) radians -> (B, 3, 3): a rotation of RGB about the grey axis (Rodrigues), which leaves greys as they are."""
    axis = 3**-0.5
    cross = torch.tensor([[0, -axis, axis], [axis, 0, -axis], [-axis, axis, 0]], dtype=angle.dtype)
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return c * torch.eye(3, dtype=angle.dtype) + s * cross + (1 - c) / 3


# The orders of a jigsaw's 3 x 3 tiles, (31, 9): in order o, place t shows tile JIGSAW_ORDERS[o, t].  Order 0 shows the
# picture as it is; 1 to 30 are EISNet's (`permutations_30.npy`).
JIGSAW_ORDERS = np.array(
    [
        [int(tile) for tile in order]
        for order in """
        012345678 720156348 012345687 103264875 231078456 345680712 456807123 568712034 687423501 874531260 012387564
        104625873 235471086 326514708 458706231 547168320 860243157 673850412 781032645 012437658 103246785 230154867
        321068574 456783120 548370216 687501342 765812403 874625031 012547836 103258647 230165478
        """.split()
    ]
)


def shuffle_tiles(pixels: torch.Tensor, orders: torch.Tensor) -> torch.Tensor:
    """(B, C, H, H) with the 3 x 3 tiles of each image rearranged: place t of the result shows tile orders[b, t].

    orders  (B, 9), rows of JIGSAW_ORDERS
    A rest of H mod 3 pixels is kept.
    """
    count, channels, side = len(pixels), pixels.shape[1], pixels.shape[2] // 3
    inner = pixels[:, :, : 3 * side, : 3 * side]
    tiles = inner.reshape(count, channels, 3, side, 3, side).permute(0, 2, 4, 1, 3, 5).reshape(count, 9, -1)
    moved = tiles.gather(1, orders[:, :, None].expand_as(tiles)).reshape(count, 3, 3, channels, side, side)
    result = pixels.clone()
    result[:, :, : 3 * side, : 3 * side] = moved.permute(0, 3, 1, 4, 2, 5).reshape(inner.shape)
    return result
