"""Images decoded once into a packed uint8 cache, and augmentation of whole batches on the device."""

from __future__ import annotations

import fcntl
import io
import json
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ucdr_core import paths
from ucdr_core.data.manifest import DataError, Manifest
from ucdr_core.device import to_device
from ucdr_core.progress import bar as progress_bar


def read(manifest: Manifest, row: int) -> Image.Image:
    """One image, RGB on white, turned upright.  Raises DataError naming a file that is no readable image."""
    path = manifest.samples.path.iloc[row]
    try:
        if manifest.root.is_dir():
            data = (manifest.root / path).read_bytes()
        else:
            data = _opened(manifest.root).read(path)
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise DataError(f"{manifest.root / path} is not a readable image ({error}); mend it or take it out") from error


@lru_cache(maxsize=2)
def _opened(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)  # once: its directory of thousands of members takes longer to read than an image


class Unreadable(DataError):
    """Files that are no readable images; problems {path in the manifest: why}."""

    def __init__(self, manifest: Manifest, problems: dict[str, str]):
        listed = "\n".join(f"  {path}: {why}" for path, why in sorted(problems.items())[:50])
        super().__init__(
            f"{len(problems)} of {len(manifest)} files of {manifest.name} could not be read; mend them, take them out, "
            f"or let `ucdr data pack` skip them:\n{listed}"
        )
        self.problems = problems


def packed(manifest: Manifest, size_px: int, progress: bool = True, skip_unreadable: bool = False) -> np.ndarray:
    """All images of the manifest as (n, size_px, size_px, 3) uint8, memory-mapped from the cache, decoded on first use.

    Images are squashed to a square, as the papers' code does.  What is decoded stays when the work is cut off, and is
    not decoded again.
    skip_unreadable  True: an unreadable file is black, and listed by `unreadable(manifest)`

    Raises Unreadable listing every such file otherwise, and keeps nothing.
    """
    path = pack_file(manifest, size_px)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            if not path.exists():
                _decode_all(manifest, size_px, path, progress, skip_unreadable)
    return np.load(path, mmap_mode="r")


def pack_file(manifest: Manifest, size_px: int) -> Path:
    """Where `packed` keeps the images of the manifest."""
    return paths.cache() / "images" / f"{manifest.name}-{manifest.fingerprint}-{size_px}px.npy"


def _decode_all(manifest: Manifest, size_px: int, path: Path, progress: bool, skip_unreadable: bool) -> None:
    partial, marks = path.with_suffix(".partial"), path.with_suffix(".done")
    shape = (len(manifest), size_px, size_px, 3)
    if not (partial.exists() and marks.exists()):
        np.lib.format.open_memmap(partial, "w+", np.uint8, shape).flush()
        np.lib.format.open_memmap(marks, "w+", np.uint8, (len(manifest),)).flush()  # 0: not yet, 1: decoded
    pixels, is_decoded = np.lib.format.open_memmap(partial, "r+"), np.lib.format.open_memmap(marks, "r+")
    problems: dict[str, str] = {}

    def decode(row: int) -> None:
        try:
            image = read(manifest, row)
        except DataError as error:
            problems[manifest.samples.path.iloc[row]] = str(error.__cause__ or error)
            return
        if image.size != (size_px, size_px):
            image = image.resize((size_px, size_px), Image.Resampling.BICUBIC)
        pixels[row] = np.asarray(image)
        is_decoded[row] = 1

    missing = np.flatnonzero(np.asarray(is_decoded) == 0).tolist()
    title, before = f"decoding {manifest.name}", len(manifest) - len(missing)
    with (
        ThreadPoolExecutor(
            max(4, len(os.sched_getaffinity(0)))
        ) as pool,  # Pillow works without holding the interpreter
        progress_bar(total=len(manifest), initial=before, desc=title, unit="img", disable=not progress) as bar,
    ):
        for _ in pool.map(decode, missing, chunksize=16):
            bar.update()
    pixels.flush()
    is_decoded.flush()
    if problems and not skip_unreadable:
        partial.unlink()
        marks.unlink()
        raise Unreadable(manifest, problems)
    if problems:
        listing = _unreadable_file(manifest)
        listing.with_suffix(".partial").write_text(json.dumps(problems, indent=1, sort_keys=True) + "\n")
        listing.with_suffix(".partial").replace(listing)
    partial.replace(path)
    marks.unlink()


def _unreadable_file(manifest: Manifest) -> Path:
    return paths.cache() / "images" / f"{manifest.name}-{manifest.fingerprint}-unreadable.json"


def unreadable(manifest: Manifest) -> dict[str, str]:
    """{path: why} of the files that packing has skipped."""
    path = _unreadable_file(manifest)
    return json.loads(path.read_text()) if path.exists() else {}


def readable(manifest: Manifest) -> Manifest:
    """The manifest without the files that packing has skipped; itself where there are none."""
    skipped = unreadable(manifest)
    if not skipped:
        return manifest
    rows = np.flatnonzero(~manifest.samples.path.isin(list(skipped)).to_numpy())
    return Manifest(
        manifest.name, manifest.root, manifest.samples.iloc[rows].reset_index(drop=True), base=manifest, base_rows=rows
    )


@contextmanager
def _locked(path: Path):
    """Of the processes that want the same pack, one at a time is inside."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
