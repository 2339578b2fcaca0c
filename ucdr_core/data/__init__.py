"""What exists, and what is queried and searched: manifests, splits, protocols, images."""

from ucdr_core.data import images, protocols, splits
from ucdr_core.data.datasets import EMOJI_VIEWS, FINGERPRINTS, SMALL_SETS, describe, emoji, folders, load, names
from ucdr_core.data.manifest import DataError, Manifest
from ucdr_core.data.protocols import Evaluation, Task, gzs_sbir, uc_cdr, ucdr, ud_cdr, zs_sbir
from ucdr_core.data.splits import Split

__all__ = [
    "EMOJI_VIEWS",
    "FINGERPRINTS",
    "SMALL_SETS",
    "DataError",
    "Evaluation",
    "Manifest",
    "Split",
    "Task",
    "describe",
    "emoji",
    "folders",
    "gzs_sbir",
    "images",
    "load",
    "names",
    "protocols",
    "splits",
    "uc_cdr",
    "ucdr",
    "ud_cdr",
    "zs_sbir",
]
