"""Several GPUs of one machine: a process each, started by torchrun, that runs the trained trunk on its share of a batch.

The trunk is wrapped in DistributedDataParallel, with batch normalisation over all processes.  Its output is gathered, and what follows
(mixing, triplets, attention, heads, losses) sees the whole batch in every process: a training on W GPUs is the training on one at
the same batch size, up to rounding.  The random draws are the same in every process, so nothing else need be exchanged.
"""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from .backbones import Stages
from .losses import sent


def world() -> int:
    """Processes that train together; 1 outside of torchrun."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    return distributed.get_rank() if world() > 1 else 0


def own_rows(count: int) -> np.ndarray:
    """Which of `count` samples are this process's: equal shares, the last filled up with the first samples."""
    size = -(-count // world())
    return np.arange(rank() * size, (rank() + 1) * size) % count


def share(values: torch.Tensor, count: int) -> torch.Tensor:
    """What goes with `count` samples of the trunk's batch: `values` (B, ...) as they are, or this process's share of them."""
    return values if len(values) == count else own_share(values)


def own_share(values: torch.Tensor) -> torch.Tensor:
    """This process's rows of a batch (B, ...)."""
    return values.index_select(0, sent(own_rows(len(values)), values.device))


class _Gather(torch.autograd.Function):
    """The shares of all processes -> the whole batch; backwards each process gets the gradient of its own."""

    @staticmethod
    def forward(context, own: torch.Tensor, count: int) -> torch.Tensor:
        context.size = len(own)
        parts = [torch.empty_like(own) for _ in range(world())]
        distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts)[:count]

    @staticmethod
    def backward(context, gradient: torch.Tensor):
        start = rank() * context.size
        own = gradient[start:start + context.size]
        if len(own) < context.size:  # of the samples that only fill up the last share
            own = torch.cat([own, own.new_zeros(context.size - len(own), *own.shape[1:])])
        # DistributedDataParallel averages over processes; the loss is of the whole batch, so its shares must be summed.
        return own * world(), None


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
                raise ValueError("batch normalisation over several processes needs GPUs; train this trunk with world_size 1")
            for name, child in list(upper.named_children()):
                setattr(upper, name, convert_sync_batchnorm(child))
        inner: nn.Module = Stages(*upper)  # the same layers: names of weights stay as they are
        inner.autocast = upper.autocast
        if any(parameter.requires_grad for parameter in upper.parameters()):
            inner = DistributedDataParallel(inner, broadcast_buffers=False)

        def forward(x: torch.Tensor, upper=upper, inner=inner) -> torch.Tensor:
            if not upper.training:
                return Stages.forward(upper, x)
            return _Gather.apply(inner(own_share(x)), len(x))

        object.__setattr__(upper, "forward", forward)


def align(method: nn.Module) -> None:
    """Weights of the first process to all: what rounding has set apart does not grow over epochs."""
    if world() > 1:
        for value in method.state_dict().values():
            distributed.broadcast(value, 0)


def joined(own: np.ndarray, count: int, device: str) -> np.ndarray:
    """Rows of all processes, each holding `own_rows(count)` of them, in their order: (count, D)."""
    if world() == 1:
        return own
    mine = torch.from_numpy(own).to(device)
    parts = [torch.empty_like(mine) for _ in range(world())]
    distributed.all_gather(parts, mine)
    return torch.cat(parts)[:count].cpu().numpy()


def agreed(value: float, device: str) -> float:
    """The first process's value: a decision that all must take alike."""
    if world() == 1:
        return value
    held = torch.tensor([value], dtype=torch.float64, device=device)
    distributed.broadcast(held, 0)
    return float(held)


# -------------------------------------------------------------------------------------------------------------- processes

def launch(folder: Path, processes: int, device: str, progress: bool, checkpoint_seconds: float, compiled: bool) -> None:
    """Fills a run's folder by `processes` of torchrun, one GPU each.  Raises RuntimeError with what they said where they fail."""
    threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // processes))}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "ucdr_core.parallel",
               str(folder), device, str(int(progress)), str(checkpoint_seconds), str(int(compiled))]
    with open(folder / "processes.log", "w") as log:
        done = subprocess.run(command, env={**os.environ, **threads}, stdout=log, stderr=None if progress else log)
    if done.returncode:
        raise RuntimeError(f"the {processes} processes of this run failed; they said:\n{(folder / 'processes.log').read_text()[-4000:]}")
    (folder / "processes.log").unlink()


def main(folder: str, device: str, progress: str, checkpoint_seconds: str, compiled: str) -> None:
    """One of the processes."""
    import json

    from . import runs

    local = int(os.environ["LOCAL_RANK"])
    if device.startswith("cuda"):
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        work = Path(folder)
        spec = runs.TrainSpec.from_mapping(json.loads((work / "spec.json").read_text()))
        runs.Store(work.parent).fill(work, spec, device, bool(int(progress)) and local == 0, float(checkpoint_seconds), bool(int(compiled)))
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
