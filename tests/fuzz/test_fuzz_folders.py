"""Folders of own pictures with odd entries, and command lines that are nearly right."""

import os
import re
import tempfile
from importlib import import_module
from pathlib import Path

import pytest
import strategies
from cases import Case, answered, bounded, held, ucdr, unchanged
from hypothesis import given, settings

from ucdr_core.cli import VERBS

MEMORY = 3 << 30  # of address space: a pool of threads takes a lot of it without using it

for verb in VERBS.values():  # what a verb imports is not the memory of a case
    import_module(f"ucdr_core.cli.{verb.module}")
import_module("timm")
GOOD = len(strategies.DOMAINS) * len(strategies.CLASSES) * 2  # pictures


def lay(case: Case, folder: Path) -> None:
    case.lay(folder)
    (folder / "own").mkdir(exist_ok=True)
    for name in case.values["odd"]:
        kind, path, content, _ = strategies.ODD[name]
        path = folder / "own" / path
        path.parent.mkdir(parents=True, exist_ok=True)
        match kind:
            case "file":
                path.write_bytes(content)
            case "link":
                path.symlink_to(content)
            case "pipe":
                os.mkfifo(path)
            case "folder":
                path.mkdir()


def check(case: Case, folder: Path) -> str:
    lay(case, folder)
    own, ends = folder / "own", set()
    with pytest.MonkeyPatch.context() as environment, bounded(MEMORY, 120), unchanged(folder, but=("home",)):
        environment.setenv("UCDR_HOME", str(folder / "home"))
        for verb in ("status", "pack", "status"):
            size = ("--size-px", 32) if verb == "pack" else ()
            result = ucdr("data", verb, "folders", "--data-root", own, *size)
            ends.add(answered(result, "own", *(Path(strategies.ODD[name][1]).name for name in case.values["odd"])))
            if result[0]:
                held(len(case.files) == 1, f"{verb} refuses {GOOD} good pictures: {result[2]}")
                continue
            counts = (r"([\d,]+) images", 0) if verb == "status" else (r"([\d,]+) of [\d,]+ pictures", 0)
            found = re.search(counts[0], result[1])
            held(found is not None, f"{verb} counts nothing: {result[1][:300]}")
            least = GOOD if len(case.files) > 1 else 0
            held(
                least <= int(found[1].replace(",", "")) <= least + len(case.values["odd"]), f"{verb} counts {found[0]}"
            )
            for name in case.values["odd"]:
                said = strategies.ODD[name][3]  # of several links that lead nowhere, the first
                if verb == "pack" or name not in ("damaged", "empty", "large", "postscript"):  # status decodes nothing
                    held(not said or any(one in result[1] + result[2] for one in said), f"{verb} is silent on {name!r}")
    return "done" if True in ends else "refused"


def check_options(case: Case, folder: Path) -> str:
    whole = Case("folder", dict(PICTURES), {"odd": []})
    lay(whole, folder)
    arguments = [re.sub("^OWN$", str(folder / "own"), one) for one in case.values["arguments"]]
    with (
        pytest.MonkeyPatch.context() as environment,
        bounded(MEMORY, 120),
        unchanged(folder, but=("home", "new")),
    ):
        environment.setenv("UCDR_HOME", str(folder / "home"))
        environment.chdir(folder)
        code, out, err = ucdr(*arguments)
        if code == 2 and err.startswith("usage:"):  # argparse shows how the command is used before its one line
            err = err.splitlines()[-1] + "\n"
        return "done" if answered((code, out, err)) else "refused"


PICTURES = {
    f"own/{domain}/{name}/{one}.png": strategies.picture("png", "RGB")
    for domain in strategies.DOMAINS
    for name in strategies.CLASSES
    for one in range(2)
} | {"outside.png": strategies.picture("png", "RGB")}


@settings(max_examples=25)
@given(strategies.folders())
def test_a_folder_is_packed_and_what_is_left_out_is_named(case):
    with tempfile.TemporaryDirectory() as folder:
        check(case, Path(folder))


@settings(max_examples=20)
@given(strategies.options())
def test_a_command_line_is_done_or_refused(case):
    with tempfile.TemporaryDirectory() as folder:
        check_options(case, Path(folder))
