"""The model that readers search with, on the doodle page and in folders of their own: SnMpNet on all six domains of
DomainNet."""

from __future__ import annotations

from ucdr_core.chapters.systems import DEFAULTS, MARKS
from ucdr_core.chapters.tiers import Tier, tier_of
from ucdr_core.evidence.rows import METRIC_TITLES, Cell, Row, Table
from ucdr_core.training.spec import TrainSpec

DOMAINS = {  # who asks in the table, as a reader would say it
    "quickdraw": "hasty doodles",
    "sketch": "bold line drawings",
    "infograph": "silhouettes",
    "painting": "flat art",
    "clipart": "clip art",
}
GALLERY = "real"  # 3-D renders


def reader_spec(method: str = "snmpnet", tier: Tier | str = "embedded") -> TrainSpec:
    """One run: six domains, 45 classes trained on, the others unseen; the same recipe as everywhere."""
    spec = tier_of(tier).spec(method, "domainnet", domains=(*DOMAINS, GALLERY))
    assert spec is not None
    return spec


def asked(tier: Tier) -> Table:
    """What the model is good for: drawings of unseen classes in trained domains, against what the trunk gives
    untrained."""
    there = tier.same_terms or "quickdraw" in tier.domains("domainnet")
    rows = tuple(
        Row(
            DEFAULTS[method].label,
            tuple(
                Cell((reader_spec(method, tier),) if there else (), f"uccdr:{domain}:unseen", tier.metric("map_200"))
                for domain in DOMAINS
            ),
            mark=MARKS.get(method, ""),
        )
        for method in ("chance", "frozen", "frozen_centred", "snmpnet")
    )
    return Table(
        "search",
        "asked",
        "Unseen classes, asked in a style that was trained on, against 3-D emoji (Fluent). "
        f"{METRIC_TITLES[tier.metric('map_200')]}, one seed.",
        tuple(("", title) for title in DOMAINS.values()),
        rows,
    )


TABLES = {"asked": asked}
CLAIMS: dict = {}
FIGURES: dict = {}


def figure_runs(tier: Tier) -> list[TrainSpec]:
    return []
