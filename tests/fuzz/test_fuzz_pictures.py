"""Picture files: read as what they show, or refused by their name."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import strategies
from cases import Case, bounded, held, refusal, unchanged
from hypothesis import given
from PIL import Image

from ucdr_core import data

# How far pixels may lie from what was drawn, on average: what the mode or the compression loses.
LOSS = {"1": 128, "P": 40, "animated": 40, "CMYK": 12, "YCbCr": 6, "LAB": 12}


def check(case: Case, folder: Path) -> str:
    case.lay(folder)
    name = case.values["name"]
    manifest = data.Manifest("own", folder, pd.DataFrame({"path": [name], "class_name": [""], "domain": [""]}))
    with bounded(), unchanged(folder):
        image, _ = refusal(lambda: data.images.read(manifest, 0), (data.DataError,), name)
        again, _ = refusal(lambda: data.images.read(manifest, 0), (data.DataError,), name)
    held((image is None) == (again is None), "is read once and refused once")
    if image is None:
        held("mode" not in case.values, f"refuses a good {case.values.get('format')} {case.values.get('mode')}")
        return "refused"
    held(image.mode == "RGB" and min(image.size) > 0, f"gives {image.mode} {image.size}")
    held(image.tobytes() == again.tobytes(), "shows another picture when it is read again")
    if "mode" in case.values:
        shows(image, case.values["mode"], case.values["orientation"])
    return "read"


def shows(image: Image.Image, mode: str, orientation: int) -> None:
    """The picture is the one that was drawn, upright, within what its mode loses."""
    drawn = Image.fromarray(strategies.shape())
    if mode.split()[0] in ("1", "L", "LA", "I;16", "I", "F"):
        drawn = drawn.convert("L").convert("RGB")
    if mode == "I":  # of values of 32 bits the range counts that is there
        grey = np.asarray(drawn, float)
        drawn = Image.fromarray(((grey - grey.min()) * 255 / np.ptp(grey)).astype(np.uint8))
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)  # fmt: skip
    drawn = drawn.transpose(turn) if turn is not None else drawn
    held(image.size == drawn.size, f"has size {image.size}, not {drawn.size}")
    apart = np.abs(np.asarray(image, float) - np.asarray(drawn, float)).mean()
    if "transparent" not in mode:
        held(apart <= LOSS.get(mode, 10), f"{mode}: pixels are {apart:.1f} from those that were drawn, on average")


@given(strategies.pictures())
def test_pictures_are_read_or_refused(case):
    with tempfile.TemporaryDirectory() as folder:
        check(case, Path(folder))


@pytest.mark.parametrize("format, mode", [(one, mode) for one, modes in strategies.FORMATS.items() for mode in modes])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_good_picture_of_every_mode_is_read(tmp_path, format, mode, orientation):
    orientation = 1 if format in ("gif", "bmp") else orientation
    values = {"name": f"own.{format}", "format": format, "mode": mode, "orientation": orientation}
    content = strategies.picture(format, mode, orientation)
    assert check(Case("picture", {values["name"]: content}, values), tmp_path) == "read"
