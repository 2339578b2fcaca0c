"""The kinds of cases: how each is drawn, and how it is checked in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import strategies
import test_fuzz_archives
import test_fuzz_evaluate
import test_fuzz_folders
import test_fuzz_json
import test_fuzz_pictures
import test_fuzz_vectors
from cases import Case
from hypothesis import strategies as st

KINDS: dict[str, tuple[st.SearchStrategy[Case], Callable[[Case, Path], str]]] = {
    "evaluate": (strategies.evaluations(), test_fuzz_evaluate.check),
    "picture": (strategies.pictures(), test_fuzz_pictures.check),
    "split": (strategies.splits(), test_fuzz_json.check_split),
    "spec": (strategies.specs(), test_fuzz_json.check_spec),
    "vectors": (strategies.vectors(), test_fuzz_vectors.check),
    "archive": (strategies.archives(), test_fuzz_archives.check),
    "folder": (strategies.folders(), test_fuzz_folders.check),
    "options": (strategies.options(), test_fuzz_folders.check_options),
}
FAULTS = ("kill", "flip", "full disk", "file limit")
