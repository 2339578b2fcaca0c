"""The papers' data sets as their archives unpack: where their pictures stand, how many were published, and where they
come from.

Each loader finds one of several known layouts, gives both halves of a class one name, drops what stands twice, and says
what it left out.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ucdr_core import paths
from ucdr_core.data import splits
from ucdr_core.data.manifest import NO_PICTURE, DataError, Manifest, is_plain, printable, why_left_out
from ucdr_core.data.splits import unified


@dataclass(frozen=True)
class Archive:
    """A file to fetch.

    url       its official address, or ""
    into      where it is unpacked, below the data set's root
    by_hand   what a person must do where there is no address
    """

    name: str
    url: str = ""
    into: str = "."
    by_hand: str = ""


@dataclass(frozen=True)
class Published:
    """What is known of a data set.

    layouts   {domain: patterns of its class folders, relative to the root; the first that has any is taken}
    also      {domain: patterns whose pictures are added where no picture of the same id is there yet}
    counts    {domain: published number of pictures, in the book's layout}
    splits    shipped splits of its classes
    renames   {unified name of a class folder: the class's name}, for misspelt and run-together folders
    """

    title: str
    classes: int
    layouts: dict[str, tuple[str, ...]]
    counts: dict[str, int]
    gallery: str
    splits: tuple[str, ...]
    disk_gb: int
    archives: tuple[Archive, ...]
    also: dict[str, tuple[str, ...]] = field(default_factory=dict)
    renames: dict[str, str] = field(default_factory=dict)
    match_letters: bool = False  # class names of the two halves agree in their letters alone
    note: str = ""


# Six renderings of each Sketchy sketch: the same strokes, placed and scaled otherwise.
RENDERINGS = (
    "tx_000000000000",
    "tx_000100000000",
    "tx_000000000010",
    "tx_000000000110",
    "tx_000000001010",
    "tx_000000001110",
)

DOMAINNET = "http://csr.bu.edu/ftp/visda/2019/multi-source"

PUBLISHED = {
    "sketchy": Published(
        title="Sketchy-Extended",
        classes=125,
        layouts={
            "sketch": (
                "256x256/sketch/{rendering}/*",
                "sketch/{rendering}/*",
                "rendered_256x256/256x256/sketch/{rendering}/*",
                "sketch/*",
            ),
            "photo": (
                "EXTEND_image_sketchy/*",
                "extended_photo/*",
                "256x256/EXTEND_image_sketchy/*",
                "photo/tx_000000000000/*",
                "photo/*",
            ),
        },
        counts={"sketch": 75_481, "photo": 73_002},
        gallery="photo",
        splits=("sketchy_yelamarthi", "sketchy_random25"),
        disk_gb=5,
        archives=(
            Archive(
                "rendered_256x256.7z",
                by_hand="from the project page https://sketchy.eye.gatech.edu/ (rendered sketches and photos, "
                "256x256); unpack so that 256x256/sketch/tx_000000000000/<class>/ is there",
            ),
            Archive(
                "EXTEND_image_sketchy.zip",
                by_hand="the photo extension of Liu et al. (CVPR 2017), linked from the repository "
                "ymcidence/DeepSketchHashing; unpack so that EXTEND_image_sketchy/<class>/ is there",
            ),
        ),
        # The extension already contains the 12,500 photos of the database itself; lists that join both have these
        # twice.
        also={"photo": ("256x256/photo/tx_000000000000/*", "rendered_256x256/256x256/photo/tx_000000000000/*")},
        note="papers print 75,471 and 75,479 sketches; 75,481 were counted in published lists",
    ),
    "tuberlin": Published(
        title="TU-Berlin-Extended",
        classes=250,
        layouts={"sketch": ("png/*", "sketches/*", "sketch/*"), "photo": ("ImageResized/*", "images/*", "photo/*")},
        counts={"sketch": 20_000, "photo": 204_489},
        gallery="photo",
        splits=("tuberlin_random30", "tuberlin_strad64"),
        disk_gb=5,
        archives=(
            Archive(
                "sketches_png.zip", "http://cybertron.cg.tu-berlin.de/eitz/projects/classifysketch/sketches_png.zip"
            ),
            Archive(
                "ImageResized.zip",
                by_hand="the photo extension of Zhang et al. (CVPR 2016), linked from the repositories "
                "ymcidence/DeepSketchHashing and AnjanDutta/sem-pcyc; unpack so that ImageResized/<class>/ is there",
            ),
        ),
        renames={
            "chandeler": "chandelier",
            "griaffe": "giraffe",
            "diamod": "diamond",
            "spidar": "spider",
            "tromobone": "trombone",
            "spacesshuttle": "spaceshuttle",
            "wristwatching": "wristwatch",
        },
        match_letters=True,
        note="some papers print 191,067 photos",
    ),
    "quickdraw": Published(
        title="QuickDraw-Extended",
        classes=110,
        layouts={
            "sketch": ("QuickDraw_sketches_final/*", "QuickDraw_sketches/*", "sketch/*"),
            "photo": ("QuickDraw_images_final/*", "EXTEND_image_quickdraw/*", "photo/*"),
        },
        counts={"sketch": 330_000, "photo": 204_000},
        gallery="photo",
        splits=("quickdraw_extended",),
        disk_gb=12,
        archives=(
            Archive(
                "QuickDraw_sketches_final.zip", "http://datasets.cvc.uab.es/QuickDraw/QuickDraw_sketches_final.zip"
            ),
            Archive("QuickDraw_images_final.zip", "http://datasets.cvc.uab.es/QuickDraw/QuickDraw_images_final.zip"),
        ),
        note="the papers' counts are rounded",
    ),
    "domainnet": Published(
        title="DomainNet, cleaned",
        classes=345,
        layouts={
            domain: (f"{domain}/*", f"DomainNet/{domain}/*")
            for domain in ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
        },
        counts={
            "clipart": 48_129,
            "infograph": 51_605,
            "painting": 72_266,
            "quickdraw": 172_500,
            "real": 172_947,
            "sketch": 69_128,
        },
        gallery="real",
        splits=("domainnet",),
        disk_gb=17,
        archives=tuple(
            Archive(f"{file.split('/')[-1]}.zip", f"{DOMAINNET}/{file}.zip")
            for file in ("groundtruth/clipart", "infograph", "groundtruth/painting", "quickdraw", "real", "sketch")
        ),
        note="clipart and painting of the groundtruth folder are the cleaned ones; project page "
        "http://ai.bu.edu/M3SDA/",
    ),
    "pacs": Published(
        title="PACS",
        classes=7,
        layouts={
            domain: (f"{domain}/*", f"kfold/{domain}/*") for domain in ("art_painting", "cartoon", "photo", "sketch")
        },
        counts={"art_painting": 2_048, "cartoon": 2_344, "photo": 1_670, "sketch": 3_929},
        gallery="photo",
        splits=(),
        disk_gb=1,
        archives=(
            Archive(
                "PACS.zip",
                by_hand="from the authors of Li et al., Deeper, Broader and Artier Domain Generalization (ICCV 2017); "
                "unpack so that photo/<class>/ is there",
            ),
        ),
        note="25 pictures of each class and domain are enough for this book's page",
    ),
}


def load(name: str, root: Path | str | None = None, rendering: str = RENDERINGS[0]) -> Manifest:
    """The published data set under its root, $UCDR_DATA/name by default.

    rendering   of Sketchy's sketches, one of RENDERINGS

    The manifest lists what was left out: pictures that stand twice, folders of no class, files that are no pictures,
    links out of the folder.  Raises DataError where a domain is missing, saying what was looked for.
    """
    known = PUBLISHED[name]
    root = paths.resolved(root) if root else paths.data(name)
    if not root.is_dir():
        raise DataError(f"there is no folder {printable(root)}; {how_to_get(name)}")
    names = _class_names(known)
    left_out: dict[str, list[str]] = defaultdict(list)
    rows: list[tuple[str, str, str]] = []
    for domain, patterns in known.layouts.items():
        patterns = tuple(pattern.format(rendering=rendering) for pattern in patterns)
        folders_of_layouts = (
            [f for f in sorted(root.glob(p)) if f.is_dir() and not _hidden(f, root)] for p in patterns
        )
        folders = next(filter(None, folders_of_layouts), None)
        if folders is None:
            raise DataError(
                f"{root} has no domain {domain!r} of {known.title}: looked for {', '.join(patterns)}; "
                f"{how_to_get(name)}"
            )
        seen: set[tuple[str, str]] = set()
        more = [f for pattern in known.also.get(domain, ()) for f in sorted(root.glob(pattern)) if f.is_dir()]
        for folder in (*folders, *more):
            class_name = names.get(_key(folder.name, known)) if names else folder.name
            if class_name is None or not is_plain(class_name):
                left_out["no class of the data set"].append(str(folder.relative_to(root)))
                continue
            for path in _pictures(folder, root, left_out):
                if more and (class_name, path.stem) in seen:
                    left_out["stands twice"].append(str(path.relative_to(root)))
                    continue
                seen.add((class_name, path.stem))
                rows.append((path.relative_to(root).as_posix(), class_name, domain))
    samples = pd.DataFrame(sorted(rows), columns=["path", "class_name", "domain"])
    return Manifest(name, root, samples, left_out=dict(left_out))


def _pictures(folder: Path, root: Path, left_out: dict[str, list[str]]) -> Iterator[Path]:
    """The pictures of a class folder, which may itself be a link: where a data set is large, its parts lie on several
    disks."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        left_out[f"cannot be opened ({error.strerror})"].append(str(folder.relative_to(root)))
        return
    for entry in entries:
        if reason := NO_PICTURE if entry.name.startswith(".") else why_left_out(entry, root):
            left_out[reason].append(str((folder / entry.name).relative_to(root)))
        else:
            yield folder / entry.name


def _hidden(folder: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in folder.relative_to(root).parts)


def _key(folder: str, known: Published) -> str:
    """What two spellings of a class share: unified separators, or (`match_letters`) the letters outside brackets."""
    if not known.match_letters:
        return unified(folder).lower()
    letters = re.sub(r"[^a-z0-9]", "", re.sub(r"\(.*?\)", "", folder.lower()))
    return known.renames.get(letters, letters)


def _class_names(known: Published) -> dict[str, str]:
    """{key: the class's name in the shipped splits}; empty where none is shipped, and folders name the classes."""
    if not known.splits:
        return {}
    split = splits.load(known.splits[0])
    return {_key(name, known): name for part in (split.train, split.val, split.test) for name in part}


# -------------------------------------------------------------------------------------------------------------- status


def how_to_get(name: str) -> str:
    """One sentence: what `ucdr data download` fetches, and what a person must get."""
    known = PUBLISHED[name]
    by_address = [archive.name for archive in known.archives if archive.url]
    by_hand = [f"{archive.name}: {archive.by_hand}" for archive in known.archives if archive.by_hand]
    parts = [f"`ucdr data download {name}` fetches {', '.join(by_address)}"] if by_address else []
    parts += [f"by hand: {'; '.join(by_hand)}"] if by_hand else []
    return f"{known.title}, about {known.disk_gb} GB: " + "; ".join(parts) + f". $UCDR_DATA is the folder above {name}/"


def status(manifest: Manifest) -> list[str]:
    """What stands there against what was published, as lines to print."""
    known, counts = PUBLISHED[manifest.name], manifest.counts()
    lines = [
        f"{known.title} at {manifest.root}: {len(manifest):,} pictures, {len(manifest.classes)} of {known.classes} "
        f"classes, fingerprint {manifest.fingerprint}"
    ]
    for domain in known.layouts:
        per_class, published = counts.loc[domain], known.counts[domain]
        per_class = per_class[per_class > 0]
        total = int(per_class.sum())
        verdict = "as published" if total == published else f"{total - published:+,} against {published:,} published"
        lines.append(
            f"  {domain:13} {total:8,} pictures in {len(per_class)} classes, {per_class.min()} to {per_class.max()} "
            f"per class: {verdict}"
        )
    classes = {unified(c) for c in manifest.classes}
    for split_name in known.splits:
        split = splits.load(split_name)
        missing = [c for c in (*split.train, *split.val, *split.test) if unified(c) not in classes]
        listed = f"{len(missing)} classes are missing: {', '.join(missing[:8])}"
        lines.append(f"  split {split_name}: {listed if missing else 'all classes are there'}")
    for domain in counts.index:
        if empty := [c for c in manifest.classes if counts.loc[domain, c] == 0]:
            lines.append(f"  {domain} has no picture of {', '.join(empty[:8])}{' ...' if len(empty) > 8 else ''}")
    if known.note:
        lines.append(f"  note: {known.note}")
    return lines
