"""Several processes that train together give what one gives at the same batch."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ucdr_core import data, device
from ucdr_core.evidence.store import Store
from ucdr_core.methods import OptionError
from ucdr_core.training import features
from ucdr_core.training.batches import Batches
from ucdr_core.training.loop import Recipe, Stepper
from ucdr_core.training.prepare import prepare
from ucdr_core.training.spec import TrainSpec


@pytest.fixture
def vgg(small, tmp_path, monkeypatch):
    """Values of a spec whose trunk is trained from pixels, without batch normalisation, which needs GPUs to be
    shared.
    """
    torch.manual_seed(0)
    import torchvision

    torch.save(torchvision.models.vgg16(weights=None).features.state_dict(), tmp_path / "vgg.pt")
    state = {f"features.{name}": value for name, value in torch.load(tmp_path / "vgg.pt", weights_only=True).items()}
    torch.save(state, tmp_path / "vgg.pt")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return {
        **small,
        "backbone": "vgg16",
        "weights": str(tmp_path / "vgg.pt"),
        "regime": "last-blocks",
        "precision": "float64",
        "recipe": {**small["recipe"], "lr": 1e-4, "epochs": 2, "batch_size": 10, "selection": "last"},
    }


@pytest.mark.parametrize("method", ["snmpnet", "doodle"])  # mixing across the batch; triplets through two networks
def test_two_processes_train_as_one(vgg, method):
    """A batch of 10 or 12 samples on 2 processes: mixing partners and triplets lie in both halves."""
    one, two = (
        Store().make(TrainSpec.from_mapping({**vgg, "method": method, "world_size": n}), progress=False) for n in (1, 2)
    )
    assert one.key != two.key
    for a, b in zip(one.log, two.log):
        assert a == pytest.approx(b, rel=1e-9)
    rows = np.arange(20)
    np.testing.assert_allclose(two.embeddings(rows), one.embeddings(rows), rtol=1e-6)
    for evaluation in one.evaluations:
        assert two.scores(evaluation) == pytest.approx(one.scores(evaluation), abs=1e-6)


def test_shares_cover_the_batch_and_the_last_is_filled_up(monkeypatch):
    monkeypatch.setattr(device, "world", lambda: 3)
    shares = []
    for number in range(3):
        monkeypatch.setattr(device, "process_number", lambda number=number: number)
        shares.append(device.rows_of_process(7))
    assert [len(rows) for rows in shares] == [3, 3, 3]
    assert np.concatenate(shares).tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"world_size": 0}, "must be in .1, 1024."),
        ({"world_size": 2, "regime": "frozen"}, "trains none"),
        ({"world_size": 2, "method": "frozen"}, "trains none"),
        ({"pixels": "unit"}, "is for regime 'finetune'"),
    ],
)
def test_what_cannot_be_shared_is_refused(vgg, change, message):
    with pytest.raises(OptionError, match=message):
        TrainSpec.from_mapping({**vgg, **change})


def test_batch_normalisation_on_several_cpus_is_refused_with_what_to_do(small):
    spec = TrainSpec.from_mapping({**small, "regime": "last-blocks", "world_size": 2})
    with pytest.raises(RuntimeError, match="train this trunk with world_size 1"):
        Store().make(spec, progress=False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("method", ["snmpnet", "cumix", "eisnet", "doodle", "sake", "simple"])
def test_steps_on_a_gpu_never_wait_for_it(small, method):
    """Pixels on the device, augmentation, bfloat16: CUDA refuses whatever synchronises."""
    spec = TrainSpec.from_mapping({**small, "method": method, "regime": "finetune", "precision": "bfloat16"})
    made, feed = prepare(spec, "cuda", False)
    recipe = Recipe(**spec.recipe)
    stepper = Stepper(made, Batches(made, spec.training(), recipe.batch_size), feed, recipe, 0)
    steps = stepper.epoch(0)
    next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_prefetched_pixels_are_those_of_the_rows(tree, monkeypatch):
    """One batch in advance, by another thread, as where the pictures do not fit on the device."""
    source = features.pixels(data.folders(tree), 16, progress=False)
    pixels = features.Pixels(source, "cpu")
    pixels._pool = ThreadPoolExecutor(1)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # needs CUDA
    one, two = np.array([3, 1]), np.array([5])
    pixels.prefetch(one)
    pixels.prefetch(two)
    for rows in (one, two, np.array([3, 1])):
        np.testing.assert_array_equal(pixels[rows].numpy(), source[rows])
    assert not pixels._pending
