"""Every method: gradients reach what should learn, one batch can be over-fitted, options are checked, reference rows are what they say."""
import numpy as np
import pytest
import torch
from torch import nn

from ucdr_core.methods import METHODS, Batch, OptionError, from_mapping
from ucdr_core.methods.base import pooled

TRAINED = [name for name, method in METHODS.items() if method.trained]


def make(name, upper=None, channels=24, classes=6, **options):
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    vectors = torch.from_numpy(random.standard_normal((classes, 10)))
    return METHODS[name](upper or nn.Sequential(), channels, vectors, METHODS[name].Options(**options)).double()


def batch(channels=24, classes=6, domains=2, size=12):
    random = np.random.default_rng(1)
    labels = torch.from_numpy(random.integers(0, classes, size))
    centres = random.standard_normal((classes, channels, 1, 1))
    inputs = torch.from_numpy(centres[labels] + 0.1 * random.standard_normal((size, channels, 3, 3)) + 1)
    return Batch(inputs, labels, torch.arange(domains).repeat_interleave(size // domains), inputs.flip(2), torch.from_numpy(random.integers(1, 31, size)))


@pytest.mark.parametrize("name", TRAINED)
def test_every_loss_term_is_finite_and_gradients_reach_what_learns(name):
    method, data, random = make(name), batch(), np.random.default_rng(2)
    for _ in range(3):  # the adapter's first factor learns once its second has left zero
        terms = method.losses(data, 5, random)
        assert all(torch.isfinite(value) for value in terms.values())
        method.zero_grad()
        sum(terms.values()).backward()
        with torch.no_grad():
            for p in method.parameters():
                if p.grad is not None:
                    p -= 1e-3 * p.grad
    unreached = [n for n, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)]
    # Biases inside the attention cancel in its softmax, and reference weights never learn.
    assert [n for n in unreached if not n.startswith("attention.") or not n.endswith("bias")] == []
    assert all(p.grad is None for n, p in method.named_parameters() if n.startswith("slow."))


@pytest.mark.parametrize("name", TRAINED)
def test_one_batch_can_be_over_fitted(name):
    options = {"temperature": 0.1}
    if name == "snmpnet":
        options.update(mixing=False, lambda_sn=0.01)
    method, data, random = make(name, **options), batch(), np.random.default_rng(2)
    optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-2)
    first = None
    for _ in range(150):
        loss = method.losses(data, 0, random)["ce"]
        total = sum(method.losses(data, 0, random).values())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        method.after_step()
        first = first or loss.item()
    with torch.inference_mode():
        f = nn.functional.normalize(method.embed(data.inputs), dim=1)
        nearest = (f @ nn.functional.normalize(method.class_vectors, dim=1).T).argmax(1)
    assert loss.item() < first / 3 and (nearest == data.labels).all()


@pytest.mark.parametrize("name", TRAINED)
def test_trained_upper_part_takes_the_adapters_place(name):
    upper = nn.Sequential(nn.Conv2d(3, 24, 3), nn.BatchNorm2d(24), nn.ReLU())
    method = make(name, upper=upper)
    images = torch.rand(8, 3, 9, 9, dtype=torch.float64)
    data = Batch(images, torch.arange(8) % 6, torch.tensor([0] * 4 + [1] * 4), images, torch.ones(8, dtype=torch.long))
    sum(method.losses(data, 4, np.random.default_rng(0)).values()).backward()
    assert upper[0].weight.grad.abs().sum() > 0
    assert not any("adapter" in n and "slow" not in n for n, _ in method.named_parameters())


def test_snmpnet_switches_change_the_loss():
    data = batch()

    def loss(**options):
        return sum(make("snmpnet", **options).losses(data, 5, np.random.default_rng(0)).values()).item()

    base = loss()
    for change in ({"sn_form": "code"}, {"heads": "serial"}, {"kappa": 0.0}, {"temperature": 0.5}, {"mixing": False}, {"lambda_mp": 0.0}, {"beta": 2.0}):
        assert abs(loss(**change) - base) > 1e-6, change


def test_the_momentum_encoder_follows_slowly():
    method = make("eisnet", momentum=0.9)
    with torch.no_grad():
        method.metric.weight.add_(1)
    before = method.slow["metric"].weight.clone()
    method.after_step()
    torch.testing.assert_close(method.slow["metric"].weight, 0.9 * before + 0.1 * method.metric.weight)


def test_reference_rows():
    maps = torch.rand(5, 7, 3, 3, dtype=torch.float64)
    frozen = make("frozen", channels=7)
    torch.testing.assert_close(frozen.embed(maps), pooled(maps))
    queries, gallery = make("frozen_centred", channels=7).together(np.array([[1.0, 3.0], [3.0, 3.0]]), np.array([[5.0, 5.0]]))
    np.testing.assert_array_equal(queries, [[-1, 0], [1, 0]])
    np.testing.assert_array_equal(gallery, [[0, 0]])
    assert METHODS["frozen_centred"].transductive and not METHODS["frozen"].transductive


@pytest.mark.parametrize("values, message", [
    ({"kapa": 2.0}, "unknown option 'kapa'.*kappa"), ({"kappa": "2"}, "kappa must be float"), ({"mixing": 1}, "mixing must be bool"),
    ({"heads": "both"}, "one of 'parallel', 'serial'"), ({"mixup_step": 2.5}, "mixup_step must be int"), ({"kappa": True}, "kappa must be float"),
    ({"kappa": float("nan")}, "finite"),
])
def test_options_are_checked(values, message):
    with pytest.raises(OptionError, match=message):
        from_mapping(METHODS["snmpnet"].Options, values, "options")


def test_an_int_is_taken_for_a_float():
    assert from_mapping(METHODS["snmpnet"].Options, {"kappa": 4}, "options").kappa == 4.0
