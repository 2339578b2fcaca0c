"""SEM-PCYC against the numbers of AnjanDutta/sem-pcyc."""

import torch
from authors import close, golden, uncovered
from torch import nn

from ucdr_core.methods import sem_pcyc
from ucdr_core.methods.losses import answer_error, least_squares_game
from ucdr_core.methods.sem_pcyc import Made

NOT_USED = {
    "itq.": "binary codes by iterative quantisation, of which no table of the book's papers has a row",
    "grad.disc_if_not_zeroed.": "gradients that the authors set to 0 before anything uses them; ours are cut off",
    "grad.disc_into_autoencoder_before_zeroing.": "the same, of the critics into the encoder",
}
SPACES = ("se", "sk", "im")
# The rows of `gan.in.targets` in the order in which ours are drawn: a space at a time, its makers before its critic.
CALLS = (
    *("gen.disc_se(im2se)", "gen.disc_se(sk2se)"),
    *("disc.disc_se(se_em_enc)", "disc.disc_se(im2se)", "disc.disc_se(sk2se)"),
    *("gen.disc_sk(se2sk)", "disc.disc_sk(sk_fe)", "disc.disc_sk(se2sk)"),
    *("gen.disc_im(se2im)", "disc.disc_im(im_fe)", "disc.disc_im(se2im)"),
)


class Drawn:
    """The authors' targets of these calls, as a generator draws them."""

    def __init__(self, arrays, *calls):
        names = list(arrays["gan.in.call_names"])
        rows = [names.index(call) for call in calls]
        self.targets = list(zip(arrays["gan.in.target_is_real"][rows], arrays["gan.in.targets"][rows]))

    def uniform(self, low, high, shape):
        real, targets = self.targets.pop(0)
        assert (low, high) == ((0.7, 1) if real else (0, 0.3))
        return targets.reshape(shape)


def copy_weights(layers, prefix, arrays, *names):
    with torch.no_grad():
        for layer, name in zip(layers, names, strict=True):
            for kind in ("weight", "bias", "running_mean", "running_var"):
                if f"{prefix}{name}_{kind}" in arrays.all:
                    getattr(layer, kind).copy_(arrays.tensor(f"{prefix}{name}_{kind}"))


def linear_and_norm(network):
    return [layer for layer in network if isinstance(layer, (nn.Linear, nn.BatchNorm1d))]


DISCRIMINATOR = ("disc_1", "disc_2", "disc_4", "disc_5", "disc_7")
AUTOENCODER = ("enc_0", "dec_0")
INPUTS = {
    "semantic_of_sketch": "sk2se_em",
    "semantic_of_photo": "im2se_em",
    "sketch": "se2sk_em",
    "photo": "se2im_em",
    "sketch_again": "sk_em_hat",
    "photo_again": "im_em_hat",
    "semantic_by_sketch": "se_em_hat1",
    "semantic_by_photo": "se_em_hat2",
}


def released(arrays):
    """(method with the authors' weights and without noise, what is made, features of sketches and of photos, w, y)."""
    weights = arrays["in.lambdas_se_im_sk_cyc_adv_cls_reg_dse_dsk_dim_regular"].tolist()
    assert weights[7:10] == [0.25, 0.5, 0.5]  # of the critics: one over how many answers each judges
    names = "semantic photo sketch cycle adversarial class regression".split()
    (classes, channels), (dim, words) = arrays["w.classifier_sk.weight"].shape, arrays["w.aut_enc.enc_0_weight"].shape
    options = sem_pcyc.SEMPCYC.Options(
        dim=dim, noise=0.0, weight_sparsity=weights[10], **{f"weight_{n}": w for n, w in zip(names, weights)}
    )
    method = sem_pcyc.SEMPCYC(nn.Sequential(), channels, torch.zeros(classes, words), options).double()
    copy_weights((method.compress, method.restore), "w.aut_enc.", arrays, *AUTOENCODER)
    for space, critic, classifier in zip(SPACES, method.critics, method.classifiers):
        copy_weights(linear_and_norm(critic), f"w.disc_{space}.", arrays, *DISCRIMINATOR)
        classifier.load_state_dict({"weight": arrays.tensor(f"w.classifier_{space}.weight")})
    sketch, photo, w, labels = (arrays.tensor(f"in.{name}") for name in ("sk_fe", "im_fe", "semantic", "class"))
    fixed = {name: arrays.tensor(f"in.{theirs}", gradient=True) for name, theirs in INPUTS.items()}
    return method, Made(*method.autoencode(w), **fixed), sketch, photo, w, labels


