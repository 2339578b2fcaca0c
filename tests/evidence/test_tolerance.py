"""What two runs may differ by: the floor, a multiple of what was measured, and the first epoch of what is chaotic."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from ucdr_core.chapters.systems import SYSTEMS
from ucdr_core.evidence import tolerance


@dataclass
class Run:
    score: float
    log: list = field(default_factory=lambda: [{"epoch": 0, "loss_ce": 2.0, "val_map_all": 0.5}])
    method: str = "snmpnet"
    precision: str = "float64"
    evaluations: tuple = ("zs_sbir:sketch:unseen",)

    @property
    def spec(self):
        return SimpleNamespace(method=self.method, precision=self.precision)

    def scores(self, _):
        return {"map_all": self.score}


@pytest.fixture
def table(monkeypatch):
    lines = [
        {"system": "SnMpNet", "method": "snmpnet", "view": "sketchy", "scores": 1e-6, "first": 1e-13},
        {"system": "SaN", "method": "san", "view": "sketchy", "scores": 0.02, "first": 1e-12},
    ]
    monkeypatch.setattr(tolerance, "measured", lambda: lines)


def test_ten_times_what_was_measured_and_at_least_the_digits_of_the_evidence(table):
    assert tolerance.tolerance_of("snmpnet").scores == pytest.approx(1e-5)
    assert tolerance.tolerance_of("frozen").scores == tolerance.FLOOR
    assert tolerance.compare(Run(0.5), Run(0.5 + 9e-6)) == []
    assert "0.500000, evidence 0.500011" in tolerance.compare(Run(0.5), Run(0.500011))[0]


def test_a_chaotic_system_may_move_but_not_in_its_first_epoch(table):
    assert tolerance.tolerance_of("san").chaotic
    assert tolerance.compare(Run(0.5, method="san"), Run(0.53, method="san")) == []
    assert tolerance.compare(Run(0.5, method="san"), Run(0.55, method="san"))
    flipped = Run(0.5, [{"epoch": 0, "loss_ce": -2.0, "val_map_all": 0.5}], "san")
    assert "first epoch, loss_ce" in tolerance.compare(flipped, Run(0.5, method="san"))[0]


def test_another_number_of_epochs_and_a_missing_score_are_differences(table):
    longer = Run(0.5, [{"epoch": 0, "loss_ce": 2.0, "val_map_all": 0.5}] * 2)
    assert tolerance.compare(longer, Run(0.5)) == ["2 epochs, evidence 1"]
    assert tolerance.compare(Run(float("nan")), Run(0.5))
    assert tolerance.compare(Run(0.5, log=[]), Run(0.5))[-1] == "there is no log"


def test_single_precision_is_compared_more_widely(table):
    assert tolerance.compare(Run(0.5, precision="float32"), Run(0.53, precision="float32")) == []
    assert tolerance.compare(Run(0.5, precision="float32"), Run(0.6, precision="float32"))


def test_every_system_was_measured_with_three_sizes_and_two_instruction_sets():
    lines = tolerance.measured()
    for label in SYSTEMS:
        of_system = [line for line in lines if line["system"] == label and line["view"] == "sketchy"]
        assert {line["size"] for line in of_system} >= set(tolerance.SIZES), label
        assert {line["instructions"] for line in of_system} >= {"AVX2", "oldest"}, label
    chaotic = [label for label in SYSTEMS if tolerance.tolerance_of(SYSTEMS[label].method).chaotic]
    assert chaotic == ["SaN", "ZSIH", "CVAE"]
