"""Numbers made by the authors' code, and the check that each of them is compared with ours.

A test of them takes `arrays` and says by `@golden(system, prefixes)` which it is about; it fails where it leaves an
output or a gradient of these unread.  `uncovered` lists what no test of a module is about.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ucdr_core.methods.backbones import SpatialAttention

FOLDER = Path(__file__).parent / "golden"


class Arrays(Mapping[str, np.ndarray]):
    """The arrays of a system whose names begin with one of the prefixes; remembers which were read."""

    def __init__(self, system: str, prefixes: tuple[str, ...]):
        with np.load(FOLDER / f"{system}.npz", allow_pickle=False) as stored:
            self.all = {name: stored[name] for name in stored.files}
        self.own = [name for name in self.all if name.startswith(prefixes)]
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> np.ndarray:
        self.read.add(name)
        return self.all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.own)

    def __len__(self) -> int:
        return len(self.own)

    def tensor(self, name: str, gradient: bool = False) -> torch.Tensor:
        """The array as a tensor of its own type; `gradient` asks for the derivative with respect to it."""
        return torch.tensor(self[name]).requires_grad_(gradient)

    def unread(self) -> list[str]:
        """Outputs and gradients that nothing was compared with."""
        results = [name for name in self.own if {"out", "grad"} & set(name.split("."))]
        return [name for name in results if name not in self.read]


def golden(system: str, *prefixes: str, unused: dict[str, str] | None = None) -> Callable:
    """Gives a test the arrays of these prefixes, and fails it where it leaves one of their results unread.

    unused   {prefix of a result: the reason why nothing here can be compared with it}
    """

    def decorate(test: Callable) -> Callable:
        @functools.wraps(test)
        def wrapped(*positional, **named):
            arrays = Arrays(system, prefixes)
            test(arrays, *positional, **named)
            left = [name for name in arrays.unread() if not name.startswith(tuple(unused or ()))]
            assert not left, f"results of the authors' code that the test does not compare: {left}"

        # pytest looks at the signature for fixtures: `arrays`, the first parameter, is not one.
        signature = inspect.signature(test)
        wrapped.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
        wrapped.golden = (system, prefixes)
        return wrapped

    return decorate


def uncovered(system: str, module: Mapping[str, object], why_not: dict[str, str]) -> list[str]:
    """Arrays of a system that no test of the module is about, but for those of the prefixes in `why_not`."""
    prefixes = [
        prefix
        for value in module.values()
        for name, of_test in [getattr(value, "golden", ("", ()))]
        if name == system
        for prefix in of_test
    ]
    return [name for name in Arrays(system, ("",)) if not name.startswith((*prefixes, *why_not))]


def close(ours: torch.Tensor | np.ndarray | float, theirs: np.ndarray, single: bool = False) -> None:
    """Equal to 1e-9, or to 1e-6 where the authors' numbers are of single precision, relative to the largest value."""
    ours = ours.detach().cpu().numpy() if isinstance(ours, torch.Tensor) else np.asarray(ours)
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape, f"shape {ours.shape}, theirs {theirs.shape}"
    tolerance = (1e-6 if single else 1e-9) * max(1.0, float(np.abs(theirs).max(initial=0)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def close_attention(arrays: Arrays) -> tuple[SpatialAttention, torch.Tensor]:
    """Compares the attention block of doodle2search and UCDR by output and gradient; gives the block and its input."""
    attention, x = SpatialAttention(6).double(), arrays.tensor("att.in.x", gradient=True)
    for name, layer in (("conv1", attention.reduce), ("conv2", attention.score)):
        layer.weight, layer.bias = (nn.Parameter(arrays.tensor(f"att.w.{name}_{part}")) for part in ("weight", "bias"))
    attended = attention(x)
    (attended * arrays.tensor("att.in.cotangent")).sum().backward()
    close(attended, arrays["att.out.y"])
    close(x.grad, arrays["att.grad.x"])
    return attention, x
