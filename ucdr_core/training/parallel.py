"""Several GPUs of one machine: a process each, started by torchrun, that runs the trained trunk on a share of a batch.

The trunk is wrapped in DistributedDataParallel, with batch normalisation over all processes.  Its output is gathered,
and what follows (mixing, triplets, attention, heads, losses) sees the whole batch in every process: a training on W
GPUs is the training on one at the same batch size, up to rounding.  The random draws are the same in every process, so
nothing else need be exchanged.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ucdr_core.device import process_number, share_of_batch, world
from ucdr_core.methods.backbones import Stages


class _Gather(torch.autograd.Function):
    """The shares of all processes -> the whole batch; backwards each process gets the gradient of its own."""

    @staticmethod
    def forward(context, share: torch.Tensor, count: int) -> torch.Tensor:
        context.size = len(share)
        shares = [torch.empty_like(share) for _ in range(world())]
        distributed.all_gather(shares, share.contiguous())
        return torch.cat(shares)[:count]

    @staticmethod
    def backward(context, gradient: torch.Tensor):
        start = process_number() * context.size
        share = gradient[start : start + context.size]
        if len(share) < context.size:  # of the samples that only fill up the last share
            share = torch.cat([share, share.new_zeros(context.size - len(share), *share.shape[1:])])
        # DistributedDataParallel averages over processes; the loss is of the whole batch, so its shares must be summed.
        return share * world(), None


def distribute(method: nn.Module) -> None:
    """Every trained or copied trunk of the method (`upper`) from now on runs on shares of its batch while training.

    Raises ValueError on a CPU where the trunk has batch normalisation: it could not be over all processes.
    """
    from timm.layers import convert_sync_batchnorm

    for part in [module for module in method.modules() if isinstance(getattr(module, "upper", None), Stages)]:
        upper = part.upper
        if not any(True for _ in upper.parameters()):
            continue
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in upper.modules()):
            if next(upper.parameters()).device.type == "cpu":
                raise ValueError(
                    "batch normalisation over several processes needs GPUs; train this trunk with world_size 1"
                )
            for name, child in list(upper.named_children()):
                setattr(upper, name, convert_sync_batchnorm(child))
        inner: nn.Module = Stages(*upper)  # the same layers: names of weights stay as they are
        inner.autocast = upper.autocast
        if any(parameter.requires_grad for parameter in upper.parameters()):
            inner = DistributedDataParallel(inner, broadcast_buffers=False)

        def forward(x: torch.Tensor, upper=upper, inner=inner) -> torch.Tensor:
            if not upper.training:
                return Stages.forward(upper, x)
            return _Gather.apply(inner(share_of_batch(x)), len(x))

        object.__setattr__(upper, "forward", forward)


def align(method: nn.Module) -> None:
    """Weights of the first process to all: what rounding has set apart does not grow over epochs."""
    if world() > 1:
        for value in method.state_dict().values():
            distributed.broadcast(value, 0)


def gather_rows(share: np.ndarray, count: int, device: str) -> np.ndarray:
    """Rows of all processes, each with those of `device.rows_of_process(count)`, in their order: (count, D)."""
    if world() == 1:
        return share
    values = torch.from_numpy(share).to(device)
    shares = [torch.empty_like(values) for _ in range(world())]
    distributed.all_gather(shares, values)
    return torch.cat(shares)[:count].cpu().numpy()


def value_of_first_process(value: float, device: str) -> float:
    """The first process's value: a decision that all must take alike."""
    if world() == 1:
        return value
    tensor = torch.tensor([value], dtype=torch.float64, device=device)
    distributed.broadcast(tensor, 0)
    return float(tensor)


# ------------------------------------------------------------------------------------------------------------ processes


RAISED = re.compile(r"^(?:\[rank\d+\]: *)?([\w.]+(?:Error|Exception): .+)$", re.MULTILINE)  # the end of a traceback


class ProcessesFailed(RuntimeError):
    """Processes that train a run together have ended with an error."""


def launch(
    module: str, folder: Path, processes: int, device: str, progress: bool, checkpoint_seconds: float, compiled: bool
) -> None:
    """Fills a run's folder by `processes` of torchrun that run `module`, one GPU each.

    Raises ProcessesFailed where they fail.
    """
    threads = str(max(1, len(os.sched_getaffinity(0)) // processes))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    arguments = [str(folder), device, str(int(progress)), str(checkpoint_seconds), str(int(compiled))]
    log_file = folder / "processes.log"
    with open(log_file, "w") as log:
        finished = subprocess.run(
            [*torchrun, "-m", module, *arguments],
            env={"OMP_NUM_THREADS": threads, **os.environ},
            stdout=log,
            stderr=None if progress else log,
        )
    if finished.returncode:
        said = [error for error in RAISED.findall(log_file.read_text(errors="replace")) if "ChildFailed" not in error]
        reason = said[0][:300] if said else "they say no reason"
        raise ProcessesFailed(f"the {processes} processes of this run failed ({reason}); their log is {log_file}")
    log_file.unlink()


@contextmanager
def process(device: str):
    """Inside, this process is one of those that train together: (its device, its number on this machine)."""
    local = int(os.environ["LOCAL_RANK"])
    if device.startswith("cuda"):
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device, local
    finally:
        distributed.destroy_process_group()
