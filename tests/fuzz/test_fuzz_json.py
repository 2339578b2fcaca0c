"""Split files and specs: taken as they are written, or refused with the name of what is wrong."""

import json
import re
import tempfile
from collections import Counter
from pathlib import Path

import strategies
from cases import Case, bounded, held, refusal, unchanged
from hypothesis import given

from ucdr_core.data import DataError, splits
from ucdr_core.methods import OptionError
from ucdr_core.training.spec import TrainSpec

PARTS = ("train", "val", "test")


def check_split(case: Case, folder: Path) -> str:
    case.lay(folder)
    path = folder / "own.json"
    with bounded(), unchanged(folder):
        split, _ = refusal(lambda: splits.load(path), (DataError,), "own.json", "split '")
    if split is None:
        held(not case.values["ordinary"], "refuses a good split")
        return "refused"
    twice: list[str] = []

    def noting(pairs: list[tuple]) -> dict:
        twice.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        return dict(pairs)

    content = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=noting)
    held(not twice, f"takes a file that says {twice} twice")
    for part in PARTS:
        listed = content.get(part, [] if part == "val" else None)
        held(isinstance(listed, list) and all(isinstance(one, str) for one in listed), f"takes {part} {listed}")
        held(list(getattr(split, part)) == listed, f"{part} is not what the file lists")
    words = content.get("words", {})
    held(isinstance(words, dict) and all(isinstance(one, str) for one in words.values()), f"takes words {words}")
    held(split.words == words, "the words are not what the file says")
    held(isinstance(split.name, str) and isinstance(split.source, str), f"takes name {split.name!r}")
    split.save(folder / "again.json")
    held(splits.load(folder / "again.json") == split, "is another split when it is saved and loaded")
    return "taken"


def check_spec(case: Case, folder: Path) -> str:
    values = json.loads(case.files["spec.json"])
    with bounded():
        spec, _ = refusal(lambda: TrainSpec.from_mapping(values), (DataError, OptionError))
        if spec is None:
            held(not case.values["ordinary"], "refuses good values")
            return "refused"
        for name, value in values.items():
            same_or_default(name, value, spec.mapping()[name])
        held(TrainSpec.from_mapping(spec.mapping()) == spec, "is another spec when its values are read again")
        json.dumps(spec.mapping(), allow_nan=False)
        key, _ = refusal(lambda: spec.key, (DataError, OptionError, FileNotFoundError))
    held(key is None or re.fullmatch("[0-9a-f]{16}", key) is not None, f"is named {key!r}")
    return "taken"


def same_or_default(name: str, given_value, taken) -> None:
    """What was given is what counts; in a part, what was not given has its default."""
    if isinstance(given_value, dict) and isinstance(taken, dict):
        for part, value in given_value.items():
            same_or_default(f"{name}.{part}", value, taken.get(part))
        return
    equal = given_value == taken and isinstance(given_value, bool) == isinstance(taken, bool)
    held(equal, f"{name} was given as {given_value!r:.100} and taken as {taken!r:.100}")


@given(strategies.splits())
def test_splits_are_taken_as_written_or_refused(case):
    with tempfile.TemporaryDirectory() as folder:
        check_split(case, Path(folder))


@given(strategies.specs())
def test_specs_are_taken_as_written_or_refused(case):
    with tempfile.TemporaryDirectory() as folder:
        check_spec(case, Path(folder))
