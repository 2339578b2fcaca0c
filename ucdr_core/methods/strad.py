"""STRAD: structure-aware asymmetric disentanglement (Li, Ling, Niu, Zhang, arXiv 1911.13251).

On frozen features of a fine-tuned backbone (`Simple`): photo features are disentangled into structure and appearance,
sketch features only projected to structure; both are translated into the other domain.  Retrieval in three spaces, and
fused.  Equation numbers are the paper's.  Its supplement, with sizes, optimiser, N and lambda, could not be found;
widths and layers follow the authors' earlier code (Jiangtong-Li/ZS-SBIR), which is all there with
    Options(alignment="ranking", reconstruction="code", weight_or=0.0, weight_sk=10.0, sketch_space=False, pairs="own")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, Method, by_side, fixed_latents, mean_decoded
from ucdr_core.methods.losses import classification_loss, draw_latents, kl_to_standard_normal
from ucdr_core.options import OptionError, Range, Weight, Width


def reconstruction(made: torch.Tensor, target: torch.Tensor, form: str) -> torch.Tensor:
    """|made - target|, averaged over the batch: (B, d), (B, d) -> scalar.  Equations 4 and 6.

    form "paper": the Euclidean norm; "code": the mean square per dimension (the authors' earlier code)
    """
    if form == "paper":
        return functional.pairwise_distance(made, target).mean()
    return functional.mse_loss(made, target)


def ranking_loss(
    sketch: torch.Tensor,
    paired: torch.Tensor,
    unpaired: torch.Tensor,
    negative: torch.Tensor,
    margin_unpaired: float,
    margin_negative: float,
) -> torch.Tensor:
    """A sketch is to be near its photo, less near another photo of its class, and far from a photo of another class.

    (D_1^2 + max(0, D_1 - D_2 + m_1)^2 + max(0, D_2 - D_3 + m_2)^2) / 3 with the Euclidean distances D of the sketch
    from the three, averaged over the batch: structures (B, d) each -> scalar.  Source: the earlier code.
    """
    d1, d2, d3 = (functional.pairwise_distance(photo, sketch) for photo in (paired, unpaired, negative))
    too_far, too_near = (d1 - d2 + margin_unpaired).clamp(min=0), (d2 - d3 + margin_negative).clamp(min=0)
    return (d1.square() + too_far.square() + too_near.square()).mean() / 3


def fused(features: Iterable[torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
    """Features of several spaces (B, d_1), ... in one, (B, sum of d): unit vectors times the root of their weight.

    The cosine of two such rows is the weighted mean of the cosines where the weights add up to 1, and 1 less it the
    distance of equation 9.
    """
    return torch.cat([functional.normalize(v, dim=1) * weight.sqrt() for v, weight in zip(features, weights)], dim=1)


def _layers(inputs: int, hidden: int, outputs: int, norm: bool) -> nn.Sequential:
    """Two linear layers, ReLU after both, batch normalisation before both if asked."""
    layers: list[nn.Module] = []
    for pair in ((inputs, hidden), (hidden, outputs)):
        layers += [nn.Linear(*pair), *([nn.BatchNorm1d(pair[1])] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers)


class STRAD(Method):
    @dataclass(frozen=True)
    class Options:
        hidden: Width = 2048
        structure: Width = 1024  # width of structure and appearance
        # The five losses of equation 7, unweighted in the paper; a space whose loss is 0 is not searched.
        weight_or: Weight = 1.0  # computed and left out in the earlier code
        weight_cls: Weight = 1.0  # of what aligns the structures, whichever it is
        weight_kl: Weight = 1.0
        weight_im: Weight = 1.0
        weight_sk: Weight = 1.0  # the earlier code needed 10
        alignment: Literal["classification", "ranking"] = "classification"  # equation 2, or `ranking_loss`
        margin_unpaired: Weight = 0.0  # of the ranking loss (the earlier code's script)
        margin_negative: Weight = 10.0  # the same
        reconstruction: Literal["paper", "code"] = "paper"
        pairs: Literal["class", "own"] = "class"  # photos of the sketch's class, or its own (earlier code); `Batches`
        sketch_space: bool = True  # False: not searched (earlier code)
        samples: Annotated[int, Range(1, 10_000)] = 200  # N of equation 8 (earlier code)

    distance = "cosine"
    batches = "pairs"
    frozen_features = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        width = options.structure
        self.structure_photo = _layers(channels, options.hidden, width, norm=True)  # E_im^st
        self.structure_sketch = _layers(channels, options.hidden, width, norm=True)  # E_sk^st
        if options.alignment == "classification":
            self.classifier = nn.Linear(width, len(class_vectors))
        else:
            self.batches = "quadruplets"
        trained = {"sketch": options.weight_sk, "image": options.weight_im, "structure": options.weight_cls}
        self.searched = [name for name in trained if trained[name] and (name != "sketch" or options.sketch_space)]
        if not self.searched:
            raise OptionError("strad: no space is trained; one of weight_cls, weight_im and weight_sk must be above 0")
        self.spaces = ("", *self.searched)
        if options.weight_sk:
            self.to_sketch = _layers(width, options.hidden, channels, norm=False)  # G_sk
        if options.weight_im or options.weight_or:
            self.appearance = _layers(channels, options.hidden, width, norm=True)  # E_im^ap
        if options.weight_im:
            self.variational = nn.Linear(width, 2 * width)  # V_im^ap: mu and the logarithm of sigma^2
            self.to_image = _layers(2 * width, options.hidden, channels, norm=False)  # G_im
            self.register_buffer("z", fixed_latents(options.samples, width))  # appearances
        # lambda_1, lambda_1, lambda_2 of equation 9, in the order of `searched`; chosen after training
        self.register_buffer("fusion", torch.full((len(self.searched),), 1 / len(self.searched), dtype=torch.float64))

    # ---------------------------------------------------------------------------------------------------- training

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        options = self.options
        # A sketch and a photo of the same class; for the ranking loss also another, and one of another class.
        f_sk, f_im, *others = batch.inputs.flatten(1).chunk(4 if self.batches == "quadruplets" else 2)
        st_sk, st_im = self.structure_sketch(f_sk), self.structure_photo(f_im)  # equation 1
        terms = {}
        if options.weight_cls and options.alignment == "ranking":
            of_photos = (st_im, *(self.structure_photo(f) for f in others))
            margins = options.margin_unpaired, options.margin_negative
            terms["ranking"] = options.weight_cls * ranking_loss(st_sk, *of_photos, *margins)
        elif options.weight_cls:  # equation 2
            y = batch.labels.chunk(2)[0]
            terms["cls"] = options.weight_cls * classification_loss(self.classifier, y, st_im, st_sk)
        if options.weight_im or options.weight_or:
            ap_im = self.appearance(f_im)
        if options.weight_or:  # equation 3
            terms["or"] = options.weight_or * functional.cosine_similarity(ap_im, st_im, dim=1).mean()
        if options.weight_sk:  # equation 4: photo to sketch
            terms["sk"] = options.weight_sk * reconstruction(self.to_sketch(st_im), f_sk, options.reconstruction)
        if options.weight_im:  # equations 5 and 6: sketch to photo
            mean, log_variance = self.variational(ap_im).chunk(2, dim=1)
            made = self.to_image(torch.cat([draw_latents(mean, log_variance, random), st_sk], dim=1))
            terms["im"] = options.weight_im * reconstruction(made, f_im, options.reconstruction)
            if options.weight_kl:
                terms["kl"] = options.weight_kl * kl_to_standard_normal(mean, log_variance)
        return terms

    # --------------------------------------------------------------------------------------------------- retrieval

    def feature(self, name: str, f: torch.Tensor) -> torch.Tensor:
        """One of the seven features of Figure 3 from photo or sketch features f (B, channels).

        photos    image, image structure, image appearance, generated sketch
        sketches  sketch, sketch structure, generated image

        Raises ValueError for another name.
        """
        if name in ("image", "sketch"):
            return f
        if name == "image structure":
            return self.structure_photo(f)
        if name == "sketch structure":
            return self.structure_sketch(f)
        if name == "image appearance":
            return self.appearance(f)
        if name == "generated sketch":
            return self.to_sketch(self.structure_photo(f))
        if name == "generated image":  # equation 8: the mean over N appearances
            return mean_decoded(self.to_image, self.z, self.structure_sketch(f), block=16)
        raise ValueError(f"unknown feature {name!r}")

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        """In one space, or in all of them, `fused`."""
        features_of_space = {
            "sketch": ("sketch", "generated sketch"),  # of a sketch, of a photo
            "image": ("generated image", "image"),
            "structure": ("sketch structure", "image structure"),
        }

        def embed_side(f: torch.Tensor, side: int) -> torch.Tensor:
            if space:
                return self.feature(features_of_space[space][side], f)
            return fused((self.feature(features_of_space[name][side], f) for name in self.searched), self.fusion)

        return by_side(inputs.flatten(1), photos, lambda f: embed_side(f, 0), lambda f: embed_side(f, 1))

    def fuse(self, structure: float) -> None:
        """Sets the fusion: lambda_2 = structure, in [0, 1]; the other spaces share the rest."""
        others = (1 - structure) / max(len(self.searched) - 1, 1)
        self.fusion.copy_(torch.tensor([structure if name == "structure" else others for name in self.searched]))

    def choose(self, score: Callable[[], float]) -> None:
        """lambda_2 of 0, .1, ..., 1: the best by the selection score, the first of equals."""
        if len(self.searched) < 2 or "structure" not in self.searched:
            return
        best_score, best_weight = -1.0, 0.0
        for tenths in range(11):
            self.fuse(tenths / 10)
            if (current := score()) > best_score + 1e-9:
                best_score, best_weight = current, tenths / 10
        self.fuse(best_weight)
