"""The model that readers search with, on the doodle page and in folders of their own: SnMpNet on all nine domains of the embedded data."""
from __future__ import annotations

from ..runs import TrainSpec
from . import Cell, Row, Table
from .embedded import DEFAULTS, MARKS, defaults

DOMAINS = {  # who asks in the table, as a reader would say it
    "doodle": "hasty doodles", "openmoji_line": "line drawings", "noto_line": "bold line drawings", "emojione_mono": "silhouettes", "noto_v1": "flat art",
    "twemoji": "clip art"}
ALL = ("doodle", "emojione_mono", "emojione_v1", "fluent_3d", "noto", "noto_line", "noto_v1", "openmoji_line", "twemoji")
GALLERY = "fluent_3d"


def spec(method: str = "snmpnet", seed: int = 0) -> TrainSpec:
    """One run: nine domains, 45 classes trained on, the others unseen; the same recipe as in all of tier E."""
    return TrainSpec.from_mapping({"method": method, "dataset": "emoji", "train_domains": list(ALL), "gallery_domain": GALLERY, "gallery_held_out": 0.25,
                                   "seed": seed, **defaults(method)})


def asked() -> Table:
    """What the model is good for: drawings of unseen classes in trained domains, against what the trunk gives untrained."""
    rows = tuple(
        Row(DEFAULTS[method].label, tuple(Cell((spec(method),), f"uccdr:{domain}:unseen", "map_all") for domain in DOMAINS), mark=MARKS.get(method, ""))
        for method in ("chance", "frozen", "frozen_centred", "snmpnet"))
    return Table("search", "asked", "Unseen classes, asked in a style that was trained on, against 3-D emoji (Fluent). mAP@all, one seed.",
                 tuple(("", title) for title in DOMAINS.values()), rows)


TABLES = {"asked": asked}
CLAIMS: dict = {}


def figure_specs() -> list[TrainSpec]:
    return [spec()]
