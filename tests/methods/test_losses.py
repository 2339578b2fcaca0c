"""Equations against hand-worked numbers, and mixing against its definition."""

import math

import numpy as np
import pytest
import torch

from ucdr_core.methods.losses import (
    Mixing,
    MixingDraws,
    adversarial_terms,
    classification_loss,
    cosine_distance,
    cosine_logits,
    cosine_loss,
    derangement,
    draw_latents,
    draw_mixing,
    dropout,
    kl_to_standard_normal,
    least_squares_game,
    mixing_schedule,
    one_hot,
    reverse_gradient,
    soft_cross_entropy,
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


def test_the_cross_entropy_of_mixed_samples_by_hand():
    """Two samples mixed 3:1 with each other; logits (0, log 3): p = (1/4, 3/4) for both."""
    logits = torch.tensor([[0.0, math.log(3)]] * 2, dtype=D)
    mixing = Mixing(torch.tensor([1, 0]), torch.tensor([0.75, 0.75], dtype=D))
    loss = soft_cross_entropy(logits, mixing.of_labels(torch.tensor([0, 1]), 2))
    first = 0.75 * math.log(4) + 0.25 * math.log(4 / 3)
    second = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    assert loss.item() == pytest.approx((first + second) / 2)


def test_an_unmixed_cross_entropy_is_the_usual_one(random):
    logits, labels = torch.tensor(random.standard_normal((6, 4))), torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(
        soft_cross_entropy(logits, one_hot(labels, 4, D)), torch.nn.functional.cross_entropy(logits, labels)
    )


def test_shares_of_the_same_class_add_up():
    mixing = Mixing(torch.tensor([1, 2, 0]), torch.tensor([0.75, 0.5, 1.0], dtype=D))
    shares = mixing.of_labels(torch.tensor([2, 2, 0]), 4)
    expected = [[0, 0, 1, 0], [0.5, 0, 0.5, 0], [1, 0, 0, 0]]
    torch.testing.assert_close(shares, torch.tensor(expected, dtype=D))


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
    for form, terms in (("paper", 1), ("code", 3)):
        assert neighbourhood_loss(a.clone(), a, a, 2.0, form).item() == pytest.approx(0, abs=1e-10)
        loss = neighbourhood_loss(torch.tensor([[0.0, 1.0]], dtype=D), a[:1], a, 0.0, form)
        assert loss.item() == pytest.approx((1 + (math.sqrt(18) - 5) ** 2 + 1) / terms)


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
    for d in range(3):  # one other domain for the whole block
        assert len(set(domains[across.partner][domains == d].tolist())) == 1
    with pytest.raises(ValueError, match="equal blocks"):
        draw_mixing(torch.tensor([0, 0, 1]), 1.0, 0.0, random, torch.zeros(1, dtype=D))


def test_a_derangement_is_one_cycle_and_each_is_as_likely(random):
    """Of four domains, 6 cycles through all and never two that swap; by hand from the draws 0, 1, 0: 0123, 1023, 1203,
    3201.
    """
    assert derangement(np.array([0, 1, 0])).tolist() == [3, 2, 0, 1]
    assert derangement(np.array([], int)).tolist() == [0]
    drawn = [tuple(derangement([random.integers(a) for a in range(1, 4)]).tolist()) for _ in range(1200)]
    assert len(set(drawn)) == 6 and min(map(drawn.count, set(drawn))) > 140
    for order in set(drawn):
        assert order[0] != 0 and order[order[0]] != 0 and order[order[order[0]]] != 0


def test_partners_stand_where_the_draws_say():
    """Two blocks of two.  The first and the last sample mix within their block, at the places 1 and 0; the others
    across, at the places 0 of the other block.
    """
    places_within, places_across = np.array([[1, 0], [1, 0]]), np.array([[1, 0], [0, 1]])
    draws = MixingDraws(np.array([True, False, False, True]), np.array([0]), places_within, places_across, np.ones(4))
    assert draws.partner.tolist() == [1, 2, 0, 2]


def test_mixing_draws_of_two_domains_are_those_of_a_generator(random):
    """What is drawn, in order: within or across, the places within each block and across, the shares."""
    domains, copy = torch.arange(2).repeat_interleave(3), np.random.default_rng(5)
    mixing = draw_mixing(domains, 0.7, 0.5, np.random.default_rng(5), torch.zeros(1, dtype=D))
    within = copy.random(6) < 0.5
    places = [np.stack([copy.permutation(3) for _ in range(2)]) for _ in range(2)]
    draws = MixingDraws(within, np.array([0]), *places, copy.beta(0.7, 0.7, 6))
    assert mixing.partner.tolist() == draws.partner.tolist()
    np.testing.assert_array_equal(mixing.r, draws.r)


def test_mixing_of_values():
    mixing = Mixing(torch.tensor([1, 0]), torch.tensor([0.75, 0.5], dtype=D))
    torch.testing.assert_close(mixing.of(torch.tensor([[4.0], [8.0]], dtype=D)), torch.tensor([[5.0], [6.0]], dtype=D))


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