@golden("sempcyc", "in.", "w.", "out.", "ae.", "cyc.", "cls.", "reg.", "gan.", "grad.", unused=NOT_USED)
def test_the_terms_and_one_step_on_their_sum(arrays):
    method, made, sketch, photo, w, labels = released(arrays)
    close(made.e, arrays["ae.out.enc"])
    close(made.restored, arrays["ae.out.rec"])
    terms = method.terms(made, sketch, photo, w, labels, Drawn(arrays, *CALLS))
    theirs = {"aut_enc": "autoencoder", "disc": "critics", "gen_adv": "adversarial"}
    theirs |= {"gen_cyc": "cycle", "gen_cls": "class", "gen_reg": "regression"}
    for name, ours in theirs.items():
        close(terms[ours], arrays[f"out.loss_{name}"])
    close(sum(terms[ours] for name, ours in theirs.items() if name.startswith("gen")), arrays["out.loss_gen"])
    # One backward pass on the sum gives each player the gradient of its own step.
    sum(terms.values()).backward()
    for ours, name in INPUTS.items():
        close(getattr(made, ours).grad, arrays[f"grad.gen.{name}"])
    for layer, name in zip((method.compress, method.restore), AUTOENCODER):
        close(layer.weight.grad, arrays[f"grad.ae.{name}_weight"])
        close(layer.bias.grad, arrays[f"grad.ae.{name}_bias"])
    for space, critic in zip(SPACES, method.critics):
        for layer, name in zip(linear_and_norm(critic), DISCRIMINATOR):
            close(layer.weight.grad, arrays[f"grad.disc.disc_{space}.{name}_weight"])
            close(layer.bias.grad, arrays[f"grad.disc.disc_{space}.{name}_bias"])
    assert all(p.grad is None for p in method.classifiers.parameters())

    cycle = sem_pcyc.cycle_errors(made, sketch, photo)
    im, sk, *se = arrays["cyc.out.im_sk_se1_se2_unweighted"]
    close(torch.stack(cycle), [sum(se), sk, im])
    *se, sk, im = arrays["cls.out.im2se_sk2se_se2sk_se2im_unweighted"]
    close(torch.stack(method.class_errors(made, labels)), [sum(se), sk, im])
    se, im, sk = arrays["reg.out.semsem_se2im_se2sk_unweighted"]
    close(torch.stack(sem_pcyc.regression_errors(made, sketch, photo)), [2 * se, sk, im])
    close(sem_pcyc.group_sparsity(method.compress.weight), arrays["ae.out.group_norm_sum"])
    lasso = method.options.weight_sparsity * arrays["ae.out.group_norm_sum"] / len(w)
    close(terms["autoencoder"] - lasso, arrays["ae.out.mse_unweighted"])

    seen = {"im2se": made.semantic_of_photo, "sk2se": made.semantic_of_sketch, "se_em_enc": made.e}
    seen |= {"se2im": made.photo, "se2sk": made.sketch, "im_fe": photo, "sk_fe": sketch}
    values = []
    for call, real in zip(arrays["gan.in.call_names"], arrays["gan.in.target_is_real"]):
        space, what = call.partition("disc_")[2].rstrip(")").split("(")
        answers = method.critics[SPACES.index(space)](seen[what])
        values.append(answer_error(answers, *((0.7, 1) if real else (0, 0.3)), Drawn(arrays, call)))
    close(torch.stack(values), arrays["gan.out.term_values_unweighted"])
    games = zip(SPACES, method.games(made, sketch, photo))
    for space, game in games:
        drawn = Drawn(arrays, *(call for call in CALLS if f"disc_{space}(" in call))
        _, judged = least_squares_game(*game, random=drawn, softness=method.options.softness)
        close(judged, arrays[f"out.loss_disc_{space}"])


@golden("sempcyc", "generator.")
def test_a_generator_that_is_not_trained(arrays):
    x = arrays.tensor("generator.in.x")
    generator = sem_pcyc.Generator(x.shape[1], len(arrays["generator.w.gen_8_weight"]), 0.5).double().eval()
    layers = linear_and_norm(generator.layers)
    copy_weights(layers, "generator.w.", arrays, "gen_0", "gen_1", "gen_4", "gen_5", "gen_8")
    close(generator(x), arrays["generator.out.y_eval"])


def test_every_array_is_compared():
    assert not uncovered("sempcyc", globals(), NOT_USED)
