"""A trained run as one network from pixels to embeddings: for pictures that are in no data set."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageChops
from torch import nn

from ucdr_core.evidence.record import TrainedRun
from ucdr_core.methods import backbones
from ucdr_core.training.prepare import build

INK = 24  # a pixel belongs to a drawing if a channel is further than this from white (0 to 255)
MARGIN = 0.08  # of the side that is left around a drawing: what the embedded drawings have, on average


def framed(image: Image.Image) -> Image.Image:
    """A drawing, cut out and put in the middle of a white square as the embedded ones are; any other picture as it is.

    A drawing is a picture whose outermost pixels are all white; one without any ink stays as it is.
    """
    ink = ImageChops.invert(image.convert("RGB"))
    red, green, blue = ink.split()
    darkest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    box = darkest.point(lambda value: 255 if value > INK else 0).getbbox()
    width, height = image.size
    if box is None or box[0] == 0 or box[1] == 0 or box[2] == width or box[3] == height:
        return image
    cut = image.convert("RGB").crop(box)
    side = round(max(cut.size) / (1 - 2 * MARGIN))
    square = Image.new("RGB", (side, side), "white")
    square.paste(cut, ((side - cut.width) // 2, (side - cut.height) // 2))
    return square


class PictureEncoder(nn.Module):
    """The method of a run on its trunk, or on the run that feeds it.

    Pixels (B, 3, H, W) in [0, 1] -> embeddings (B, D), in single precision whatever the run was trained in.
    """

    def __init__(self, record: TrainedRun, device: str = "cpu"):
        super().__init__()
        spec = record.spec
        self.size_px, self.key, self.spec, self.device = spec.size_px, record.key, spec, device
        self.first = PictureEncoder(record.first_stage()) if spec.features else None
        if self.first is None:
            self.trunk = backbones.trunk(spec.backbone, spec.weights)
            self.lower, upper = self.trunk.split(spec.regime)
            channels = self.trunk.channels
        else:
            upper, channels, self.trunk = nn.Sequential(), self.first.dimension, None
        self.method = build(spec, spec.training(), upper, channels, self.trunk)
        record.load_weights(self.method)
        self.distance = self.method.distance
        self.to(device, torch.float32).eval()

    @property
    def dimension(self) -> int:
        with torch.inference_mode():
            return self(torch.zeros(1, 3, self.size_px, self.size_px, device=self.device)).shape[1]

    def forward(self, pixels: torch.Tensor, photo: bool = False) -> torch.Tensor:
        """Embeddings (B, D).

        photo  the pictures are of the gallery's side, not queries: it matters to methods with a network for each
        """
        return self.method.embed(self.inputs(pixels, photo), torch.full((len(pixels),), photo, dtype=torch.bool))

    def inputs(self, pixels: torch.Tensor, photo: bool = False) -> torch.Tensor:
        """What the method is fed: the frozen part's map, or the other run's embeddings."""
        if self.first is not None:
            return self.first(pixels, photo)
        if self.spec.invert_domains and not photo:
            pixels = 1 - pixels
        return self.lower(pixels if self.spec.pixels == "unit" else self.trunk.normalise(pixels))

    def pixels(self, images: list[Image.Image]) -> torch.Tensor:
        """(B, 3, size_px, size_px) in [0, 1]: squashed to a square as all pictures here are (`data.images`)."""
        size = (self.size_px, self.size_px)
        coloured = [image.convert("RGB") for image in images]
        squashed = [image if image.size == size else image.resize(size, Image.Resampling.BICUBIC) for image in coloured]
        return torch.from_numpy(np.stack(squashed)).to(self.device).permute(0, 3, 1, 2).float() / 255

    def embed(self, images: list[Image.Image], photo: bool = False) -> np.ndarray:
        """(B, D) float32."""
        with torch.inference_mode():
            return self(self.pixels(images), photo).float().cpu().numpy()
