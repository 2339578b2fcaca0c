"""Data sets, each a function that returns a Manifest."""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path

import pandas as pd

from ucdr_core import paths
from ucdr_core.data import images, published
from ucdr_core.data.manifest import DataError, Manifest, pictures, printable

# The analogue of each paper's data set: {domain of the paper: [emoji sets]}, and why these.
# No view trains on, or searches, a second finish of the drawings that it queries: OpenMoji's lines and the doodles are
# one set of drawings, and Noto's monochrome font redraws Noto's colour set.
EMOJI_VIEWS = {
    "sketchy": (
        {"sketch": ["openmoji_line"], "photo": ["fluent_3d"]},
        "Sketchy pairs careful line drawings with photographs of the same things: clean line art against shaded 3-D "
        "renders.",
    ),
    "tuberlin": (
        {"sketch": ["noto_line"], "photo": ["twemoji", "emojione_v1"]},
        "TU-Berlin's photographs come from several sources and are unbalanced: two colour sets of different size and "
        "age.",
    ),
    "quickdraw": (
        {"sketch": ["doodle"], "photo": ["fluent_3d", "noto"]},
        "QuickDraw-Extended has the widest gap: hasty, simplified doodles, several of each thing, against the largest "
        "gallery.",
    ),
    "domainnet": (
        {
            "real": ["fluent_3d"],
            "sketch": ["noto_line"],
            "quickdraw": ["doodle"],
            "painting": ["noto_v1"],
            "infograph": ["emojione_mono"],
            "clipart": ["twemoji"],
        },
        "DomainNet has six unlike domains: six sets by different hands, in the order of its domains' distance from "
        "Real.",
    ),
}

# Real pictures that may not be redistributed, as folders under $UCDR_DATA: what each is.
SMALL_SETS = {
    "sketchy25": "Sketchy, the first 25 photos and 25 sketches of each of its 125 classes, "
    "<photo|sketch>/<class>/<file>",
}
# Of the pictures that the committed evidence was made of: its runs have their names where the pictures are not, too.
FINGERPRINTS = {"sketchy25": "bff77a5631ab4e10", "pacs": "72be665fd901ecd3"}


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
    try:
        with zipfile.ZipFile(pack) as members:
            names = sorted(members.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{pack} is damaged ({error}); install the package again") from error
    domain, class_name = zip(*(name.split("/")[:2] for name in names))
    return Manifest("emoji", pack, pd.DataFrame({"path": names, "class_name": class_name, "domain": domain}))


def folders(root: Path | str) -> Manifest:
    """Own pictures laid out as `<domain>/<class>/<image file>`.

    Hidden files are passed over; files that are no images, links out of the folder and names that are not UTF-8 are
    left out, and listed by the manifest.  Raises DataError where the folder is missing or holds no image.
    """
    root = paths.resolved(root)
    if not root.is_dir():
        raise DataError(
            f"{printable(root)} is not a folder; --data-root must name one laid out as <domain>/<class>/<image file>"
        )
    found, left_out = pictures(root, depth=3)
    rows = [(path, *reversed(path.split("/")[:2])) for path in sorted(found, key=lambda path: path.split("/"))]
    return Manifest("folders", root, pd.DataFrame(rows, columns=["path", "class_name", "domain"]), left_out=left_out)


def load(dataset: str, data_root: Path | str | None = None) -> Manifest:
    """The data set of one of `names()`, without the files that packing has skipped.

    data_root   of `folders`; of a published or small set in place of $UCDR_DATA/<name>

    Raises DataError for another name, and for a data set that is not there.
    """
    if dataset in published.PUBLISHED:
        return images.readable(published.load(dataset, data_root))
    if dataset in SMALL_SETS:
        root = Path(data_root) if data_root else paths.data(dataset)
        if not root.is_dir():
            raise DataError(
                f"there is no {dataset} at {root}: lay out {SMALL_SETS[dataset]}, and set UCDR_DATA to the folder "
                "above it"
            )
        return images.readable(folders(root))
    if dataset == "folders":
        if data_root is None:
            raise DataError("data set 'folders' needs --data-root, a folder laid out as <domain>/<class>/<image file>")
        return images.readable(folders(data_root))
    if dataset == "emoji":
        return emoji()
    if dataset.startswith("emoji-"):
        return emoji(dataset.removeprefix("emoji-"))
    raise _unknown(dataset)


def names() -> list[str]:
    """Every data set by name, whether it is there or not."""
    return ["emoji", *(f"emoji-{view}" for view in EMOJI_VIEWS), "folders", *SMALL_SETS, *published.PUBLISHED]


def describe(name: str) -> str:
    """What the data set of this name is, in one line.  Raises DataError for a name that is not in `names()`.

    >>> describe("pacs")
    'PACS, 7 classes; domains art_painting, cartoon, photo, sketch'
    """
    if name == "emoji":
        return "EmojiDomains, all nine domains"
    if name == "folders":
        return "own pictures, <domain>/<class>/<image file>"
    if name in SMALL_SETS:
        return SMALL_SETS[name]
    if name in published.PUBLISHED:
        known = published.PUBLISHED[name]
        return f"{known.title}, {known.classes} classes; domains {', '.join(known.layouts)}"
    view = name.removeprefix("emoji-")
    if not name.startswith("emoji-") or view not in EMOJI_VIEWS:
        raise _unknown(name)
    original = published.PUBLISHED[view].title.split(",")[0]
    return f"analogue of {original}, emoji art: {EMOJI_VIEWS[view][1]}"


def _unknown(name: str) -> DataError:
    return DataError(f"unknown data set {name!r}; known: {', '.join(names())}")
