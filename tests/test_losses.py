"""Equations against hand-worked numbers, and mixing against its definition."""
import math

import numpy as np
import pytest
import torch

from ucdr_core.losses import Mixing, cosine_logits, draw_mixing, mixed_cross_entropy, mixing_schedule
from ucdr_core.methods.eisnet import queue_triplet_loss
from ucdr_core.methods.snmpnet import neighbourhood_loss

D = torch.float64


def test_cosine_logits():
    f, a = torch.tensor([[3.0, 4.0]], dtype=D), torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]], dtype=D)
    torch.testing.assert_close(cosine_logits(f, a), torch.tensor([[0.6, 0.8, -0.6]], dtype=D))
    torch.testing.assert_close(cosine_logits(f, a, 0.5), torch.tensor([[1.2, 1.6, -1.2]], dtype=D))


def test_mixed_cross_entropy_by_hand():
    """Two samples mixed 3:1 with each other; logits (0, log 3): p = (1/4, 3/4) for both."""
    logits = torch.tensor([[0.0, math.log(3)]] * 2, dtype=D)
    mixing = Mixing(torch.tensor([1, 0]), torch.tensor([0.75, 0.75], dtype=D))
    loss = mixed_cross_entropy(logits, torch.tensor([0, 1]), mixing)
    first = 0.75 * math.log(4) + 0.25 * math.log(4 / 3)
    second = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    assert loss.item() == pytest.approx((first + second) / 2)


def test_an_unmixed_cross_entropy_is_the_usual_one(random):
    logits, labels = torch.tensor(random.standard_normal((6, 4))), torch.tensor([0, 1, 2, 3, 0, 1])
    mixing = Mixing(torch.arange(6), torch.ones(6, dtype=D))
    torch.testing.assert_close(mixed_cross_entropy(logits, labels, mixing), torch.nn.functional.cross_entropy(logits, labels))


@pytest.mark.parametrize("form, expected", [
    # a = (0,0), (3,4), (0,10); own vector (0,0): wanted distances 0, 5, 10; w = 1, e^-1, e^-2 for kappa 2.
    # f = (0,1): distances 1, sqrt(18), 9; differences 1, sqrt(18) - 5, -1.
    ("paper", 1 + (math.exp(-1) * (math.sqrt(18) - 5)) ** 2 + math.exp(-2) ** 2),
    ("code", (1 + math.exp(-1) * (math.sqrt(18) - 5) ** 2 + math.exp(-2)) / 3),
])
def test_neighbourhood_loss_by_hand(form, expected):
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 10.0]], dtype=D)
    loss = neighbourhood_loss(torch.tensor([[0.0, 1.0]], dtype=D), a[:1], a, kappa=2.0, form=form)
    assert loss.item() == pytest.approx(expected)


def test_neighbourhood_loss_is_nothing_at_the_own_vector_and_kappa_0_weights_all_alike():
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 10.0]], dtype=D)
    assert neighbourhood_loss(a.clone(), a, a, kappa=2.0).item() == pytest.approx(0, abs=1e-10)
    loss = neighbourhood_loss(torch.tensor([[0.0, 1.0]], dtype=D), a[:1], a, kappa=0.0)
    assert loss.item() == pytest.approx(1 + (math.sqrt(18) - 5) ** 2 + 1)


def test_neighbourhood_gradient_is_finite_on_a_class_vector():
    a = torch.eye(3, dtype=D)
    f = a[:1].clone().requires_grad_()
    neighbourhood_loss(f, a[:1], a, 2.0).backward()
    assert torch.isfinite(f.grad).all()


def test_mixing_schedule_of_the_published_code():
    """Epochs 0 to 2 within domains, 3 half and half, from 4 on across; Beta(.1, .1) in epoch 0."""
    assert [mixing_schedule(e, 1.0, 2) for e in range(6)] == [(0.1, 1), (0.5, 1), (1, 1), (1, 0.5), (1, 0), (1, 0)]
    assert [mixing_schedule(e, 2.0, 2)[0] for e in range(3)] == [0.1, 1, 2]
    assert mixing_schedule(0, 1.0, 0) == (1.0, 0.0)


def test_mixing_partners_come_from_the_domains_that_gamma_says(random):
    domains = torch.arange(3).repeat_interleave(50)
    for gamma, same in ((1.0, 1.0), (0.0, 0.0), (0.5, 0.5)):
        mixing = draw_mixing(domains, 1.0, gamma, random, D)
        share = (domains[mixing.partner] == domains).double().mean().item()
        assert share == pytest.approx(same, abs=0 if gamma != 0.5 else 0.12)
        assert 0 <= mixing.r.min() and mixing.r.max() <= 1
    across = draw_mixing(domains, 1.0, 0.0, random, D)
    for d in range(3):  # one cyclic shift for the whole batch
        assert len(set(domains[across.partner][domains == d].tolist())) == 1
    with pytest.raises(ValueError, match="equal blocks"):
        draw_mixing(torch.tensor([0, 0, 1]), 1.0, 0.0, random, D)


def test_mixing_of_values():
    mixing = Mixing(torch.tensor([1, 0]), torch.tensor([0.75, 0.5], dtype=D))
    torch.testing.assert_close(mixing.of(torch.tensor([[4.0], [8.0]], dtype=D)), torch.tensor([[5.0], [6.0]], dtype=D))


def test_queue_triplet_by_hand():
    """Unit vectors: positive at squared distance 2, negatives at 2.8 (semi-hard), 0.4 (too hard) and 4 (beyond the margin of 1)."""
    def unit(squared_distance):
        c = 1 - squared_distance / 2
        return [c, math.sqrt(1 - c * c)]

    anchors = torch.tensor([[1.0, 0.0]], dtype=D)
    keys = torch.tensor([unit(2.0), unit(2.8), unit(0.4), unit(4.0)], dtype=D)
    loss = queue_triplet_loss(anchors, torch.tensor([0]), keys, torch.tensor([0, 1, 1, 1]), margin=1.0, negatives=4)
    assert loss.item() == pytest.approx(2.0 - 2.8 + 1.0)


def test_queue_triplet_without_a_positive_or_a_semi_hard_negative_is_zero():
    anchors, keys = torch.tensor([[1.0, 0.0]], dtype=D), torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=D)
    assert queue_triplet_loss(anchors, torch.tensor([0]), keys, torch.tensor([1, -1]), 2.0, 4).item() == 0
    assert np.isclose(queue_triplet_loss(anchors, torch.tensor([0]), keys, torch.tensor([0, 0]), 2.0, 4).item(), 0)
