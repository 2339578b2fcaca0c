"""A method may name weights that SGD trains beside the recipe's optimiser: SEM-PCYC's critics and auto-encoder."""

import pytest
import torch

from ucdr_core.options import from_mapping
from ucdr_core.training.batches import Batches
from ucdr_core.training.loop import Recipe, Stepper, Together, fit
from ucdr_core.training.prepare import prepare
from ucdr_core.training.spec import TrainSpec


@pytest.fixture
def spec(small):
    recipe = {**small["recipe"], "selection": "last"}
    return TrainSpec.from_mapping({**small, "method": "sem_pcyc", "regime": "frozen", "recipe": recipe})


def trained(spec, epochs, **how):
    method, feed = prepare(spec, progress=False)
    recipe = from_mapping(Recipe, {**spec.recipe, "epochs": epochs}, "recipe")
    log = fit(method, spec.training(), feed, recipe, spec.seed, progress=False, **how)
    return method.state_dict(), log


def test_each_optimiser_moves_its_own_weights_at_its_own_rate(spec):
    method, feed = prepare(spec, progress=False)
    recipe = from_mapping(Recipe, spec.recipe, "recipe")
    stepper = Stepper(method, Batches(method, spec.training(), recipe.batch_size), feed, recipe, spec.seed)
    before = {name: value.detach().clone() for name, value in method.named_parameters()}
    next(stepper.epoch(0))
    for name, value in method.named_parameters():
        moved = before[name] - value.detach()
        if name.startswith("classifiers"):
            assert not moved.any()
        elif name.startswith(("critics", "compress", "restore")):
            rate = recipe.lr * (1 if name.startswith("critics") else 100)
            torch.testing.assert_close(moved, rate * value.grad, atol=1e-7, rtol=1e-4)
        elif name.endswith("weight"):  # Adam's first step is its rate, whatever the gradient's length
            assert moved.abs().max().item() == pytest.approx(recipe.lr, rel=1e-2), name
    assert isinstance(stepper.optimiser, Together)
    of_all = TrainSpec.from_mapping({**spec.mapping(), "options": {"critic_optimiser": "recipe"}})
    method, feed = prepare(of_all, progress=False)
    assert isinstance(Stepper(method, stepper.batches, feed, recipe, 0).optimiser, torch.optim.Adam)


def test_a_training_that_was_cut_off_goes_on_with_both(spec, tmp_path):
    whole, whole_log = trained(spec, 2)
    state = tmp_path / "state.pt"
    trained(spec, 1, state_file=state, checkpoint_seconds=0)
    assert len(torch.load(state, weights_only=True)["optimiser"]["optimisers"]) == 2
    resumed, log = trained(spec, 2, state_file=state, checkpoint_seconds=0)
    assert log == whole_log and len(log) == 2
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
