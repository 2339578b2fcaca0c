"""Options out of their range are refused in one place, before anything is trained."""

import types
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest

from ucdr_core.device import usable
from ucdr_core.evidence.batch import reproduce
from ucdr_core.methods import METHODS
from ucdr_core.options import OptionError, Range, from_mapping
from ucdr_core.training.loop import Recipe
from ucdr_core.training.spec import TrainSpec

NAN, INFINITE = float("nan"), float("inf")
DATACLASSES = {"spec": TrainSpec, "recipe": Recipe, **{name: cls.Options for name, cls in METHODS.items()}}


@pytest.mark.parametrize("name", DATACLASSES)
def test_every_number_has_a_range_and_its_default_lies_in_it(name):
    cls = DATACLASSES[name]
    for option, hint in get_type_hints(cls, include_extras=True).items():
        numbers = {int, float} & set(get_args(hint) if isinstance(hint, types.UnionType) else (hint,))
        assert not numbers, f"{name}: {option}"
        if get_origin(hint) is Annotated:
            assert isinstance(get_args(hint)[1], Range)
            assert from_mapping(
                cls, {option: getattr(cls, option), **({"method": "sake"} if cls is TrainSpec else {})}, ""
            )


@pytest.mark.parametrize(
    "values",
    [
        *({"seed": value} for value in (-1, 1 << 64, 10**5000, 1.5, True, None, "0")),
        *({"size_px": value} for value in (0, -96, 31, 1 << 20, 96.0)),
        *({"embedding_dim": value} for value in (0, -1, 1 << 30)),
        *({"vectors_length": value} for value in (0.0, -1.0, NAN, INFINITE, 10**400)),
        *({name: value} for name in ("gallery_held_out", "classes_left_out") for value in (-0.1, 1.0, NAN)),
        *({"query_share": value} for value in (0.0, 1.1, NAN)),
        *({"world_size": value} for value in (0, -1, 1 << 20)),
        *({"recipe": {"lr": value}} for value in (0, -1e-3, NAN, INFINITE, 1e30, "1e-3")),
        *(
            {"recipe": {name: value}}
            for name in ("beta1", "momentum", "photo_share")
            for value in (1.5, 1.0, -0.1, NAN)
        ),
        *({"recipe": {name: value}} for name in ("weight_decay", "clip_norm") for value in (-1e-4, NAN, INFINITE)),
        *({"recipe": {name: value}} for name in ("epochs", "batch_size", "patience") for value in (0, -1, 1 << 62)),
        {"recipe": {"warmup_steps": -1}},
        {"recipe": {"nesterov": True, "momentum": 0.0}},
        {"method": "doodle", "options": {"decoder_layers": 2.0}},  # it would be another run than 2
        {"method": "doodle", "options": {"dropout": 1.0}},
        {"method": "eisnet", "options": {"jigsaw_share": 1.1}},
        {"method": "sae", "options": {"grid": []}},
        {"method": "sae", "options": {"grid": [0.1, NAN]}},
        {"method": "sae", "options": {"grid": [-0.1]}},
        {"train_domains": ["sketch", "sketch", "photo"]},
        {"invert_domains": ["sketch", "sketch"]},
        {"options": [1]},
        {"recipe": None},
    ],
    ids=lambda values: repr(values)[:60] if "seed" not in values else f"seed of {type(values['seed']).__name__}",
)
def test_a_value_out_of_its_range_is_refused_in_one_line(values):
    with pytest.raises(OptionError) as refused:
        TrainSpec.from_mapping({"method": "snmpnet", **values})
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


@pytest.mark.parametrize("method", METHODS)
def test_no_number_of_a_method_takes_what_is_negative_or_not_finite(method):
    for option, hint in get_type_hints(METHODS[method].Options, include_extras=True).items():
        if get_origin(hint) is Annotated and get_args(hint)[0] in (int, float):
            for value in (-1, NAN, INFINITE, 1 << 70, None, True, "1"):
                with pytest.raises(OptionError, match=option):
                    TrainSpec.from_mapping({"method": method, "options": {option: value}})


@pytest.mark.parametrize("values", [None, [], 3, "snmpnet", [["method", "snmpnet"]]])
def test_a_spec_of_another_kind_is_refused(values):
    with pytest.raises(OptionError, match="must be a mapping"):
        TrainSpec.from_mapping(values)


def test_the_largest_seed_trains(small):
    from ucdr_core.training.prepare import prepare

    assert prepare(TrainSpec.from_mapping({**small, "seed": (1 << 64) - 1}), progress=False)


@pytest.mark.parametrize("device", ["zzz", "", "cuda:99", "cuda:-1", "meta", "cpu:1", "CPU"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(OptionError, match="not on this machine, which has cpu"):
        usable(device)


@pytest.mark.parametrize("numbers", [{"jobs": -1}, {"jobs": 0}, {"gpus": -1}, {"gpus": 99}])
def test_numbers_of_jobs_and_gpus_are_checked(numbers, tmp_path):
    with pytest.raises(OptionError):
        reproduce([], progress=False, root=tmp_path, **numbers)


def test_a_domain_to_invert_that_the_data_lack_is_named(small):
    from ucdr_core.data import DataError

    with pytest.raises(DataError, match="no domain 'skech'"):
        TrainSpec.from_mapping({**small, "invert_domains": ["skech"]}).training()
