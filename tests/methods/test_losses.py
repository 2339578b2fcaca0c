"""Equations against hand-worked numbers, and mixing against its definition."""

import math

import numpy as np
import pytest
import torch

from ucdr_core.methods.eisnet import queue_triplet_loss
from ucdr_core.methods.losses import (
    Mixing,
    adversarial_terms,
    classification_loss,
    cosine_distance,
    cosine_logits,
    cosine_loss,
    draw_latents,
    draw_mixing,
    dropout,
    kl_to_standard_normal,
    least_squares_game,
    mixed_cross_entropy,
    mixing_schedule,
    reverse_gradient,
    triplet_loss,
)
from ucdr_core.methods.snmpnet import neighbourhood_loss
from ucdr_core.methods.stl import STL, calibration_loss, photo_triplets
from ucdr_core.methods.strad import reconstruction

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
    torch.testing.assert_close(
        mixed_cross_entropy(logits, labels, mixing), torch.nn.functional.cross_entropy(logits, labels)
    )


@pytest.mark.parametrize(
    "form, expected",
    [
        # a = (0,0), (3,4), (0,10); own vector (0,0): wanted distances 0, 5, 10; w = 1, e^-1, e^-2 for kappa 2.
        # f = (0,1): distances 1, sqrt(18), 9; differences 1, sqrt(18) - 5, -1.
        ("paper", 1 + (math.exp(-1) * (math.sqrt(18) - 5)) ** 2 + math.exp(-2) ** 2),
        ("code", (1 + math.exp(-1) * (math.sqrt(18) - 5) ** 2 + math.exp(-2)) / 3),
    ],
)
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
        mixing = draw_mixing(domains, 1.0, gamma, random, torch.zeros(1, dtype=D))
        share = (domains[mixing.partner] == domains).double().mean().item()
        assert share == pytest.approx(same, abs=0 if gamma != 0.5 else 0.12)
        assert 0 <= mixing.r.min() and mixing.r.max() <= 1
    across = draw_mixing(domains, 1.0, 0.0, random, torch.zeros(1, dtype=D))
    for d in range(3):  # one cyclic shift for the whole batch
        assert len(set(domains[across.partner][domains == d].tolist())) == 1
    with pytest.raises(ValueError, match="equal blocks"):
        draw_mixing(torch.tensor([0, 0, 1]), 1.0, 0.0, random, torch.zeros(1, dtype=D))


def test_mixing_of_values():
    mixing = Mixing(torch.tensor([1, 0]), torch.tensor([0.75, 0.5], dtype=D))
    torch.testing.assert_close(mixing.of(torch.tensor([[4.0], [8.0]], dtype=D)), torch.tensor([[5.0], [6.0]], dtype=D))


def test_queue_triplet_by_hand():
    """Unit vectors: positive at squared distance 2, negatives at 2.8 (semi-hard), 0.4 (too hard) and 4 (beyond the
    margin of 1).
    """

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


def test_unfilled_keys_of_the_queue_are_no_negatives():
    """Positive at 0, one negative at squared distance 1: violation 3 - 1 = 2.  The zero key, at distance 2, would add a
    violation of 1 and make the mean 1.5.
    """
    anchors = torch.tensor([[1.0, 0.0]], dtype=D)
    keys = torch.tensor([[1.0, 0.0], [0.5, math.sqrt(0.75)], [0.0, 0.0]], dtype=D)
    key_labels = torch.tensor([0, 1, -1])
    assert queue_triplet_loss(anchors, torch.tensor([0]), keys, key_labels, 3.0, 4).item() == pytest.approx(2.0)
    only_unfilled = queue_triplet_loss(anchors, torch.tensor([0]), keys[[0, 2]], key_labels[[0, 2]], 3.0, 4)
    assert only_unfilled.item() == 0


def test_an_anchor_whose_own_key_rounds_below_distance_0_counts():
    """Its only key of the class is its copy, at 2 - 2 (1 + 2^-52)^2 < 0, at 0, and a little above; a negative stands at
    squared distance 1, so that the violation is 2 - 1 = 1 each time.
    """
    for length in (1 + 2**-52, 1.0, 1 - 2**-53):
        anchors = torch.tensor([[length, 0.0]], dtype=D)
        keys = torch.tensor([[length, 0.0], [0.5, math.sqrt(0.75)]], dtype=D)
        loss = queue_triplet_loss(anchors, torch.tensor([0]), keys, torch.tensor([0, 1]), 2.0, 4)
        assert loss.item() == pytest.approx(1.0), length


# ----------------------------------------------------------------------------------------------------- Doodle to Search


def test_triplet_loss_by_hand():
    """Margin 1: 1 + 0.5 - 2 < 0, 1 + 2 - 1.5 = 1.5."""
    assert triplet_loss(torch.tensor([0.5, 2.0]), torch.tensor([2.0, 1.5]), 1.0).item() == pytest.approx(0.75)


def test_cosine_distance_by_hand():
    u, v = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=D), torch.tensor([[1.0, 0.0], [-2.0, 0.0]], dtype=D)
    torch.testing.assert_close(cosine_distance(u, v), torch.tensor([0.4, 2.0], dtype=D))


