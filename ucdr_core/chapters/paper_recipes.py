"""The papers' own recipes on their own data sets: every value that tier `paper` trains with, beside its source.

A recipe is a row of blocks.  A block names one source and the values that it gives; a later block overrides an earlier
one, where both hold.  Where a paper and its public code disagree, the code's value stands here, since the printed
numbers were made by it, and the paper's is a switch of the chapter or of the audit.  "Not given" is said of what
neither says: the value is this book's.  What cannot be had at all stands in `LACKING`.

`ucdr table cost recipes` prints the blocks; `tests/chapters/test_recipes.py` fails where a value has no source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ucdr_core import paths
from ucdr_core.data.published import PUBLISHED
from ucdr_core.evidence.rows import Listing
from ucdr_core.methods import METHODS

SPLITS = {  # of each view; a table that stands on another names it (`paper_split`)
    "sketchy": "sketchy_yelamarthi",
    "tuberlin": "tuberlin_random30",
    "quickdraw": "quickdraw_extended",
    "domainnet": "domainnet",
}
RANDOM25, STRAD64 = "sketchy_random25", "tuberlin_strad64"
GLOVE, WORD2VEC = "glove.6B.300d.txt", "GoogleNews-vectors-negative300.bin"  # under $UCDR_DATA/vectors
OTHER_BACKBONE = "se_resnet50"  # of the rows that SnMpNet's Table 1 has on another trunk


def query_share(domain: str) -> float:
    """Share of each seen class of an unseen domain that asks in UdCDR; see the block of DomainNet for its source."""
    return 0.1 if domain == "quickdraw" else 0.25


@dataclass(frozen=True)
class Given:
    """The values that one source gives.

    values   of the spec; of the method's options as "options.NAME", of the training as "recipe.NAME", of the training
             that it is fed from as "features.options.NAME"
    on       data sets or splits that the block is for; none: all
    without  only where this domain is not trained on
    by       only for rows that this paper's authors made with a version of their own (`made_by`)
    """

    source: str
    values: dict[str, Any]
    on: tuple[str, ...] = ()
    without: str = ""
    by: str = ""

    def holds(self, dataset: str, split: str, train_domains: tuple[str, ...], by: str) -> bool:
        return (
            (not self.on or dataset in self.on or split in self.on)
            and (not self.without or self.without not in train_domains)
            and (not self.by or self.by == by)
        )

    @property
    def condition(self) -> str:
        """When it holds, in words; "" for always."""
        parts = [" or ".join(self.on)] if self.on else []
        parts += [f"without {self.without}"] if self.without else []
        parts += [f"rows made by the authors of {self.by}"] if self.by else []
        return ", ".join(parts)


def given(
    source: str,
    recipe: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    *,
    on: str | tuple[str, ...] = (),
    without: str = "",
    by: str = "",
    fed_by: dict[str, Any] | None = None,
    **spec: Any,
) -> Given:
    """A block; fed_by: options of Simple, whose fine-tuned features the method is trained on."""
    parts = (("recipe.", recipe), ("options.", options), ("features.options.", fed_by), ("", spec))
    values = {prefix + name: value for prefix, part in parts for name, value in (part or {}).items()}
    return Given(source, values, (on,) if isinstance(on, str) else on, without, by)


NOT_GIVEN = "not given"
UCDR, DOODLE, SAKE, LI = "mvp18/UCDR", "sounakdey/doodle2search", "qliu24/SAKE", "Jiangtong-Li/ZS-SBIR"
PCYC, CVAE, ZSIH = "AnjanDutta/sem-pcyc", "ShivaKrishnaM/ZS-SBIR", "ymcidence/Zero-Shot-Sketch-Image-Hashing"
STRAD_PAPER = "STRAD, section 4.2"

# ------------------------------------------------------------------------------------------------------- of all methods

OF_ALL = (
    given("Yelamarthi et al. (ECCV 2018): 21 unseen classes", on="sketchy", split="sketchy_yelamarthi"),
    given(f"{SAKE}: 25 unseen classes of Sketchy; {UCDR} has the same", on=RANDOM25, split=RANDOM25),
    given(f"{SAKE}: 30 unseen classes; {UCDR} has the same", on="tuberlin", split="tuberlin_random30"),
    given(f"{LI}: 64 unseen classes of TU-Berlin", on=STRAD64, split=STRAD64),
    given(f"{DOODLE}: 30 unseen classes", on="quickdraw", split="quickdraw_extended"),
    given("mancinimassimiliano/CuMix: 45 unseen classes", on="domainnet", split="domainnet"),
    given("all start from ImageNet, but for SaN's own network", weights="imagenet"),
    given("this book's; the papers compute in single precision", precision="bfloat16"),
    given(f"{NOT_GIVEN}: the usual ones", pixels="normalised", invert_domains=[], size_px=224),
    given("no paper and no code centres its class vectors", vectors_centred=False, vectors_normalised=False),
    given(f"{NOT_GIVEN}: vectors of 300 dimensions are taken as they come", embedding_dim=300, vectors_length=6.7),
    given(
        "none in paper or code, where nothing else is said",
        {"weight_decay": 0.0, "warmup_steps": 0, "clip_norm": 0.0, "photo_share": 0.0, "reshuffle": True},
    ),
    given("the validation classes of the split", {"selection": "val", "select_by": "map_all"}),
    # The authors chose on the test classes: a switch of STRAD's chapter.
    given(f"{LI}: no validation classes on this split; the last epoch is kept", {"selection": "last"}, on=STRAD64),
    given(
        f"{UCDR}, data/DomainNet/domainnet.py: int(.92 n) of Real are trained on", on="domainnet", gallery_held_out=0.08
    ),
    given(
        "word2vec, w2v_domainnet.npy of CuMix and UCDR: as it comes; SnMpNet's paper says of length 1",
        on="domainnet",
        vectors=WORD2VEC,
        vectors_normalised=False,
    ),
    given(
        f"SnMpNet, A.2: 10% of QuickDraw.  The share for Sketch is lost in our copy of section 6: 25%, which "
        f"fangkaipeng/ProS has for every domain but QuickDraw; the default of {UCDR}, domainnet.py, is 10%",
        on="domainnet",
        query_share=query_share("sketch"),
    ),
    given("SnMpNet, A.2: 10% of QuickDraw", on="domainnet", without="quickdraw", query_share=query_share("quickdraw")),
)

# ------------------------------------------------------------------------------- SnMpNet and what it is compared with

_UCDR_LOADER = (
    given(f"{UCDR}, data/dataloaders.py: folders `sketch` and `quickdraw`", on="sketchy", invert_domains=["sketch"]),
    given(
        f"{UCDR}, data/dataloaders.py: folders `sketch` and `quickdraw`",
        on="domainnet",
        invert_domains=["sketch", "quickdraw"],
    ),
    given(f"{UCDR}, data/dataloaders.py: TU-Berlin's folder is `sketches`", on="tuberlin", invert_domains=[]),
    given(f"{NOT_GIVEN}: as on Sketchy", on="quickdraw", invert_domains=["sketch"]),
)
_UCDR_SELECTION = (
    given(f"{UCDR}, SnMpNet/trainer.py: mAP@all", {"select_by": "map_all"}),
    given(
        f"{UCDR}, SnMpNet/trainer.py: mAP@200 on the 21-class split and DomainNet",
        {"select_by": "map_200"},
        on=("sketchy_yelamarthi", "domainnet"),
    ),
)
_UCDR_VECTORS = (
    given(f"{UCDR}, glove300.pkl of both: GloVe 6B, as it comes", on=("sketchy", "tuberlin"), vectors=GLOVE),
    given(f"{NOT_GIVEN}: as on Sketchy", on="quickdraw", vectors=GLOVE),
)


def _of_snmpnets_authors(trainer: str) -> tuple[Given, ...]:
    """What the three methods of SnMpNet's Table 2 share."""
    return (
        given(
            trainer,
            {"decay": "exponential", "augment": "snmpnet", "reshuffle": False},
            regime="finetune",
            pixels="normalised",
        ),
        *_UCDR_SELECTION,
        *_UCDR_LOADER,
        *_UCDR_VECTORS,
    )


