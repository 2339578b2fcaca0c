"""What a method is fed: images, or the output of the trunk's frozen part, computed once per data set and cached."""

from __future__ import annotations

import copy
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np
import torch

from ucdr_core import paths
from ucdr_core.data import images
from ucdr_core.data.arrays import CheckedArray
from ucdr_core.data.manifest import Manifest
from ucdr_core.device import to_device
from ucdr_core.methods import backbones

# Of the weights; with "bfloat16" the trained part of the trunk computes in it (autocast), and all weights and losses
# are float32.
PRECISIONS = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.float32}


@dataclass(frozen=True)
class Inputs:
    """An array over the samples of a manifest: `inputs[rows]` -> (len(rows), ...).

    base_rows  (n,) where the samples stand in `array`; None: in their order
    """

    array: np.ndarray | CheckedArray
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
        channels, *places = inputs.array.shape[1:]
        size_mb = count * channels * (np.prod(places) if positions else 1) * dtype.itemsize / 1e6
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
    array = images.packed(manifest.base or manifest, size_px, progress, needed=manifest.base_rows)
    return Inputs(array, manifest.base_rows)


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
    contents = images.contents(manifest.base or manifest, progress=progress)
    arrays = [
        _maps_of(part, manifest, contents, trunk, regime, size_px, precision, invert_domains, jigsaw, device, progress)
        for part in parts
    ]
    made = tuple(_Part(array.state, array) for array in arrays)
    return _cached_maps(made, rows.tobytes(), PRECISIONS[precision], device, positions)


def _maps_of(
    whole: Manifest,
    asked: Manifest,
    contents: np.ndarray,
    trunk: backbones.Trunk,
    regime: str,
    size_px: int,
    precision: str,
    invert_domains,
    jigsaw: bool,
    device: str,
    progress: bool,
) -> CheckedArray:
    """The maps of a whole manifest, those made that are missing; a map is known by its picture's `images.contents`.

    asked  pictures that it does not have may be black: packing skipped them
    """
    precision = "float32" if precision == "bfloat16" else precision
    orders = images.JIGSAW_ORDERS
    identity = [whole.fingerprint, trunk.name, trunk.digest, regime, str(size_px), precision]
    identity += ["".join(map(str, orders.ravel())) if jigsaw else "False"]
    key = hashlib.sha256("|".join([*identity, *sorted(invert_domains)]).encode()).hexdigest()[:16]
    path = paths.cache() / "maps" / f"{whole.name}-{trunk.name}-{regime}-{size_px}px-{key}.npy"
    batch = 8 if precision == "float64" else 64  # in double precision what a layer makes of 8 stays in the CPU's cache

    @cache
    def source() -> Inputs:
        pack = images.packed(whole.base or whole, size_px, progress, needed=asked.base_rows)
        return Inputs(pack, whole.base_rows)

    @cache
    def frozen() -> tuple[torch.nn.Module, torch.nn.Module]:
        own = copy.deepcopy(trunk).to(device, PRECISIONS[precision])  # the caller's keeps its own precision
        return own.split(regime)[0], own.normalise

    def of_batch(start: int) -> np.ndarray:
        rows = np.arange(start, min(start + batch, len(whole)))
        inverted = whole.samples.domain.iloc[rows].isin(list(invert_domains)).to_numpy()
        block = source()[rows]
        block = torch.from_numpy(np.where(inverted[:, None, None, None], 255 - block, block)).permute(0, 3, 1, 2)
        if jigsaw:
            block = images.shuffle_tiles(block, torch.from_numpy(orders[jigsaw_labels(len(whole))[rows]]))
        lower, normalise = frozen()
        with torch.inference_mode(), backbones.ConvolutionsAsProducts():
            x = block.to(device).contiguous().to(PRECISIONS[precision]) / 255
            if precision == "float32":
                # Doubles the speed of depthwise convolutions on a CPU.
                x = x.contiguous(memory_format=torch.channels_last)
            return lower(normalise(x)).to(torch.float16).cpu().numpy()

    def make(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # In the batches of the first time: in single precision a map depends on its neighbours in the last digit.
        starts = np.unique(rows // batch) * batch
        values = np.concatenate([of_batch(start) for start in starts.tolist()])
        places = np.searchsorted(starts, rows // batch * batch) * batch + rows % batch
        return rows, values[places]

    origins = contents if whole.base_rows is None else contents[whole.base_rows]
    array = CheckedArray(path, origins, make, batch, f"{trunk.name} maps of {whole.name}" * progress)
    array.fill(array.missing())
    source.cache_clear()
    frozen.cache_clear()
    return array


@dataclass(frozen=True)
class _Part:
    """Maps of a part of the data, which are the same while the state of their file is."""

    state: tuple
    array: CheckedArray = field(compare=False)


@lru_cache(maxsize=4)
def _cached_maps(parts: tuple[_Part, ...], rows: bytes, dtype: torch.dtype, device: str, positions: bool) -> Maps:
    """The maps of these parts, at `rows` (int64, as bytes); runs of one process on the same data share them."""
    array = parts[0].array if len(parts) == 1 else np.concatenate([part.array[:] for part in parts])
    return Maps(Inputs(array, np.frombuffer(rows, int)), dtype, device, positions)


def jigsaw_labels(count: int) -> np.ndarray:
    """Which of JIGSAW_ORDERS (1..30) shuffles each image's cached copy: (count,) int."""
    return np.random.default_rng(0).integers(1, 31, count)
