"""What a method is fed: images, or the output of the trunk's frozen part, computed once per data set and cached."""
from __future__ import annotations

import copy
import hashlib
import os
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from . import backbones, paths
from .data import images
from .data.manifest import Manifest

PRECISIONS = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class Inputs:
    """Arrays over the samples of a manifest: `inputs[rows]` -> (len(rows), ...)."""

    array: np.ndarray
    base_rows: np.ndarray | None = None

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows)
        return np.ascontiguousarray(self.array[rows if self.base_rows is None else self.base_rows[rows]])


def pixels(manifest: Manifest, size_px: int, progress: bool = True) -> Inputs:
    """(n, size_px, size_px, 3) uint8."""
    return Inputs(images.packed(manifest.base or manifest, size_px, progress), manifest.base_rows)


def maps(
    manifest: Manifest, trunk: backbones.Trunk, regime: str, size_px: int, *, precision: str = "float64",
    invert_domains=(), jigsaw: bool = False, device: str = "cpu", progress: bool = True,
) -> Inputs:
    """(n, C, h, w) float16 output of the part of the trunk that `regime` freezes.

    precision       float64 makes the rounded maps equal on every processor (see the book's page on numerics); float32 is fast
    invert_domains  domains whose images are inverted first (white strokes on black)
    jigsaw          the maps of one tile-shuffled copy of each image instead; `jigsaw_labels` says how each was shuffled
    """
    # Views of one data set share its maps; shuffled copies and inverted images are only made where a method asks for them.
    whole = manifest if jigsaw or invert_domains or manifest.base is None else manifest.base
    inverted = whole.samples.domain.isin(list(invert_domains)).to_numpy()
    key = hashlib.sha256("|".join([
        whole.fingerprint, trunk.name, trunk.digest, regime, str(size_px), precision, str(jigsaw), *sorted(invert_domains),
    ]).encode()).hexdigest()[:16]
    path = paths.cache() / "maps" / f"{whole.name}-{trunk.name}-{regime}-{size_px}px-{key}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        source = pixels(whole, size_px, progress)
        shuffles, labels = images.jigsaw_permutations(30), jigsaw_labels(len(whole))
        whole_trunk = copy.deepcopy(trunk).to(device, PRECISIONS[precision])  # the caller's keeps its own precision
        lower, normalise = whole_trunk.split(regime)[0], whole_trunk.normalise
        partial, stored = path.with_suffix(f".{os.getpid()}.partial"), None
        batch = 64
        for start in tqdm(range(0, len(whole), batch), desc=f"{trunk.name} maps", unit="batch", disable=not progress):
            rows = np.arange(start, min(start + batch, len(whole)))
            block = source[rows]
            block = np.where(inverted[rows, None, None, None], 255 - block, block)
            if jigsaw:
                block = np.stack([images.shuffle_tiles(image, shuffles[labels[row] - 1]) for image, row in zip(block, rows)])
            with torch.inference_mode():
                x = torch.from_numpy(block).to(device).permute(0, 3, 1, 2).contiguous().to(PRECISIONS[precision]) / 255
                if precision == "float32":
                    x = x.contiguous(memory_format=torch.channels_last)  # doubles the speed of depthwise convolutions on a CPU
                out = lower(normalise(x)).to(torch.float16).cpu().numpy()
            if stored is None:
                stored = np.lib.format.open_memmap(partial, "w+", np.float16, (len(whole), *out.shape[1:]))
            stored[rows] = out
        stored.flush()
        del stored
        partial.replace(path)
    return Inputs(np.load(path, mmap_mode="r"), manifest.base_rows if whole is manifest.base else None)


def jigsaw_labels(count: int) -> np.ndarray:
    """Which of the 30 permutations (1..30; 0 is the identity) shuffles each image's cached copy: (count,) int."""
    return np.random.default_rng(0).integers(1, 31, count)
