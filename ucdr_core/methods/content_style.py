"""In the spirit of Dutta and Biswas, "Style-guided zero-shot sketch-based image retrieval" (BMVC 2019).

STRAD's table has it under its authors' names.  STL's CSDB (2020) and SnMpNet's StyleGuide, an article of 2020 by three
authors (Dutta, Singh, Biswas, T-MM), are taken to be the same method.

Only abstracts are known to us; the book's page on these methods says what we chose.  On frozen features, each sample is
encoded into a content that should not tell its domain and a style of its own.  For a query and each photo of the
gallery, the query's content with that photo's style is decoded into a photo feature, and the photos are ranked by the
distance of this fake to their own feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ucdr_core.methods.base import Batch, Method, Sides, by_side, mlp, scaled_features
from ucdr_core.methods.losses import reverse_gradient
from ucdr_core.options import Weight, Width


class ContentStyle(Method):
    @dataclass(frozen=True)
    class Options:
        dim: Width = 200  # of content
        # Small: a style that is wide enough decodes the whole feature, and the content is not needed.
        style_dim: Width = 200
        hidden: Width = 512
        weight_self: Weight = 1.0  # a sample from its own content and style
        weight_cross: Weight = 1.0  # a photo from the content of a sketch of its class, and the other way round
        weight_class: Weight = 1.0
        weight_domain: Weight = 0.1
        distance: Literal["euclidean", "cosine"] = "euclidean"

    batches = "pairs"
    frozen_features = True

    def __init__(self, upper: nn.Module, channels: int, class_vectors: torch.Tensor, options: Options):
        super().__init__(upper, channels, class_vectors, options)
        dim, hidden = options.dim, options.hidden
        self.content = Sides(mlp(channels, hidden, dim, norm=True, slope=0.2), shared=False)
        self.style = Sides(mlp(channels, hidden, options.style_dim, norm=True, slope=0.2), shared=False)
        # A decoder adds what it makes of the content and what it makes of the style, d(c, s) = a(c) + b(s).  So the
        # distance of a fake to the photo's own feature, |a(c) + b(s) - x|, is that between a(c) and x - b(s): an
        # embedding of the query, one of the photo.
        self.from_content = Sides(mlp(dim, hidden, channels, slope=0.2), shared=False)
        self.from_style = Sides(mlp(options.style_dim, hidden, channels, slope=0.2), shared=False)
        self.classifier = nn.Linear(dim, len(class_vectors))
        self.domain = mlp(dim, 64, 1)

    def losses(self, batch: Batch, random: np.random.Generator) -> dict[str, torch.Tensor]:
        options, photos = self.options, batch.photos
        x = scaled_features(batch.inputs)
        content, style = self.content(x, photos), self.style(x, photos)
        of_style = self.from_style(style, photos)
        from_itself = self.from_content(content, photos) + of_style
        content_of_partner = torch.cat(content.chunk(2)[::-1])
        from_partner = self.from_content(content_of_partner, photos) + of_style
        terms = {
            "self": options.weight_self * functional.mse_loss(from_itself, x),
            "cross": options.weight_cross * functional.mse_loss(from_partner, x),
            "class": options.weight_class * functional.cross_entropy(self.classifier(content), batch.labels),
        }
        if options.weight_domain:
            logits = self.domain(reverse_gradient(content, options.weight_domain))[:, 0]
            terms["domain"] = functional.binary_cross_entropy_with_logits(logits, photos.to(logits))
        return terms

    def embed(self, inputs: torch.Tensor, photos: torch.Tensor, space: str = "") -> torch.Tensor:
        return by_side(
            scaled_features(inputs),
            photos,
            lambda x: self.from_content.photo(self.content.sketch(x)),
            lambda x: x - self.from_style.photo(self.style.photo(x)),
        )
