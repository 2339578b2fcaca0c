"""Doodle to Search against sounakdey/doodle2search, and the sampler of its copy in mvp18/UCDR by hand."""

import numpy as np
import pytest
import torch
from authors import Arrays, close, close_attention, golden, uncovered
from torch import nn

from ucdr_core import evaluate
from ucdr_core.methods import METHODS
from ucdr_core.methods.doodle import ramp, relative_negatives, semantic_negatives
from ucdr_core.methods.losses import reverse_gradient

NOT_USED: dict[str, str] = {}
PARTS = ("sketch", "image_pos", "image_neg")
MAPS = {"decoder": ("sem_lin0", "sem_lin1"), "domain": ("dom_lin0", "dom_lin1", "dom_lin2")}


def doodle(arrays, training=False, **options):
    """Ours in the reading of the code, with the authors' two maps; without dropout unless in training."""
    options = {"dim": 5, "decoder_layers": 2, "semantic_form": "code", "ramp": "code", **options}
    method = METHODS["doodle"](nn.Sequential(), 4, torch.zeros(3, 7).double(), METHODS["doodle"].Options(**options))
    for name, layers in MAPS.items():
        for ours, theirs in zip(getattr(method, name), layers, strict=True):
            ours.weight, ours.bias = (nn.Parameter(arrays.tensor(f"w.{theirs}_{part}")) for part in ("weight", "bias"))
    return method.train(training)


def terms_of(arrays, method, iteration=0, random=None):
    """The loss terms of the authors' embeddings, and these, which take gradients."""
    embedded = [arrays.tensor(f"in.{part}", gradient=True) for part in PARTS]
    photos = torch.arange(3).repeat_interleave(len(embedded[0])) > 0
    terms = method.terms(torch.cat(embedded), photos, arrays.tensor("in.word_vector"), ramp(iteration), random)
    return terms, embedded


@golden("doodle2search", "w.", "in.", "out.", "grad.")
def test_the_losses_and_their_gradients(arrays):
    terms, _ = terms_of(arrays, doodle(arrays))
    for name, value in terms.items():
        close(value, arrays[f"out.loss_{name}"])
    close(sum(terms.values()), arrays["out.loss_total_w111"])
    quarter = {f"weight_{name}": 0.25 for name in terms}
    close(sum(terms_of(arrays, doodle(arrays, **quarter))[0].values()), arrays["out.loss_total_class_default_w025"])
    for name in ("triplet", "semantic"):
        method = doodle(arrays)
        terms, embedded = terms_of(arrays, method)
        terms[name].backward()
        for part, tensor in zip(PARTS, embedded):
            close(tensor.grad, arrays[f"grad.{name}.{part}"])
        for layer, theirs in zip(method.decoder, MAPS["decoder"]):
            if name == "semantic":
                close(layer.weight.grad, arrays[f"grad.semantic.{theirs}_weight"])
                close(layer.bias.grad, arrays[f"grad.semantic.{theirs}_bias"])


@golden("doodle2search", "ramp.")
def test_the_ramp_of_the_domain_loss(arrays):
    iterations = arrays["ramp.in.iterations"]
    close([ramp(int(iteration)) for iteration in iterations], arrays["ramp.out.lambda"])
    for row, iteration in enumerate(iterations):
        method = doodle(arrays)
        terms, embedded = terms_of(arrays, method, int(iteration))
        close(terms["domain"], arrays["out.loss_domain"])
        close(sum(terms.values()), arrays["out.loss_total_w111"])
        terms["domain"].backward(retain_graph=True)
        for part, tensor in zip(PARTS, embedded):
            close(tensor.grad, arrays[f"ramp.grad_domain.{part}"][row])
            tensor.grad = None
        close(method.domain[0].weight.grad, arrays["ramp.grad_domain.dom_lin0_weight_any_iteration"])
        sum(terms.values()).backward()
        for part, tensor in zip(PARTS, embedded):
            close(tensor.grad, arrays[f"ramp.grad_total.{part}"][row])


