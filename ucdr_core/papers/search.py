"""The model that readers search with, on the doodle page and in folders of their own: SnMpNet on all six domains of the analogue of DomainNet."""
from __future__ import annotations

from ..runs import TrainSpec
from . import Cell, Row, Table
from .embedded import DEFAULTS, MARKS, defaults

DOMAINS = {  # who asks in the table, as a reader would say it
    "quickdraw": "hasty doodles", "sketch": "bold line drawings", "infograph": "silhouettes", "painting": "flat art", "clipart": "clip art"}
GALLERY = "real"  # 3-D renders


def spec(method: str = "snmpnet", seed: int = 0) -> TrainSpec:
    """One run: six domains, 45 classes trained on, the others unseen; the same recipe as in all of tier E."""
    return TrainSpec.from_mapping({"method": method, "dataset": "emoji-domainnet", "train_domains": [*DOMAINS, GALLERY], "gallery_domain": GALLERY,
                                   "gallery_held_out": 0.25, "seed": seed, **defaults(method)})


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
