"""SnMpNet against mvp18/UCDR: losses, mixing, schedules, attention, and the retrieval metrics."""

import math

import numpy as np
import pytest
import torch
from authors import close, close_attention, golden, uncovered
from torch import nn

from ucdr_core import evaluate
from ucdr_core.methods import METHODS
from ucdr_core.methods.losses import MixingDraws, cosine_logits, mixing_schedule, one_hot, soft_cross_entropy
from ucdr_core.methods.snmpnet import neighbourhood_loss
from ucdr_core.training.loop import Recipe

NOT_USED: dict[str, str] = {}
D = torch.float64


def shares_of(arrays):
    """t of the samples of `mix`: r of the first label, 1 - r of the second, (B, C)."""
    classes = len(arrays["mix.in.semantic_emb"])
    first, second = (one_hot(arrays.tensor(f"mix.in.y_{name}"), classes, D) for name in "ab")
    r = arrays.tensor("mix.in.ratio")[:, None]
    return r * first + (1 - r) * second


@golden("ucdr", "mix.", "mcce.", "cce.")
def test_the_cosine_cross_entropy_mixed_and_unmixed(arrays):
    a = arrays.tensor("mix.in.semantic_emb")
    unmixed = one_hot(arrays.tensor("mix.in.y_a"), len(a), D)
    for name, shares in (("mcce", shares_of(arrays)), ("cce", unmixed)):
        f = arrays.tensor("mix.in.enc_out", gradient=True)
        loss = soft_cross_entropy(cosine_logits(f, a), shares)
        loss.backward()
        close(loss, arrays[f"{name}.out.loss"])
        close(f.grad, arrays[f"{name}.grad.enc_out"])


@golden("ucdr", "snl.")
def test_the_neighbourhood_loss_in_the_form_of_the_code(arrays):
    a = arrays.tensor("mix.in.semantic_emb")
    for alpha in (0, 1, 2):
        f = arrays.tensor("mix.in.enc_out", gradient=True)
        loss = neighbourhood_loss(f, shares_of(arrays) @ a, a, kappa=alpha, form="code")
        loss.backward()
        close(loss, arrays[f"snl.out.loss_alpha{alpha}"])
        close(f.grad, arrays[f"snl.grad.enc_out_alpha{alpha}"])


@pytest.mark.parametrize("kappa", [0, 1, 2])
def test_the_neighbourhood_loss_in_the_form_of_the_paper_by_hand(kappa):
    """Class vectors (0, 0), (3, 4), (0, 10).  Of the first sample, a~ = (0, 0): wanted distances 0, 5, 10, and those of
    f = (0, 1) are 1, sqrt(18), 9.  Of the second, a~ halfway between the last two, (1.5, 7): sqrt(51.25), sqrt(11.25)
    twice, and f = (3, 4): 5, 0, sqrt(45).  The weight is squared with the difference, so that kappa counts twice; the
    sum is over classes, the mean over samples.
    """
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 10.0]], dtype=D)
    shares = torch.tensor([[1, 0, 0], [0, 0.5, 0.5]], dtype=D)
    f = torch.tensor([[0.0, 1.0], [3.0, 4.0]], dtype=D)
    first = 1 + math.exp(-2 * kappa * 0.5) * (math.sqrt(18) - 5) ** 2 + math.exp(-2 * kappa) * (9 - 10) ** 2
    far, near = math.sqrt(51.25), math.sqrt(11.25)
    second = math.exp(-2 * kappa) * (5 - far) ** 2
    second += math.exp(-2 * kappa * near / far) * ((0 - near) ** 2 + (math.sqrt(45) - near) ** 2)
    loss = neighbourhood_loss(f, shares @ a, a, kappa, form="paper")
    assert loss.item() == pytest.approx((first + second) / 2, abs=1e-5)  # a distance of 0 is 1e-6 in the library


@golden("ucdr", "mixpred.")
def test_the_mixture_prediction_loss(arrays):
    close(shares_of(arrays), arrays["mixpred.in.target"])
    logits = arrays.tensor("mixpred.in.logits", gradient=True)
    loss = soft_cross_entropy(logits, shares_of(arrays))
    loss.backward()
    close(loss, arrays["mixpred.out.loss"])
    close(logits.grad, arrays["mixpred.grad.logits"])


