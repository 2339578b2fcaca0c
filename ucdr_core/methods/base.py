"""The contract between a method and everything else.

A method is an `nn.Module` with
    Options      a frozen dataclass: its hyper-parameters, and a named switch for each place where paper and code disagree
    losses       a batch -> its loss terms by name
    embed        inputs -> embeddings
    distance     how its embeddings are compared
Training, protocols, metrics, records and tables know nothing else about it.
"""
from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import nn

from ..backbones import ResidualAdapter


class OptionError(ValueError):
    """An option is unknown, of the wrong type, or out of range."""


@dataclass(frozen=True)
class Batch:
    """inputs (B, ...) in blocks of equal size, one per domain; labels (B,) of the seen classes; domains (B,).

    jigsaw_inputs (B, ...) are the same samples tile-shuffled, as jigsaw_labels (B,) in 1..30 says; only where a method asks.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    domains: torch.Tensor
    jigsaw_inputs: torch.Tensor | None = None
    jigsaw_labels: torch.Tensor | None = None


class Method(nn.Module):
    """Base of all methods.  `upper` is the trained part of the trunk; in the frozen regime it is empty and an adapter stands in."""

    @dataclass(frozen=True)
    class Options:
        pass

    trained: ClassVar[bool] = True  # False: a reference row, embeds what the trunk gives
    uses_class_vectors: ClassVar[bool] = False
    wants_jigsaw: ClassVar[bool] = False
    wants_positions: ClassVar[bool] = False  # False: only the average over positions of a frozen trunk's map is used
    transductive: ClassVar[bool] = False  # True: looks at the test queries or the gallery as a whole
    distance: str = "euclidean"  # an option of the same name takes its place

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Any):
        super().__init__()
        self.upper, self.channels, self.options = upper, channels, options
        self.distance = getattr(options, "distance", type(self).distance)
        self.register_buffer("class_vectors", class_vectors)

    def losses(self, batch: Batch, epoch: int, random: np.random.Generator) -> dict[str, torch.Tensor]:
        """Weighted loss terms by name; their sum is minimised."""
        raise NotImplementedError

    def embed(self, inputs: torch.Tensor) -> torch.Tensor:
        """inputs (B, ...) as training gets them -> (B, D)."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Called after each optimiser step (momentum encoders)."""

    def together(self, queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Last word on the test embeddings as a whole; only transductive methods change them."""
        return queries, gallery


def shared_adapter(upper: nn.Module, channels: int, rank: int) -> nn.Module:
    """The part that a method's heads share where the trunk is frozen; nothing where the trunk itself is trained."""
    return nn.Identity() if list(upper.parameters()) else ResidualAdapter(channels, rank)


def pooled(maps: torch.Tensor) -> torch.Tensor:
    """Global average pooling: (B, C, h, w) -> (B, C)."""
    return maps.mean((2, 3))


def from_mapping(cls, values: dict[str, Any], what: str):
    """The dataclass `cls` from a mapping.  Raises OptionError for unknown names and wrong types, naming what is allowed.

    An int is taken for a float; nothing else is converted.  Literal types list the allowed values, tuples take lists.
    """
    known = {f.name for f in fields(cls) if f.init}
    unknown = sorted(set(values) - known)
    if unknown:
        raise OptionError(f"{what}: unknown option {', '.join(map(repr, unknown))}; known: {', '.join(sorted(known)) or 'none'}")
    hints = get_type_hints(cls)
    checked = {name: _typed(value, hints[name], f"{what}: {name}") for name, value in values.items()}
    try:
        return cls(**checked)
    except TypeError as error:
        raise OptionError(f"{what}: {error}") from error


def _typed(value: Any, hint: Any, where: str) -> Any:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise OptionError(f"{where} must be one of {', '.join(map(repr, get_args(hint)))}, not {value!r}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, get_args(hint)[0]) for item in value):
            raise OptionError(f"{where} must be a list of {get_args(hint)[0].__name__}, not {value!r}")
        return tuple(value)
    if get_origin(hint) is dict or hint is dict:
        if not isinstance(value, dict):
            raise OptionError(f"{where} must be a mapping, not {value!r}")
        return value
    allowed = get_args(hint) or (hint,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) and bool not in allowed or not isinstance(value, allowed):
        names = " or ".join("none" if a is type(None) else a.__name__ for a in allowed)
        raise OptionError(f"{where} must be {names}, not {value!r} ({type(value).__name__})")
    if isinstance(value, float) and not np.isfinite(value):
        raise OptionError(f"{where} must be finite, not {value!r}")
    return value
