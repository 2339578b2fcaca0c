"""What a method is fed: images, or the output of the trunk's frozen part, computed once per data set and cached."""

from __future__ import annotations

import copy
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ucdr_core import paths
from ucdr_core.data import images
from ucdr_core.data.manifest import Manifest
from ucdr_core.device import to_device
from ucdr_core.methods import backbones
from ucdr_core.progress import bar as progress_bar

# Of the weights; with "bfloat16" the trained part of the trunk computes in it (autocast), and all weights and losses
# are float32.
PRECISIONS = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}


@dataclass(frozen=True)
class Inputs:
    """An array over the samples of a manifest: `inputs[rows]` -> (len(rows), ...).

    base_rows  (n,) where the samples stand in `array`; None: in their order
    """

    array: np.ndarray
    base_rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.array) if self.base_rows is None else len(self.base_rows)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows)
        return np.ascontiguousarray(self.array[rows if self.base_rows is None else self.base_rows[rows]])


class Maps:
    """Cached maps as training takes them: `maps[rows]` -> (len(rows), C, h, w) on the device, channels last in memory.

    They are kept there as a whole up to `MAPS_MB`: where a method pools the map at most, converting half precision took
    longer than the rest of a step.
    positions  False: averaged over their positions first, (len(rows), C, 1, 1)
    """

    def __init__(self, inputs: Inputs, dtype: torch.dtype, device: str, positions: bool):
        self.inputs, self.dtype, self.device, self.positions = inputs, dtype, device, positions
        count = len(inputs)
        size_mb = count * inputs.array[0].size / (1 if positions else inputs.array[0, 0].size) * dtype.itemsize / 1e6
        self.values = None
        if size_mb <= MAPS_MB:
            self.values = torch.cat(
                [self._converted(np.arange(start, min(start + 512, count))) for start in range(0, count, 512)]
            )

    def _converted(self, rows: np.ndarray) -> torch.Tensor:
        maps = torch.from_numpy(self.inputs[rows]).to(self.device, self.dtype)
        maps = maps if self.positions else maps.mean((2, 3), keepdim=True)
        return maps.permute(0, 2, 3, 1).contiguous()

    def __getitem__(self, rows: np.ndarray) -> torch.Tensor:
        if self.values is None:
            values = self._converted(rows)
        else:
            values = self.values.index_select(0, to_device(rows, self.device))
        return values.permute(0, 3, 1, 2)


MAPS_MB = 1000


class Pixels:
    """Decoded images on their way to the device: `pixels[rows]` -> (B, H, W, 3) uint8 there.

    They are kept there as a whole where they take at most `share` of its free memory.  Otherwise the rows are gathered
    from the memory-mapped cache into pinned memory by a thread of their own, one batch in advance (`prefetch`), and
    copied without waiting.
    """

    def __init__(self, inputs: Inputs, device: str, share: float = 0.5):
        self.inputs, self.device = inputs, torch.device(device)
        self.resident = None
        self._pool, self._pending = None, []
        if self.device.type != "cuda":
            return
        size = len(inputs) * int(np.prod(inputs.array.shape[1:]))
        if size <= share * torch.cuda.mem_get_info(self.device)[0]:
            self.resident = torch.empty((len(inputs), *inputs.array.shape[1:]), dtype=torch.uint8, device=self.device)
            for start in range(0, len(inputs), 4096):
                rows = np.arange(start, min(start + 4096, len(inputs)))
                self.resident[start : start + len(rows)] = torch.from_numpy(inputs[rows]).to(self.device)
        else:
            self._pool = ThreadPoolExecutor(1)

    def prefetch(self, rows: np.ndarray) -> None:
        """Starts gathering the rows of a coming batch; they are taken by indexing with the same array."""
        if self._pool is not None:
            self._pending.append((rows, self._pool.submit(lambda: torch.from_numpy(self.inputs[rows]).pin_memory())))

    def __getitem__(self, rows: np.ndarray) -> torch.Tensor:
        if self.resident is not None:
            return self.resident.index_select(0, to_device(rows, self.device))
        for place, (prefetched, block) in enumerate(self._pending):
            if prefetched is rows:
                del self._pending[: place + 1]
                return block.result().to(self.device, non_blocking=True)
        return to_device(self.inputs[rows], self.device)


def pixels(manifest: Manifest, size_px: int, progress: bool = True) -> Inputs:
    """The decoded images of the manifest, (n, size_px, size_px, 3) uint8; raises what `images.packed` does."""
    return Inputs(images.packed(manifest.base or manifest, size_px, progress), manifest.base_rows)


