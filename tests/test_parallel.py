"""Several processes that train together give what one gives at the same batch."""
import numpy as np
import pytest
import torch

from ucdr_core import parallel
from ucdr_core.methods import OptionError
from ucdr_core.runs import Store, TrainSpec


@pytest.fixture
def vgg(small, tmp_path, monkeypatch):
    """Values of a spec whose trunk is trained from pixels, without batch normalisation, which needs GPUs to be shared."""
    torch.manual_seed(0)
    import torchvision

    torch.save(torchvision.models.vgg16(weights=None).features.state_dict(), tmp_path / "vgg.pt")
    state = {f"features.{name}": value for name, value in torch.load(tmp_path / "vgg.pt", weights_only=True).items()}
    torch.save(state, tmp_path / "vgg.pt")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return {**small, "backbone": "vgg16", "weights": str(tmp_path / "vgg.pt"), "regime": "last-blocks", "precision": "float64",
            "recipe": {**small["recipe"], "lr": 1e-4, "epochs": 2, "batch_size": 10, "selection": "last"}}


@pytest.mark.parametrize("method", ["snmpnet", "doodle"])  # mixing across the batch; triplets through two networks
def test_two_processes_train_as_one(vgg, method):
    """A batch of 10 or 12 samples on 2 processes: mixing partners and triplets lie in both halves."""
    one, two = (Store().make(TrainSpec.from_mapping({**vgg, "method": method, "world_size": n}), progress=False) for n in (1, 2))
    assert one.key != two.key
    for a, b in zip(one.log, two.log):
        assert a == pytest.approx(b, rel=1e-9)
    rows = np.arange(20)
    np.testing.assert_allclose(two.embeddings(rows), one.embeddings(rows), rtol=1e-6)
    for evaluation in one.evaluations:
        assert two.scores(evaluation) == pytest.approx(one.scores(evaluation), abs=1e-6)


def test_shares_cover_the_batch_and_the_last_is_filled_up(monkeypatch):
    monkeypatch.setattr(parallel, "world", lambda: 3)
    shares = []
    for own in range(3):
        monkeypatch.setattr(parallel, "rank", lambda own=own: own)
        shares.append(parallel.own_rows(7))
    assert [len(rows) for rows in shares] == [3, 3, 3] and np.concatenate(shares).tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1]


@pytest.mark.parametrize("change, message", [
    ({"world_size": 0}, "at least 1"), ({"world_size": 2, "regime": "frozen"}, "trains none"),
    ({"world_size": 2, "method": "frozen"}, "trains none"), ({"pixels": "unit"}, "is for regime 'finetune'")])
def test_what_cannot_be_shared_is_refused(vgg, change, message):
    with pytest.raises(OptionError, match=message):
        TrainSpec.from_mapping({**vgg, **change})


def test_batch_normalisation_on_several_cpus_is_refused_with_what_to_do(small):
    spec = TrainSpec.from_mapping({**small, "regime": "last-blocks", "world_size": 2})
    with pytest.raises(RuntimeError, match="train this trunk with world_size 1"):
        Store().make(spec, progress=False)
