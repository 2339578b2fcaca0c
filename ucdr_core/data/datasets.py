"""Data sets, each a function that returns a Manifest."""
from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path

import pandas as pd

from .. import paths
from . import images, published
from .manifest import IMAGE_SUFFIXES, DataError, Manifest

# The analogue of each paper's data set: {domain of the paper: [emoji sets]}, and why these.
# No view trains on, or searches, a second finish of the drawings that it queries: OpenMoji's lines and the doodles are one
# set of drawings, and Noto's monochrome font redraws Noto's colour set.
EMOJI_VIEWS = {
    "sketchy": (
        {"sketch": ["openmoji_line"], "photo": ["fluent_3d"]},
        "Sketchy pairs careful line drawings with photographs of the same things: clean line art against shaded 3-D renders.",
    ),
    "tuberlin": (
        {"sketch": ["noto_line"], "photo": ["twemoji", "emojione_v1"]},
        "TU-Berlin's photographs come from several sources and are unbalanced: two colour sets of different size and age.",
    ),
    "quickdraw": (
        {"sketch": ["doodle"], "photo": ["fluent_3d", "noto"]},
        "QuickDraw-Extended has the widest gap: hasty, simplified doodles, several of each thing, against the largest gallery.",
    ),
    "domainnet": (
        {"real": ["fluent_3d"], "sketch": ["noto_line"], "quickdraw": ["doodle"], "painting": ["noto_v1"],
         "infograph": ["emojione_mono"], "clipart": ["twemoji"]},
        "DomainNet has six unlike domains: six sets by different hands, in the order of its domains' distance from Real.",
    ),
}


def emoji(view: str | None = None) -> Manifest:
    """EmojiDomains, the embedded data set: 70 classes of emoji art in nine domains, 96 x 96 px.

    `view` names the analogue of a paper's data set (`EMOJI_VIEWS`).  Raises DataError for an unknown view.
    """
    whole = _whole_emoji()
    if view is None:
        return whole
    if view not in EMOJI_VIEWS:
        raise DataError(f"emoji has no view {view!r}; it has {', '.join(EMOJI_VIEWS)}")
    return whole.view(f"emoji-{view}", EMOJI_VIEWS[view][0])


@lru_cache(maxsize=1)
def _whole_emoji() -> Manifest:
    pack = paths.PACKAGE / "data" / "emoji_domains" / "emoji.zip"
    with zipfile.ZipFile(pack) as members:
        names = sorted(members.namelist())
    domain, class_name = zip(*(name.split("/")[:2] for name in names))
    return Manifest("emoji", pack, pd.DataFrame({"path": names, "class_name": class_name, "domain": domain}))


def folders(root: Path | str) -> Manifest:
    """Own pictures laid out as `<domain>/<class>/<image file>`.

    Hidden files and files that are no images are left out.  Raises DataError where the folder is missing or holds no image.
    """
    root = Path(root).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; --data-root must name one laid out as <domain>/<class>/<image file>")
    found = []
    for path in sorted(root.glob("*/*/*")):
        parts = path.relative_to(root).parts
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not any(part.startswith(".") for part in parts):
            found.append(("/".join(parts), parts[1], parts[0]))
    return Manifest("folders", root, pd.DataFrame(found, columns=["path", "class_name", "domain"]))


def load(dataset: str, data_root: Path | str | None = None) -> Manifest:
    """The data set of this name: `emoji`, `emoji-<view>`, `folders` with its root, or a published one ($UCDR_DATA/name, or its root).

    Raises DataError for any other, and for one that is not there.
    """
    if dataset in published.PUBLISHED:
        return images.readable(published.load(dataset, data_root))
    if dataset == "folders":
        if data_root is None:
            raise DataError("data set 'folders' needs --data-root, a folder laid out as <domain>/<class>/<image file>")
        return images.readable(folders(data_root))
    if dataset == "emoji":
        return emoji()
    if dataset.startswith("emoji-"):
        return emoji(dataset.removeprefix("emoji-"))
    raise DataError(f"unknown data set {dataset!r}; known: {', '.join(names())}")


def names() -> list[str]:
    return ["emoji", *(f"emoji-{view}" for view in EMOJI_VIEWS), "folders", *published.PUBLISHED]