def maps(
    manifest: Manifest,
    trunk: backbones.Trunk,
    regime: str,
    size_px: int,
    *,
    precision: str = "float64",
    invert_domains=(),
    jigsaw: bool = False,
    positions: bool = True,
    device: str = "cpu",
    progress: bool = True,
) -> Maps:
    """Output of the part of the trunk that `regime` freezes, (n, C, h, w), stored as float16.

    precision       float64 makes the rounded maps equal on every processor (see the book's page on numerics); float32
                    is fast
    invert_domains  domains whose images are inverted first (white strokes on black)
    positions       False: averaged over the positions of the map
    jigsaw          the maps of one tile-shuffled copy of each image instead; `jigsaw_labels` says how each was shuffled
    """
    if jigsaw or invert_domains or manifest.base is None:
        parts, rows = [manifest], np.arange(len(manifest))
    else:
        # Views of one data set share its maps, domain by domain; shuffled and inverted images are only made where a
        # method needs them.
        base = manifest.base
        parts = [
            base.view(f"{base.name}-{domain}", {domain: [domain]})
            for domain in sorted(base.samples.domain.iloc[manifest.base_rows].unique())
        ]
        base_rows = np.concatenate([part.base_rows for part in parts])
        rows = np.argsort(base_rows)
        rows = rows[np.searchsorted(base_rows[rows], manifest.base_rows)]
    files = tuple(
        _maps_file(part, trunk, regime, size_px, precision, invert_domains, jigsaw, device, progress) for part in parts
    )
    return _cached_maps(files, rows.tobytes(), PRECISIONS[precision], device, positions)


def _maps_file(
    whole: Manifest,
    trunk: backbones.Trunk,
    regime: str,
    size_px: int,
    precision: str,
    invert_domains,
    jigsaw: bool,
    device: str,
    progress: bool,
) -> Path:
    """The file with the maps of a whole manifest, made if it is missing."""
    precision = "float32" if precision == "bfloat16" else precision
    orders = images.JIGSAW_ORDERS
    identity = [whole.fingerprint, trunk.name, trunk.digest, regime, str(size_px), precision]
    identity += ["".join(map(str, orders.ravel())) if jigsaw else "False"]
    key = hashlib.sha256("|".join([*identity, *sorted(invert_domains)]).encode()).hexdigest()[:16]
    path = paths.cache() / "maps" / f"{whole.name}-{trunk.name}-{regime}-{size_px}px-{key}.npy"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    source, inverted = pixels(whole, size_px, progress), whole.samples.domain.isin(list(invert_domains)).to_numpy()
    labels = jigsaw_labels(len(whole))
    whole_trunk = copy.deepcopy(trunk).to(device, PRECISIONS[precision])  # the caller's keeps its own precision
    lower, normalise = whole_trunk.split(regime)[0], whole_trunk.normalise
    partial, stored = path.with_suffix(f".{os.getpid()}.partial"), None
    batch = 8 if precision == "float64" else 64  # in double precision what a layer makes of 8 stays in the CPU's cache
    for start in progress_bar(
        range(0, len(whole), batch), desc=f"{trunk.name} maps of {whole.name}", unit="batch", disable=not progress
    ):
        rows = np.arange(start, min(start + batch, len(whole)))
        block = source[rows]
        block = torch.from_numpy(np.where(inverted[rows, None, None, None], 255 - block, block)).permute(0, 3, 1, 2)
        if jigsaw:
            block = images.shuffle_tiles(block, torch.from_numpy(orders[labels[rows]]))
        with torch.inference_mode(), backbones.ConvolutionsAsProducts():
            x = block.to(device).contiguous().to(PRECISIONS[precision]) / 255
            if precision == "float32":
                # Doubles the speed of depthwise convolutions on a CPU.
                x = x.contiguous(memory_format=torch.channels_last)
            out = lower(normalise(x)).to(torch.float16).cpu().numpy()
        if stored is None:
            stored = np.lib.format.open_memmap(partial, "w+", np.float16, (len(whole), *out.shape[1:]))
        stored[rows] = out
    stored.flush()
    del stored
    partial.replace(path)
    return path


@lru_cache(maxsize=4)
def _cached_maps(files: tuple[Path, ...], rows: bytes, dtype: torch.dtype, device: str, positions: bool) -> Maps:
    """The maps in these files, at `rows` (int64, as bytes); runs of one process on the same data share them."""
    arrays = [np.load(path, mmap_mode="r") for path in files]
    inputs = Inputs(arrays[0] if len(arrays) == 1 else np.concatenate(arrays), np.frombuffer(rows, int))
    return Maps(inputs, dtype, device, positions)


def jigsaw_labels(count: int) -> np.ndarray:
    """Which of JIGSAW_ORDERS (1..30) shuffles each image's cached copy: (count,) int."""
    return np.random.default_rng(0).integers(1, 31, count)
