"""What exists and who is asked: manifests, splits, protocols, images."""
from . import images, protocols, splits
from .datasets import EMOJI_VIEWS, emoji, folders, load, names
from .manifest import DataError, Manifest
from .protocols import Evaluation, Task, gzs_sbir, uc_cdr, ucdr, ud_cdr, zs_sbir
from .splits import Split

__all__ = [
    "EMOJI_VIEWS", "DataError", "Evaluation", "Manifest", "Split", "Task", "emoji", "folders", "gzs_sbir", "images", "load",
    "names", "protocols", "splits", "uc_cdr", "ucdr", "ud_cdr", "zs_sbir",
]
