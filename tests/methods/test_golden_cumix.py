"""CuMix against mancinimassimiliano/CuMix, whose logits are the switch `logits="product"` of ours."""

import torch
from authors import close, golden, uncovered
from torch import nn

from ucdr_core.methods import METHODS
from ucdr_core.methods.cumix import unit_vector_logits
from ucdr_core.methods.losses import MixingDraws, cosine_logits, mixing_schedule, soft_cross_entropy

NOT_USED: dict[str, str] = {}


def parameters(layer, arrays, weight, bias):
    layer.weight, layer.bias = (nn.Parameter(arrays.tensor(name)) for name in (weight, bias))
    return layer


def cumix(arrays, case):
    """Ours with the authors' weights: their trunk, a linear layer on 3 x 2 x 2 images and a ReLU, as a convolution."""
    semantic, feature, image = arrays["weights.in.semantic_featmix_imgmix"]
    assert semantic == 1  # the weight of the plain loss in every run, and always ours
    options = METHODS["cumix"].Options(eta_image=image, eta_feature=feature, logits="product")
    layer = parameters(nn.Linear(12, 7), arrays, f"{case}.w.backbone_weight", f"{case}.w.backbone_bias")
    trunk = nn.Sequential(nn.Flatten(), layer, nn.ReLU(), nn.Unflatten(1, (7, 1, 1)))
    method = METHODS["cumix"](trunk, 7, arrays.tensor(f"{case}.in.attributes_raw"), options)
    parameters(method.semantic, arrays, f"{case}.w.proj_weight", f"{case}.w.proj_bias")
    return method, layer


def mixing(arrays, case, level):
    """The authors' draws for one level of mixing; its partners are compared with theirs."""
    given = {
        name: arrays[f"{case}.in.{level}_{name}"]
        for name in ("within_draw", "choice_draws", "perm_within", "perm_across", "beta_draw")
    }
    draws = MixingDraws(given.pop("within_draw") == 1, *given.values())
    close(draws.partner, arrays[f"{case}.out.{level}_partner_index"])
    return draws.mixing(arrays.tensor(f"{case}.in.x"))


@golden("cumix", "d2.", "d3.", "weights.")
def test_the_three_losses_and_their_gradients(arrays):
    for case in ("d2", "d3"):
        method, layer = cumix(arrays, case)
        terms = method.terms(
            arrays.tensor(f"{case}.in.x"),
            arrays.tensor(f"{case}.in.y"),
            mixing(arrays, case, "img"),
            mixing(arrays, case, "feat"),
        )
        total = sum(terms.values())
        total.backward()
        close(terms["ce"], arrays[f"{case}.out.loss_sem"])
        close(terms["mixed_images"] / method.options.eta_image, arrays[f"{case}.out.loss_mix_img"])
        close(terms["mixed_features"] / method.options.eta_feature, arrays[f"{case}.out.loss_mix_feat"])
        close(total, arrays[f"{case}.out.loss_total"])
        for name, trained in (("proj", method.semantic), ("backbone", layer)):
            close(trained.weight.grad, arrays[f"{case}.grad.{name}_weight"])
            close(trained.bias.grad, arrays[f"{case}.grad.{name}_bias"])


def test_only_the_class_vectors_are_normalised():
    """u = (3, 4) against (1, 0), (0, 2), (-1, 0): products 3, 4, -3 with their unit vectors, cosines a fifth of it."""
    u, a = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    torch.testing.assert_close(unit_vector_logits(u, a), torch.tensor([[3.0, 4.0, -3.0]]))
    for logits, expected in (("product", unit_vector_logits(u, a)), ("cosine", cosine_logits(u, a, 0.5))):
        method = METHODS["cumix"](nn.Sequential(), 2, a, METHODS["cumix"].Options(logits=logits, temperature=0.5))
        method.semantic = nn.Identity()
        torch.testing.assert_close(method.logits(u), expected)


@golden("cumix", "schedule.")
def test_the_curriculum(arrays):
    for beta_max, step, epoch, beta, gamma in arrays["schedule.out.table_betamax_step_epoch_beta_gamma"]:
        close(mixing_schedule(int(epoch), beta_max, int(step)), (beta, gamma))


@golden("cumix", "manual_ce.")
def test_the_cross_entropy_of_soft_labels(arrays):
    logits = arrays.tensor("manual_ce.in.logits", gradient=True)
    loss = soft_cross_entropy(logits, arrays.tensor("manual_ce.in.labels"))
    loss.backward()
    close(loss, arrays["manual_ce.out.loss"])
    close(logits.grad, arrays["manual_ce.grad.logits"])


def test_every_array_is_compared():
    assert not uncovered("cumix", globals(), NOT_USED)
