"""`ucdr data`: what there is, whether it is whole, how to get it."""

from __future__ import annotations

from ucdr_core import data
from ucdr_core.data import download, images, published
from ucdr_core.data.manifest import printable

MAX_SIZE_PX = 1024


def add_data(parser) -> None:
    parser.add_argument("action", choices=["list", "status", "download", "pack"])
    parser.add_argument("name", nargs="?", default="emoji", help="data set, for all but list; default: emoji")
    parser.add_argument(
        "--data-root", help="its folder; default $UCDR_DATA/NAME.  For 'folders': one of <domain>/<class>/<image file>"
    )
    parser.add_argument(
        "--size-px",
        type=int,
        default=224,
        help="pack: side of the decoded pictures; a run reads those of its own size_px (default 224, the papers')",
    )
    parser.add_argument(
        "--rehash",
        action="store_true",
        help="status and pack: read every picture again.  Without it one whose size, time of change and time of its "
        "entry (ctime) are as before is taken to be as before; others are read, and decoded where their bytes changed",
    )
    parser.set_defaults(do=_data)


def _data(options) -> None:
    {"list": _list, "status": _status, "download": _download, "pack": _pack}[options.action](options)


def _list(_) -> None:
    for name in data.names():
        print(f"{name:18} {data.describe(name)}")


def _status(options) -> None:
    manifest = data.load(options.name, options.data_root)
    if options.name in published.PUBLISHED:
        print("\n".join(published.status(manifest.base or manifest)))
    else:
        print(
            f"{manifest.name}: {len(manifest)} images, {len(manifest.classes)} classes, fingerprint "
            f"{manifest.fingerprint}, root {printable(manifest.root)}"
        )
        counts = manifest.counts()
        for domain in manifest.domains:
            images_of_class = counts.loc[domain]
            there = images_of_class[images_of_class > 0]
            per_class = f"{there.min()} to {there.max()} per class"
            print(f"  {domain:16} {there.sum():6} images in {len(there)} classes, {per_class}")
    for line in images.notes(manifest, rehash=options.rehash, progress=True):
        print(f"  {line}")


def _download(options) -> None:
    if options.name not in published.PUBLISHED:
        raise data.DataError(
            f"data set {options.name!r} is not one to fetch; those are: {', '.join(published.PUBLISHED)}"
        )
    print("\n".join(download.download(options.name, options.data_root)))


def _pack(options) -> None:
    if not 1 <= options.size_px <= MAX_SIZE_PX:
        raise data.DataError(f"--size-px must lie in [1, {MAX_SIZE_PX}], not {options.size_px}")
    manifest = data.load(options.name, options.data_root)
    whole = manifest.base or manifest
    images.packed(whole, options.size_px, skip_unreadable=True, rehash=options.rehash)
    skipped = images.unreadable(whole)
    print(
        f"{whole.name}: {len(whole) - len(skipped):,} of {len(whole):,} pictures at {options.size_px} px in "
        f"{images.pack_file(whole, options.size_px)}"
    )
    for line in images.notes(whole):
        print(f"  {line}")
