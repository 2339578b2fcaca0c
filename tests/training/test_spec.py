"""What a value that came later does to the names of runs."""

from dataclasses import replace

import torch

from ucdr_core.chapters.tiers import tier_of
from ucdr_core.data import protocols
from ucdr_core.evidence import committed
from ucdr_core.training.prepare import build
from ucdr_core.training.spec import TrainSpec


def test_runs_that_do_not_ask_for_a_later_value_keep_their_names():
    for method in ("chance", "frozen"):
        spec = tier_of("embedded").spec(method, "sketchy")
        assert committed.find(spec.key) is not None  # made before there was such a value
        assert replace(spec, samples_left_out=0.2).key != spec.key


def test_samples_left_out_reach_the_training_and_its_first_stage():
    values = {"dataset": "emoji-sketchy", "samples_left_out": 0.2}
    spec = TrainSpec.from_mapping({"method": "cvae", "features": {"method": "simple"}, **values})
    for one in (spec, spec.features_spec()):
        trained = one.training()
        asked = protocols.Evaluation("gzs_sbir", "sketch", "seen+unseen", reading="samples")
        task = protocols.task_of(trained, asked)
        assert len(trained.left_out_samples) and not {*task.query, *task.gallery} & set(trained.train)
        assert asked in one.evaluations()


def test_unseen_names_do_not_reach_a_method_that_knows_the_seen_ones_alone():
    def vectors(**options):
        options = {"weight_calibration": 0.0, "positions": 1, **options}
        spec = TrainSpec.from_mapping({"method": "stl", "options": options})
        return build(spec, spec.training(), torch.nn.Sequential(), 8, None).class_vectors

    assert not torch.equal(vectors(names="seen"), vectors(names="all"))  # centred without the unseen ones
    seen = TrainSpec.from_mapping({"method": "cumix"})
    alone = build(seen, seen.training(), torch.nn.Sequential(), 8, None).class_vectors
    assert torch.allclose(vectors(names="seen"), alone)
