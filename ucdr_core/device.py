"""How arrays reach a device, and which part of a batch is this process's where several train together."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import distributed

from ucdr_core.options import OptionError


def usable(device: str, processes: int = 1) -> str:
    """The device, where this machine has it, and as many as `processes` need.  Raises OptionError naming those it
    has."""
    count = torch.cuda.device_count()
    known = ["cpu", *(["cuda"] if count else []), *(f"cuda:{number}" for number in range(count))]
    if device not in known:
        hint = "; --device cpu trains without one" if re.fullmatch(r"cuda(:\d+)?", device) else ""
        raise OptionError(f"device {device!r} is not on this machine, which has {', '.join(known)}{hint}")
    if device.startswith("cuda") and processes > count:
        raise OptionError(f"{processes} processes train on a GPU each, and this machine has {count}")
    return device


def to_device(array: np.ndarray, device: torch.device | str, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The array on the device, in its own type or as `dtype`.

    A copy to a GPU goes through pinned memory and is not waited for.
    """
    tensor = torch.from_numpy(array)
    tensor = tensor if dtype is None else tensor.to(dtype)
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def world() -> int:
    """Processes that train together; 1 outside of torchrun."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def process_number() -> int:
    """The number of this process among them, from 0."""
    return distributed.get_rank() if world() > 1 else 0


def rows_of_process(count: int) -> np.ndarray:
    """Which of `count` samples are this process's: equal shares, the last filled up with the first samples."""
    size = -(-count // world())
    return np.arange(process_number() * size, (process_number() + 1) * size) % count


def share_of_batch(values: torch.Tensor, count: int | None = None) -> torch.Tensor:
    """This process's rows of a batch (B, ...): (B / processes, ...).

    count  how many rows the process works on; where `values` has only those already, they stay as they are
    """
    if count == len(values):
        return values
    return values.index_select(0, to_device(rows_of_process(len(values)), values.device))