@golden("doodle2search", "in.word_vector")
def test_the_semantic_loss_of_the_paper_is_a_third_of_the_codes(arrays):
    code, paper = (terms_of(arrays, doodle(arrays, semantic_form=form))[0]["semantic"] for form in ("code", "paper"))
    close(paper, code.detach().numpy() / 3)


def test_dropout_is_drawn_in_training_and_off_in_evaluation():
    arrays = Arrays("doodle2search", ("",))
    dropped, other = (
        terms_of(arrays, doodle(arrays, training=True), random=np.random.default_rng(seed))[0] for seed in (0, 1)
    )
    for name in ("domain", "semantic"):
        assert len({dropped[name].item(), other[name].item(), float(arrays[f"out.loss_{name}"])}) == 3
    none, _ = terms_of(arrays, doodle(arrays, training=True, dropout=0.0))
    close(sum(none.values()), arrays["out.loss_total_w111"])


@golden("doodle2search", "grl.")
def test_the_reversal_of_the_gradient(arrays):
    x = arrays.tensor("grl.in.x", gradient=True)
    y = reverse_gradient(x, 0.5)
    (y * arrays.tensor("grl.in.cotangent")).sum().backward()
    close(y, arrays["grl.out.y"])
    close(x.grad, arrays["grl.grad.x_lambda05"])


@golden("doodle2search", "att.")
def test_the_attention_and_its_mask(arrays):
    attention, x = close_attention(arrays)
    close(attention.weights(x)[:, None], arrays["att.out.mask"])


@golden("doodle2search", "negclass.")
def test_the_sampler_of_negative_classes(arrays):
    vectors = arrays["negclass.in.word_vectors"][arrays["negclass.in.train_class_rows"]]
    probabilities = semantic_negatives(vectors, 0.1)
    assert (np.diag(probabilities) == 0).all()
    theirs = arrays["negclass.out.prob_over_other_train_classes"]
    close(probabilities[~np.eye(len(vectors), dtype=bool)].reshape(theirs.shape), theirs)


def test_the_sampler_of_the_copy_in_snmpnets_code_by_hand():
    """Classes at 0, 1 and 4: distances 1, 4; 1, 3; 4, 3, each over the row's largest."""
    probabilities = relative_negatives(np.array([[0.0], [1.0], [4.0]]))
    for row, (others, distances) in enumerate((((1, 2), (1 / 4, 1)), ((0, 2), (1 / 3, 1)), ((0, 1), (1, 3 / 4)))):
        weights = np.exp(-np.array(distances))
        np.testing.assert_allclose(probabilities[row, others], weights / weights.sum())
        assert probabilities[row, row] == 0
    vectors = torch.tensor([[0.0], [1.0], [4.0]]).double()
    method = METHODS["doodle"](nn.Sequential(), 4, vectors, METHODS["doodle"].Options(negatives="relative"))
    np.testing.assert_array_equal(method.negative_classes(), probabilities)


@golden("doodle2search", "metrics.", "metrics_ties.")
def test_the_mean_average_precision(arrays):
    """Of queries that have a relevant item: the authors' library leaves the others without a value, ours gives 0."""
    inputs = Arrays("ucdr", ("metrics",))
    for name in ("metrics", "metrics_ties"):
        kept = arrays[f"{name}.in.queries_kept_of_ucdr_npz"]
        query, labels, gallery, gallery_labels = (
            inputs[f"{name}.in.{part}"] for part in ("query", "query_class", "gallery", "gallery_class")
        )
        scores = evaluate(query[kept], labels[kept], gallery, gallery_labels)
        assert scores.without_relevant == 0
        close(scores["map_all"], arrays[f"{name}.out.map_all"])
        all_queries = evaluate(query, labels, gallery, gallery_labels)
        assert all_queries["map_all"] == pytest.approx(scores["map_all"] * len(kept) / len(query))


def test_every_array_is_compared():
    assert not uncovered("doodle2search", globals(), NOT_USED)
