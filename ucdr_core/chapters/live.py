"""The runs that notebooks make or need with their weights, since no committed array stands for a model."""

from __future__ import annotations

from ucdr_core.chapters.search import reader_spec
from ucdr_core.chapters.stl import rows as stl
from ucdr_core.chapters.stl.figures import CALIBRATED
from ucdr_core.chapters.strad import rows as strad
from ucdr_core.chapters.tiers import tier_of
from ucdr_core.training.spec import TrainSpec


def live_runs() -> list[TrainSpec]:
    """Smoke runs of the method pages, the run notebook's, the reader's model, and the models of the explorers; those
    that feed first."""
    tier = tier_of("embedded")
    specs = [
        tier.runs("snmpnet", "domainnet", held_out="sketch", recipe={"epochs": 3})[0],
        tier.runs("doodle", "quickdraw", recipe={"epochs": 2})[0],
        stl.runs_of(tier, "sketchy", recipe={"epochs": 2})[0],
        strad.strad(tier, "sketchy", recipe={"epochs": 3})[0],
        TrainSpec.from_mapping({"method": "cumix", "recipe": {"epochs": 2}}),
        reader_spec(),
        tier.runs("snmpnet", "domainnet", held_out="sketch")[0],
        *(stl.runs_of(tier, "sketchy", options)[0] for options in CALIBRATED.values()),
        strad.strad(tier, "sketchy")[0],
    ]
    first_stages = [first for spec in specs if (first := spec.features_spec()) is not None]
    return list({spec.key: spec for spec in (*first_stages, *specs)}.values())