@golden("ucdr", "total.")
def test_the_total(arrays):
    for weight_ce, lambda_sn, lambda_mp, alpha, total in arrays["total.out.table_wcce_wmse_wratio_alpha_loss"]:
        assert weight_ce == 1  # the weight of the cosine cross-entropy in every run, and always ours
        options = METHODS["snmpnet"].Options(lambda_sn=lambda_sn, lambda_mp=lambda_mp, kappa=alpha, sn_form="code")
        method = METHODS["snmpnet"](nn.Sequential(), 4, arrays.tensor("mix.in.semantic_emb"), options)
        terms = method.terms(arrays.tensor("mixpred.in.logits"), arrays.tensor("mix.in.enc_out"), shares_of(arrays))
        close(sum(terms.values()), total)


@golden("ucdr", "mixing.")
def test_mixing(arrays):
    for case in ("d2c0", "d3c01", "d3c00"):
        own = {name: arrays[f"mixing.{case}.in.{name}"] for name in ("beta_draw", "within_draw", "choice_draws")}
        draws = MixingDraws(
            own["within_draw"] == 1,
            own["choice_draws"],
            arrays[f"mixing.{case}.in.perm_within"],
            arrays[f"mixing.{case}.in.perm_across"],
            own["beta_draw"],
        )
        x, labels = arrays.tensor(f"mixing.{case}.in.X"), arrays.tensor(f"mixing.{case}.in.y")
        mixing = draws.mixing(x)
        close(derangement_of(draws), arrays[f"mixing.{case}.out.selected_domain"])
        close(mixing.of(x), arrays[f"mixing.{case}.out.X_mix"])
        close(labels[mixing.partner], arrays[f"mixing.{case}.out.y_b"])
        target = arrays[f"mixing.{case}.out.target"]
        close(mixing.of_labels(labels, target.shape[1]), target)


def derangement_of(draws):
    """The block that each block takes partners from, read off the partners where all were drawn across domains."""
    across = MixingDraws(np.zeros_like(draws.within), *list(vars(draws).values())[1:])
    blocks = across.partner.reshape(draws.places_across.shape) // draws.places_across.shape[1]
    assert (blocks == blocks[:, :1]).all()
    return blocks[:, 0]


@golden("ucdr", "schedule.")
def test_the_schedules_of_mixing_and_of_the_learning_rate(arrays):
    recipe = Recipe(lr=1e-3, decay="exponential")
    for beta_max, step, epoch, beta, gamma, rate in arrays["schedule.out.table_betamax_step_epoch_beta_gamma_lr"]:
        close(mixing_schedule(int(epoch), beta_max, int(step)), (beta, gamma))
        close(recipe.rate(int(epoch)), rate)


def test_the_learning_rate_falls_to_a_millionth_in_twenty_epochs_and_no_further():
    recipe = Recipe(lr=1e-3, decay="exponential")
    for epoch, rate in ((0, 1e-3), (10, 1e-3 * 10**-1.5), (20, 1e-6), (21, 1e-6), (99, 1e-6)):
        assert recipe.rate(epoch) == pytest.approx(rate)


@golden("ucdr", "att.")
def test_the_attention(arrays):
    attention, x = close_attention(arrays)
    close(attention.pooled(x), arrays["att.out.y"].mean((2, 3)))  # what the encoder takes of it


@golden("ucdr", "metrics.", "metrics_small.", "metrics_ties.")
def test_the_metrics(arrays):
    for name in ("metrics", "metrics_small", "metrics_ties"):
        scores = scores_of(arrays, name)
        close(scores.per_query["map_all"], arrays[f"{name}.out.ap_all"])
        close(scores.per_query["map_200"], arrays[f"{name}.out.ap_200"])
        # Means over all queries, those without a relevant item too.
        for mean in ("map_all", "map_200", "prec_100", "prec_200"):
            close(scores[mean], arrays[f"{name}.out.{mean}"])
    scores, absent = scores_of(arrays, "metrics"), 9
    assert arrays["metrics.in.query_class"][absent] not in arrays["metrics.in.gallery_class"]
    assert scores.without_relevant == 1 and all(values[absent] == 0 for values in scores.per_query.values())
    assert scores.per_query["map_200"][8] == 0 < scores.per_query["map_all"][8]  # relevant ones, none in the first 200


def scores_of(arrays, name):
    return evaluate(*(arrays[f"{name}.in.{part}"] for part in ("query", "query_class", "gallery", "gallery_class")))


def test_every_array_is_compared():
    assert not uncovered("ucdr", globals(), NOT_USED)