def test_cosine_loss_and_classification_loss_by_hand():
    """Cosine distances 0.4 and 2; cross-entropies log 2 of equal logits and log(4 / 3) of logits (0, log 3)."""
    u, v = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=D), torch.tensor([[1.0, 0.0], [-2.0, 0.0]], dtype=D)
    assert cosine_loss(u, v).item() == pytest.approx(1.2)
    features = torch.zeros(1, 2, dtype=D), torch.tensor([[0.0, math.log(3)]], dtype=D)
    loss = classification_loss(torch.nn.Identity(), torch.tensor([1]), *features)
    assert loss.item() == pytest.approx(math.log(2) + math.log(4 / 3))


def test_the_terms_of_several_games_are_their_sums():
    critic = torch.nn.Linear(2, 1).double()
    u, v = torch.rand(3, 2, dtype=D), torch.rand(3, 2, dtype=D)
    terms = adversarial_terms(0.5, (critic, u, v), (critic, v, u))
    one, other = least_squares_game(critic, u, v), least_squares_game(critic, v, u)
    assert terms["adversarial"].item() == pytest.approx(0.5 * (one[0] + other[0]).item())
    assert terms["critics"].item() == pytest.approx((one[1] + other[1]).item())


def test_latents_have_the_given_mean_and_spread(random):
    """mu = 3, sigma = 0.5; d z / d mu = 1."""
    mean = torch.full((20_000, 1), 3.0, dtype=D, requires_grad=True)
    z = draw_latents(mean, torch.full_like(mean, 2 * math.log(0.5)), random)
    assert z.mean().item() == pytest.approx(3, abs=0.02) and z.std().item() == pytest.approx(0.5, abs=0.02)
    z.sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones_like(mean))


def test_gradient_reversal():
    x = torch.tensor([1.0, -2.0], dtype=D, requires_grad=True)
    y = reverse_gradient(x, 0.5)
    torch.testing.assert_close(y, x)
    (y * torch.tensor([3.0, 5.0], dtype=D)).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([-1.5, -2.5], dtype=D))


def test_dropout_keeps_the_mean_and_its_share(random):
    x = torch.ones(200, 200, dtype=D)
    out = dropout(x, 0.25, random)
    assert set(out.unique().tolist()) == {0.0, 1 / 0.75}
    assert out.mean().item() == pytest.approx(1, abs=0.02) and (out == 0).double().mean().item() == pytest.approx(
        0.25, abs=0.02
    )
    assert dropout(x, 0.0, random) is x


# ----------------------------------------------------------------------------------------------------------------- STL


def test_calibration_loss_by_hand():
    """Two seen, two unseen classes, margin 0.01: 0.01 + 0.5 - 0.2 and 0 (0.6 is more than 0.01 above 0.2)."""
    p = torch.tensor([[0.5, 0.1, 0.2, 0.2], [0.2, 0.1, 0.6, 0.1]], dtype=D)
    assert calibration_loss(p, seen=2, margin=0.01).item() == pytest.approx(0.31 / 2)


def test_prototype_probabilities_by_hand():
    """zeta and W the identity: v = (1, 0) against e = (1, 0), (0, 2), (-3, 0): cosines 1, 0, -1, scaled by lambda = 2
    and gamma = 3.
    """
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]], dtype=D)
    method = STL(
        torch.nn.Sequential(),
        4,
        vectors[:2],
        STL.Options(dim=2, prototype_dim=2, hidden=4, positions=1, scale=2.0, temperature=3.0),
        vectors[2:],
    ).double()
    with torch.no_grad():
        method.zeta.weight.copy_(torch.eye(2))
        method.zeta.bias.zero_()
        method.prototype.weight.copy_(torch.eye(2))
    p = method.log_probabilities(torch.tensor([[5.0, 0.0]], dtype=D)).exp()[0]
    expected = np.exp([6.0, 0.0, -6.0])
    np.testing.assert_allclose(p.detach(), expected / expected.sum())


def test_photo_triplets_are_what_they_should_be(random):
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    a, p, n = photo_triplets(labels, random)
    assert a.tolist() == [0, 1, 3, 4, 5]  # the only photo of class 1 has no mate
    assert (a != p).all() and (labels[a] == labels[p]).all() and (labels[a] != labels[n]).all()
    assert all(len(part) == 0 for part in photo_triplets(torch.tensor([3, 3, 3]), random))


# --------------------------------------------------------------------------------------------------------------- STRAD


def test_kl_by_hand():
    """mu = (1, 0), sigma^2 = (1, e): 1/2 and (e - 1 - 1) / 2."""
    kl = kl_to_standard_normal(torch.tensor([[1.0, 0.0]], dtype=D), torch.tensor([[0.0, 1.0]], dtype=D))
    assert kl.item() == pytest.approx(0.5 + (math.e - 2) / 2)
    normal = torch.distributions.Normal
    independent = torch.distributions.kl_divergence(
        normal(torch.tensor([1.0, 0.0]), torch.tensor([1.0, math.exp(0.5)])), normal(0.0, 1.0)
    ).sum()
    assert kl.item() == pytest.approx(independent.item(), rel=1e-6)


def test_reconstruction_by_hand():
    made, target = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=D), torch.zeros(2, 2, dtype=D)
    assert reconstruction(made, target, "paper").item() == pytest.approx(2.5, abs=1e-5)
    assert reconstruction(made, target, "code").item() == pytest.approx(25 / 4)