_SNMPNET = (
    given(f"{UCDR}, models/snmpnet/snmpnet.py", options={"heads": "parallel"}, backbone="se_resnet50"),
    given(
        f"{UCDR}, options_snmpnet.py",
        {"optimiser": "sgd", "lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0, "epochs": 100},
        {"mixup_step": 2},
        size_px=224,
        embedding_dim=300,
    ),
    given(
        f"{UCDR}, reproduce_runs.sh",
        {"batch_size": 64, "patience": 15},
        {"lambda_sn": 1.0, "lambda_mp": 1.0, "kappa": 1.0, "beta": 1.0},
    ),
    given(f"{UCDR}, reproduce_runs.sh", options={"lambda_mp": 0.5, "kappa": 2.0}, on="sketchy_yelamarthi"),
    given(f"{UCDR}, reproduce_runs.sh", {"batch_size": 60}, on="domainnet"),
    given(f"{UCDR}, reproduce_runs.sh", options={"beta": 2.0}, on="domainnet", without="quickdraw"),
    *_of_snmpnets_authors(f"{UCDR}, SnMpNet/trainer.py"),
    given(f"{UCDR}, SnMpNet/trainer.py; the paper has Nesterov's momentum", {"nesterov": False}),
    given(f"{UCDR}, losses/embedding_losses.py", options={"sn_form": "code", "temperature": 1.0}),
    given("SnMpNet, section 4.2: all samples are mixed", options={"mixing": True}),
    given(f"SnMpNet, section 4.4; {UCDR}, utils/metrics.py", options={"distance": "euclidean"}),
)

_OF_COMPARED = _of_snmpnets_authors(
    "SnMpNet, A.1: its augmentation; the trainer is not public, so the rest is as in SnMpNet/trainer.py"
)
_CUMIX = (
    given(f"{UCDR}, models/cumix/cumix.py", backbone="se_resnet50"),
    given(
        f"{UCDR}, options_cumix.py, on DomainNet too",
        {
            "optimiser": "sgd",
            "lr": 1e-3,
            "momentum": 0.9,
            "weight_decay": 5e-5,
            "batch_size": 40,
            "epochs": 100,
            "patience": 30,
        },
        {"eta_image": 0.001, "eta_feature": 2.0, "beta": 1.0, "mixup_step": 2},
        size_px=224,
        embedding_dim=300,
    ),
    *_OF_COMPARED,
    given("mancinimassimiliano/CuMix, configs: nesterov true; UCDR's trainer is not public", {"nesterov": True}),
    given(f"SnMpNet, A.1; {UCDR}, losses/embedding_losses.py", options={"logits": "cosine", "temperature": 1.0}),
    given(f"SnMpNet, section 4.4; {UCDR}, utils/metrics.py", options={"distance": "euclidean"}),
)
_EISNET = (
    given(f"{UCDR}, models/eisnet/eisnet_seresnet50.py", backbone="se_resnet50"),
    given(
        f"{UCDR}, options_eisnet.py",
        {
            "optimiser": "sgd",
            "lr": 1e-3,
            "momentum": 0.9,
            "weight_decay": 0.0,
            "batch_size": 64,
            "epochs": 100,
            "patience": 30,
        },
        {"weight_jigsaw": 0.7, "weight_triplet": 0.5, "margin": 2.0, "negatives": 256, "queue": 1024},
        size_px=222,
        embedding_dim=300,
    ),
    *_OF_COMPARED,
    given("emma-sjwang/EISNet, optimizer_helper.py; UCDR's trainer is not public", {"nesterov": False}),
    given("emma-sjwang/EISNet, train.py: in the function; the option alpha is not used", options={"momentum": 0.999}),
    given(f"{UCDR}, data/dataloaders.py: bias_whole_image .9", options={"jigsaw_share": 0.1}),
    given(f"{UCDR}, utils/anchor_selector.py", options={"without_semi_hard": "random"}),
    given(f"SnMpNet, A.1; {UCDR}, losses/embedding_losses.py", options={"temperature": 1.0}),
    given(f"SnMpNet, section 4.4; {UCDR}, utils/metrics.py", options={"distance": "euclidean"}),
)

# ------------------------------------------------------------------------------------------------- Doodle to Search

_DOODLE = (
    given(
        f"{DOODLE}, src/options.py",
        {"lr": 1e-4, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 20, "epochs": 1000, "patience": 20},
        {"dim": 256, "reversal": 0.5, "weight_triplet": 1.0, "weight_domain": 1.0, "weight_semantic": 1.0},
    ),
    given("Doodle to Search, section 5.1: about 40 epochs", {"epochs": 40}, on=STRAD64),
    given(
        f"{DOODLE}, src/train.py: an empty schedule, ToTensor() alone, the batch's place in its epoch",
        {"optimiser": "sgd", "nesterov": True, "decay": "constant", "augment": "none"},
        {"ramp": "code"},
        regime="finetune",
        pixels="unit",
    ),
    given(
        f"{DOODLE}, src/models/encoder.py; the paper has VGG-16",
        options={"fully_connected": True, "shared": False},
        backbone="vgg16_bn",
    ),
    given(f"Doodle to Search, section 4.2; {DOODLE}, the flag --attn", options={"attention": True}),
    given(
        f"{DOODLE}, src/loss/loss.py; the paper divides by three and has three layers",
        options={"margin": 1.0, "semantic_form": "code", "decoder_layers": 2, "dropout": 0.5},
    ),
    given(f"{DOODLE}, src/data: temp .1", options={"negatives": "semantic", "negative_scale": 0.1}),
    given(f"{DOODLE}, src/test.py: 1 / (1 + d), mAP@all", {"select_by": "map_all"}, {"distance": "euclidean"}),
    given(f"{DOODLE}, src/data/data_utils.py", size_px=224),
    given(
        f"{DOODLE}, semantic_labels_sketchy.npy: word2vec of length 1",
        vectors=WORD2VEC,
        vectors_normalised=True,
        vectors_length=1.0,
    ),
    given(f"{DOODLE}, semantic_labels_tuberlin.npy: lengths 1.5 to 4.4", on="tuberlin", vectors_normalised=False),
    given(f"{NOT_GIVEN}: as on Sketchy", on=("quickdraw", "domainnet"), vectors_normalised=True),
    # Doodle-SingleNet and its variants in SnMpNet's Table 1.
    given(
        f"{UCDR}, options_doodle2search.py",
        {"lr": 1e-4, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 64, "epochs": 100, "patience": 30},
        {"reversal": 0.5, "weight_triplet": 1.0, "weight_domain": 1.0, "weight_semantic": 1.0},
        by="snmpnet",
        size_px=224,
    ),
    given("SnMpNet, Table 1: 300-d", options={"dim": 300}, by="snmpnet"),
    given(f"{UCDR}, models/base_nw/deepall_vgg16.py", options={"attention": True}, by="snmpnet", backbone="vgg16_bn"),
    given(
        f"{UCDR}, data/dataloaders.py: exp(-d / max d), inverted sketches",
        options={"negatives": "relative"},
        by="snmpnet",
        invert_domains=["sketch"],
    ),
    given(
        f"{UCDR}, Sketchy/glove300.pkl: GloVe 6B, as it comes", by="snmpnet", vectors=GLOVE, vectors_normalised=False
    ),
    given(
        f"{UCDR}, SnMpNet/trainer.py; Doodle's own is not public there",
        {"augment": "snmpnet", "select_by": "map_200"},
        by="snmpnet",
        pixels="normalised",
    ),
)

# --------------------------------------------------------------------------------------------------------------- STL

_STL = (
    given(
        "STL, Implementation Details",
        {"optimiser": "sgd", "lr": 1e-3, "batch_size": 20},
        {"dim": 1024, "hidden": 4096, "positions": 7, "dropout": 0.5, "fully_connected": True},
        regime="finetune",
        backbone="vgg16",
    ),
    given(
        "STL, Hyperparameters",
        options={"margin": 0.1, "calibration": 0.01, "weight_semantic": 0.5, "weight_calibration": 0.1},
    ),
    given("STL, Hyperparameters", options={"weight_calibration": 0.5}, on="tuberlin"),
    given(
        "STL, equations 1, 5 and 8: gamma is 15 to 20",
        options={"scale": 10.0, "temperature": 15.0, "distance": "cosine"},
    ),
    given("STL, Figure 2: semi-heterogeneous", options={"network": "semi"}),
    given("STL, equation 8: the prototypes of all classes", options={"names": "all"}),
    given(f"{NOT_GIVEN}", options={"prototype_dim": 300, "anchors": "sketches"}),
    given(
        f"{NOT_GIVEN}; early stopping is",
        {"momentum": 0.9, "nesterov": True, "decay": "constant", "epochs": 100, "patience": 10, "augment": "none"},
    ),
    given("STL, Semantics: 300-d word2vec", vectors=WORD2VEC),
)

# ------------------------------------------------------------------------------------- STRAD and its table's baselines

_SIMPLE = (
    given(f"{STRAD_PAPER}: a fine-tuned VGG-16", backbone="vgg16", regime="finetune"),
    given(f"{STRAD_PAPER}: the penultimate layer", options={"fully_connected": True}),
    given(f"{STRAD_PAPER}: Simple SB; a row that is Simple DB says so", options={"shared": True}),
    given(
        f"{NOT_GIVEN}: how it was fine-tuned",
        {
            "optimiser": "adam",
            "beta1": 0.9,
            "lr": 1e-5,
            "decay": "constant",
            "batch_size": 64,
            "epochs": 100,
            "patience": 10,
            "augment": "none",
        },
    ),
    given(f"{NOT_GIVEN}", {"epochs": 15}, on=STRAD64),
)
_FIXED = given(f"{STRAD_PAPER}: the fine-tuned backbone is fixed", backbone="vgg16", regime="frozen")
_FIXED_SINGLE = (_FIXED, given(f"{STRAD_PAPER}: fine-tuned VGG-16 for all but SaN; (S)", fed_by={"shared": True}))
_FIXED_DOUBLE = (_FIXED, given(f"{STRAD_PAPER}: one fine-tuned VGG-16 for each domain; (D)", fed_by={"shared": False}))

_STRAD = (
    *_FIXED_SINGLE,
    given(
        f"{LI}, script/run_cmtrans.sh: patience of 500 steps each",
        {"lr": 2e-4, "batch_size": 64, "patience": 20, "warmup_steps": 1000},
        {"structure": 1024},
    ),
    given(
        f"{LI}, main_cmdtrans.py; by P@200, on the test classes there",
        {"optimiser": "adam", "beta1": 0.5, "decay": "constant", "clip_norm": 1.0, "select_by": "prec_200"},
    ),
    given(f"{LI}, model/cmd_translate.py", options={"hidden": 2048, "samples": 200}),
    given(
        "STRAD, equations 2 to 7: an unweighted sum",
        options={"weight_or": 1.0, "weight_cls": 1.0, "weight_kl": 1.0, "weight_im": 1.0, "weight_sk": 1.0},
    ),
    given(
        "STRAD, section 3: classification, norms, pairs of a class, three spaces; the earlier code has other ones",
        options={"alignment": "classification", "reconstruction": "paper", "pairs": "class", "sketch_space": True},
    ),
    given(
        f"{LI}, script/run_cmtrans.sh; of the ranking loss, which is off",
        options={"margin_unpaired": 0.0, "margin_negative": 10.0},
    ),
    given(f"{LI}: until patience ends", {"epochs": 100}),
    given(f"{NOT_GIVEN}", {"epochs": 20}, on=STRAD64),
)
_CVAE = (
    *_FIXED_DOUBLE,
    given(
        f"{CVAE}, trainCVAE_pre.py: all 25 epochs",
        {
            "optimiser": "adam",
            "lr": 2e-4,
            "beta1": 0.5,
            "decay": "constant",
            "batch_size": 128,
            "epochs": 25,
            "selection": "last",
        },
        {"hidden": 4096, "latent": 1024, "dropout": 0.3, "weight_kl": 1.0, "weight_sketch": 10.0, "samples": 100},
    ),
    given(f"{CVAE}, trainCVAE_pre.py: one epsilon for the whole batch", options={"noise": "code"}),
    given(f"{CVAE}, trainCVAE_pre.py: the photo that was drawn", options={"pairs": "own"}),
)
_SIAMESE = (
    given(f"{LI}, model/siamese.py: VGG-16 to its second fully connected layer", backbone="vgg16", regime="finetune"),
    given(f"{LI}, model/siamese.py", options={"dim": 4096, "fully_connected": True}),
    given(
        f"{LI}, main_siamese.py",
        {
            "optimiser": "sgd",
            "momentum": 0.9,
            "nesterov": False,
            "decay": "constant",
            "clip_norm": 1.0,
            "augment": "none",
            "select_by": "prec_200",
        },
        {"distance": "cosine", "weight_norms": 1e-4},
    ),
    given(
        f"{LI}, script/run_siamese.sh: patience of 1,000 steps each",
        {"lr": 5e-3, "batch_size": 32, "patience": 10},
        {"form": "exponential", "scale": 500.0},
    ),
    given(f"{LI}: until patience ends", {"epochs": 100}),
    given(f"{NOT_GIVEN}", {"epochs": 20}, on=STRAD64),
)
_SAN = (
    given("SaN: its own network, from scratch", regime="finetune", backbone="vgg16"),
    given(
        f"{LI}, model/san.py",
        options={"dim": 256, "width": 64, "filter_px": 15, "map_px": 7, "initial_weights": "torch"},
        size_px=225,
    ),
    given(f"{LI}, san_args.py: the default", {"lr": 2e-4, "batch_size": 32}),
    given(f"{LI}, loss/san_loss.py: the default; scripts have .1 to 1", options={"margin": 0.05}),
    given(
        f"{LI}, main_san.py",
        {"optimiser": "adam", "beta1": 0.9, "decay": "constant", "clip_norm": 1.0},
        {"weight_norms": 1e-4},
    ),
    given(f"{LI}, data_san.py: ToTensor() alone", {"augment": "none"}, {"ground": "white"}, pixels="unit"),
    given(f"{NOT_GIVEN}: 100,000 steps there", {"epochs": 100, "patience": 15}),
    given(f"{NOT_GIVEN}", {"epochs": 20}, on=STRAD64),
)
_CMT = (
    *_FIXED_SINGLE,
    given(
        f"{LI}, cmt_args.py",
        {"lr": 0.1, "batch_size": 32, "epochs": 20},
        {"hidden": 500, "batch_norm": True, "weight_norms": 5e-5},
    ),
    given(
        f"{LI}, main_cmt.py: the rate is halved after each epoch",
        {"optimiser": "sgd", "momentum": 0.6, "nesterov": False, "decay": "halving", "clip_norm": 1.0},
    ),
    given(f"{LI}, main_cmt.py: by P@200, on the test classes there", {"select_by": "prec_200", "patience": 20}),
    given(f"{NOT_GIVEN}: word2vec, as for STRAD's earlier code", vectors=WORD2VEC),
)
_ON_FEATURES = given(  # of systems of which too little is public
    f"{NOT_GIVEN}: as STRAD's",
    {
        "optimiser": "adam",
        "beta1": 0.5,
        "lr": 2e-4,
        "decay": "constant",
        "batch_size": 64,
        "epochs": 100,
        "patience": 20,
    },
)
_LITTLE_IS_PUBLIC = (_ON_FEATURES, given(f"{NOT_GIVEN}", {"epochs": 20}, on=STRAD64))
_WORDS = given(f"{NOT_GIVEN}: word2vec", vectors=WORD2VEC)
_ESZSL = (
    *_FIXED_SINGLE,
    given(
        "Romera-Paredes and Torr (ICML 2015): gamma and lambda by validation", options={"grid": [0.01, 0.1, 1.0, 10.0]}
    ),
    given(f"{NOT_GIVEN}: a map for each domain", options={"shared": False}),
    _WORDS,
)
_SAE = (
    *_FIXED_SINGLE,
    given("Kodirov et al. (CVPR 2017): lambda by validation", options={"grid": [0.001, 0.01, 0.1, 1.0]}),
    _WORDS,
)
_DEVISE = (
    *_FIXED_SINGLE,
    given("Frome et al. (NeurIPS 2013): margin .1", options={"margin": 0.1}),
    *_LITTLE_IS_PUBLIC,
    _WORDS,
)
_XU = (
    *_FIXED_DOUBLE,
    *_LITTLE_IS_PUBLIC,
    given(
        f"{NOT_GIVEN}: only the abstract is public",
        options={
            "hidden": 1024,
            "noise_dim": 64,
            "margin": 0.2,
            "weight_semantic": 1.0,
            "weight_class": 1.0,
            "weight_adversarial": 0.1,
            "adapter_rank": 32,
        },
    ),
    _WORDS,
)
_CONTENT_STYLE = (
    *_FIXED_DOUBLE,
    *_LITTLE_IS_PUBLIC,
    given("SnMpNet, Table 6: 200-d", options={"dim": 200}),
    given(
        f"{NOT_GIVEN}: only the abstract is public",
        options={
            "style_dim": 200,
            "hidden": 512,
            "weight_self": 1.0,
            "weight_cross": 1.0,
            "weight_class": 1.0,
            "weight_domain": 0.1,
            "distance": "euclidean",
        },
    ),
)
_SKETCHGCN = (
    *_FIXED_DOUBLE,
    *_LITTLE_IS_PUBLIC,
    given("STL, text of Figure 5: 1024-d", options={"dim": 1024}),
    given(
        f"{NOT_GIVEN}: only the abstract is public",
        options={
            "latent": 64,
            "weight_feature": 1.0,
            "weight_class": 1.0,
            "weight_semantic": 1.0,
            "weight_kl": 0.01,
            "adapter_rank": 32,
        },
    ),
    _WORDS,
)
_OCEAN = (
    given(f"{NOT_GIVEN}: trained as a whole", {"augment": "none"}, backbone="vgg16", regime="finetune"),
    *_LITTLE_IS_PUBLIC,
    given("STL, text of Figure 5: 512-d", options={"dim": 512}),
    given(
        f"{NOT_GIVEN}: only the title is public",
        options={
            "hidden": 512,
            "weight_class": 1.0,
            "weight_semantic": 1.0,
            "weight_cycle": 1.0,
            "weight_adversarial": 0.1,
        },
    ),
    _WORDS,
)

# ----------------------------------------------------------------------------------------- systems with their own code

_SAKE = (
    given(
        f"{SAKE}, train_cse_resnet_sketchy_ext.py",
        {"optimiser": "adam", "beta1": 0.9, "lr": 1e-4, "decay": "exponential", "weight_decay": 5e-4, "epochs": 20},
        {"dim": 512, "weight_teacher": 1.0, "teacher_scale": 1.0, "weight_similarity": 0.3, "classifier": "linear"},
        backbone="se_resnet50",
        regime="finetune",
        size_px=224,
    ),
    given(
        f"{SAKE}, train_cse_resnet_sketchy_ext.py: 13 sketches and 26 photos", {"batch_size": 40, "photo_share": 2 / 3}
    ),
    given(f"{SAKE}: no epoch is left out", {"patience": 20}),
    given(f"{SAKE}, src/Sketchy.py: random_transform", {"augment": "sake"}),
    given(f"{SAKE}, src/senet.py", options={"indicator": True, "start": "svd"}),
    # SAKE w/o label in SnMpNet's tables.
    given(
        f"{UCDR}, options_sake.py and options_sake_wo_domain_label.py",
        {"lr": 1e-4, "weight_decay": 5e-4, "batch_size": 40, "epochs": 20, "patience": 30},
        {"dim": 512, "weight_teacher": 1.0, "teacher_scale": 1.0, "weight_similarity": 0.3, "classifier": "margin"},
        by="snmpnet",
        size_px=224,
    ),
    given(f"{UCDR}, data/dataloaders.py: folder `sketch`", on="sketchy", by="snmpnet", invert_domains=["sketch"]),
    given(
        f"{UCDR}, SnMpNet/trainer.py; SAKE's own is not public there",
        {"select_by": "map_200"},
        on="sketchy_yelamarthi",
        by="snmpnet",
    ),
)
_SEM_PCYC = (
    *_FIXED_DOUBLE,
    given(
        f"{PCYC}, src/options.py",
        {"lr": 1e-4, "batch_size": 128, "epochs": 100, "patience": 20},
        {
            "weight_semantic": 10.0,
            "weight_sketch": 10.0,
            "weight_photo": 10.0,
            "weight_cycle": 1.0,
            "weight_class": 1.0,
            "weight_regression": 0.1,
            "weight_adversarial": 1.0,
            "weight_sparsity": 1e-3,
        },
    ),
    given(
        f"{PCYC}, src/models.py: Adam as it comes for generators, SGD (momentum .9) for critics and auto-encoder",
        {"optimiser": "adam", "beta1": 0.9, "decay": "constant"},
        {"critic_optimiser": "sgd", "classifier": "random", "dropout": 0.5, "noise": 0.3},
    ),
    given(
        f"{PCYC}, src/losses.py: U(.7, 1) and U(0, .3), for both sides", options={"softness": 0.3, "soft_for": "both"}
    ),
    given("SEM-PCYC: 64-d, as SnMpNet's Table 6 has it; the code's default is 128", options={"dim": 64}),
    given(f"{PCYC}, src/train.py: mAP@all", {"select_by": "map_all"}),
    given(f"{PCYC}, src/test.py", options={"distance": "euclidean"}),
    given(f"{PCYC}, src/options.py: word2vec-google-news", vectors=WORD2VEC),
)
_ZSIH = (
    *_FIXED_DOUBLE,
    given(
        f"{ZSIH}, model/cmzsl_simple.py",
        {"optimiser": "adam", "beta1": 0.9, "lr": 5e-4, "decay": "constant", "batch_size": 200},
        {
            "hidden": 1024,
            "weight_semantic": 0.5,
            "weight_entropy": 1.0,
            "weight_codes": 0.1,
            "weight_decay": 0.005,
            "neurons": "code",
            "targets": "code",
        },
    ),
    given(f"{ZSIH}, model/cmzsl_simple.py: 10,000 steps, and none is chosen", {"selection": "last", "epochs": 36}),
    given(f"{ZSIH}, model/cmzsl_simple.py: 10,000 steps", {"epochs": 125}, on="tuberlin"),
    given(f"{ZSIH}, model/cmzsl_simple.py: 10,000 steps", {"epochs": 9}, on="quickdraw"),
    given("ZSIH, as STL and Doodle to Search quote it: 64 bits; the script has 32", options={"bits": 64}),
    given(f"{ZSIH}, util/layer/kronecker_prod.py", options={"fusion": 256}),
    given(f"{ZSIH}, util/layer/graph_conv.py", options={"graph_scale": 0.1}),
    given(f"{ZSIH}: weights from N(0, .01)", options={"initial_deviation": 0.01}),
    _WORDS,
)

_REFERENCE = (given("a reference row, this book's: the trunk of SnMpNet", backbone="se_resnet50", regime="frozen"),)

RECIPES: dict[str, tuple[Given, ...]] = {
    "snmpnet": _SNMPNET,
    "cumix": _CUMIX,
    "eisnet": _EISNET,
    "doodle": _DOODLE,
    "stl": _STL,
    "strad": _STRAD,
    "simple": _SIMPLE,
    "sake": _SAKE,
    "sem_pcyc": _SEM_PCYC,
    "cvae": _CVAE,
    "zsih": _ZSIH,
    "siamese": _SIAMESE,
    "san": _SAN,
    "eszsl": _ESZSL,
    "sae": _SAE,
    "cmt": _CMT,
    "devise": _DEVISE,
    "xu2019": _XU,
    "content_style": _CONTENT_STYLE,
    "sketchgcn": _SKETCHGCN,
    "ocean": _OCEAN,
    **{name: _REFERENCE for name, method in METHODS.items() if not method.trained},
    "frozen_whitened": (*_REFERENCE, given("this book's: Ledoit and Wolf's shrinkage", options={"shrinkage": 1.0})),
}

# What the sources have and tier `paper` does not, or what they lack: the page on reproducing shows it.
LACKING: tuple[tuple[str, str], ...] = (
    ("SnMpNet, CuMix, EISNet", "Colour jitter turns hue about the grey axis, not in HSV."),
    ("SnMpNet, CuMix, EISNet", "On DomainNet all samples of a trained domain ask in validation, not 30% of them."),
    ("SnMpNet, CuMix, EISNet", "The words of a class's name are averaged; the authors' files replace some by hand."),
    (
        "SnMpNet",
        "The share of Sketch samples that ask in UdCDR is lost in our copy of the paper: another code's is taken.",
    ),
    ("CuMix, EISNet", "Only options, models and losses of these versions are public, not their trainers."),
    ("Doodle to Search", "One rendering of each Sketchy sketch is read; the code draws one of six for each sample."),
    ("Doodle to Search", "Red and blue of TU-Berlin photos are not swapped."),
    ("Doodle to Search", "TU-Berlin has SAKE's 30 unseen classes, not the median over splits that its authors drew."),
    ("Doodle to Search", "The vectors of QuickDraw's classes are not public: those of the words are taken."),
    ("Doodle to Search, rows of SnMpNet", "The trainer is not public: augmentation and selection are SnMpNet's."),
    ("STL", "No code is public: momentum, decay, augmentation, stopping and the seen test samples are our readings."),
    ("STRAD", "The supplement was not found: sizes, optimiser and samples are those of the authors' earlier code."),
    ("STRAD", "Features are the 4,096 penultimate ones; the earlier code adds averages of all five blocks (5,568)."),
    (
        "STRAD",
        "Pictures are read as RGB; the earlier code reads blue, green, red. How VGG-16 was fine-tuned is not given.",
    ),
    (
        "STRAD's Table 1",
        "A tenth of the seen classes of Sketchy and QuickDraw validates; the code chooses on the test classes.",
    ),
    ("STRAD's Table 1", "TU-Berlin's split has no validation classes: the last epoch is kept, and spaces weigh alike."),
    ("SAKE", "The epoch is chosen on validation classes, not by accuracy on held-out sketches of seen classes."),
    ("SAKE", "Photos that its lists hold twice are held once."),
    ("SEM-PCYC", "The hierarchical vectors of WordNet that it adds to word vectors are not packaged."),
    ("SEM-PCYC", "Dropout of the frozen VGG stays on in the code's training; here features are computed once."),
    ("SEM-PCYC", "An epoch is each sketch once, not 100 batches balanced over the classes."),
    (
        "SEM-PCYC, ZSIH, CVAE",
        "Features are those of STRAD's fine-tuned VGG-16 in every table; each paper has its own, which are not public.",
    ),
    ("ZSIH", "The paper's AlexNet with attention is not public: the release starts from features, and so does this."),
    ("Siamese", "The code throws three of four batches away; here each is a step."),
    ("SaN", "Trained for epochs with validation; the code trains 100,000 steps and keeps them all."),
    ("ESZSL, SAE, DeViSE", "STRAD's authors' versions are not public: sizes and grids are ours."),
    (
        "Xu et al., Dutta & Biswas, SketchGCN, OCEAN",
        "An abstract is public, or less: in the spirit of the papers.",
    ),
)


def sourced(
    method: str, dataset: str, train_domains: tuple[str, ...] = (), split: str = "", by: str = ""
) -> dict[str, tuple[Any, str]]:
    """{name of a value: (the value, its source)} of a training on a published data set; names as in `Given.values`.

    split  of the paper's table, where it is not the view's; by: whose version of the method, where not its authors'
    """
    split = split or SPLITS.get(dataset, "")
    found: dict[str, tuple[Any, str]] = {}
    for block in (*OF_ALL, *RECIPES[method]):
        if block.holds(dataset, split, train_domains, by):
            found |= {name: (value, block.source) for name, value in block.values.items()}
    if any(name.startswith("features.") for name in found):
        first = sourced("simple", dataset, train_domains, split)
        parts = {name: value for name, value in first.items() if name.startswith(("options.", "recipe.", "regime"))}
        found = {f"features.{name}": value for name, value in parts.items()} | found
    return found


def defaults(
    method: str, dataset: str, train_domains: tuple[str, ...] = (), split: str = "", by: str = ""
) -> dict[str, Any]:
    """Values of a TrainSpec for this method on a published data set, as its paper trains it; protocol and seed
    aside.  Arguments as of `sourced`."""
    values: dict[str, Any] = {"method": method, "dataset": dataset, "gallery_domain": PUBLISHED[dataset].gallery}
    for name, (value, _) in sourced(method, dataset, train_domains, split, by).items():
        *parents, last = name.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    if "vectors" in values:
        values["vectors"] = str(paths.data("vectors") / values["vectors"])
    if "features" in values:
        values["features"]["method"] = "simple"
    if not METHODS[method].trained:
        del values["recipe"]
    return values


def listing(_: Any = None) -> Listing:
    """Every block of every recipe."""
    rows = []
    for name, blocks in (("all", OF_ALL), *RECIPES.items()):
        for block in blocks:
            said = ", ".join(f"{key.removeprefix('recipe.')} {_text(value)}" for key, value in block.values.items())
            rows.append((name, said, block.condition, block.source))
    return Listing(
        "cost",
        "recipes",
        "The recipes of tier paper, block by block: a later block overrides an earlier one where both hold.",
        ("Method", "Values", "Where", "Source"),
        tuple(rows),
        "From `ucdr_core/chapters/paper_recipes.py`; a row of a table keeps what makes it that row.",
        text_columns=4,
    )


def lacking(_: Any = None) -> Listing:
    """What the sources have and tier paper does not."""
    return Listing(
        "cost",
        "lacking",
        "What tier paper lacks of its sources, or what the sources lack.",
        ("Method", "What"),
        LACKING,
        "From `ucdr_core/chapters/paper_recipes.py`.",
        text_columns=2,
    )


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
