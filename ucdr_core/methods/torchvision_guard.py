"""Lets torchvision import on a CPU build of torch that cannot load torchvision's compiled operators.

The registry's torchvision wheel is linked against CUDA.  Beside a CPU torch its operators stay undefined and the import
of torchvision (and of timm) fails, although none of them is used here.  Two schemas are enough to let it pass.
"""

import importlib.util
from pathlib import Path

import torch


def _operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # not installed: let the import say so itself
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            return False
    return hasattr(torch.ops.torchvision, "nms")


if not _operators_load():
    _library = torch.library.Library("torchvision", "DEF")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
