"""One case of fuzzing: what is given, as a file that can be replayed, and what must hold whatever is given.

Every case ends in the right answer, or in exit code 2 (a DataError, in a function) with one line that names the file or
the field; it changes no file that it was not asked to make, and it stays within memory and time.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import resource
import signal
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import category

import psutil

from ucdr_core import cli

MEMORY = 1 << 30  # bytes of address space that a case may take beyond what the process has
SECONDS = 60  # a case that takes longer hangs
LONGEST = 1_500  # characters of a refusal: more is a dump


@dataclass
class Case:
    """files {name: content} are laid into a folder, values say what is asked of them."""

    kind: str
    files: dict[str, bytes] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def lay(self, folder: Path) -> None:
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    def dump(self, folder: Path, problem: str = "") -> Path:
        """Keeps the case as `<kind>-<digest>.json` in the folder."""
        content = asdict(self) | {"files": {name: base64.b64encode(data).decode() for name, data in self.files.items()}}
        text = json.dumps(content, indent=1, sort_keys=True)
        path = folder / f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**content, "problem": problem}, indent=1, sort_keys=True) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> Case:
        content = json.loads(path.read_text())
        files = {name: base64.b64decode(data) for name, data in content["files"].items()}
        return cls(content["kind"], files, content["values"])


class Broken(AssertionError):
    """An invariant does not hold."""


def held(condition: bool, problem: str) -> None:
    if not condition:
        raise Broken(problem)


@contextmanager
def bounded(memory: int = MEMORY, seconds: int = SECONDS):
    """Inside, the process gets so much more address space and time; what takes more is broken."""

    def late(*_):
        raise Broken(f"took more than {seconds} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + memory, hard))
    former = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    except MemoryError as error:
        raise Broken(f"took more than {memory >> 20} MB: {error}") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def unchanged(folder: Path, but: tuple[str, ...] = ()):
    """Inside, nothing below the folder is changed, deleted or made, but below these paths."""
    before = snapshot(folder, but)
    yield
    after = snapshot(folder, but)
    touched = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    held(not touched, f"changed, deleted or made {', '.join(map(repr, touched[:5]))}")


def snapshot(folder: Path, but: tuple[str, ...] = ()) -> dict[str, str]:
    """{path below the folder: what it is} without what is below the paths `but`."""

    def told(path: Path) -> str:
        if path.is_symlink():
            return f"link to {path.readlink()}"
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"

    names = ((path, path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*")))
    return {name: told(path) for path, name in names if not any(f"{name}/".startswith(f"{one}/") for one in but)}


def ucdr(*arguments: Any) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command line, called in this process."""
    out, err = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors=errors, write_through=True)
        for errors in ("strict", "backslashreplace")
    )
    former, sys.stdout, sys.stderr = (sys.stdout, sys.stderr), out, err
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout, sys.stderr = former
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))


def answered(result: tuple[int, str, str], *names: str) -> bool:
    """True: done.  False: refused with one line on standard error, which holds one of the names, and nothing else."""
    code, out, err = result
    if code == 0:
        return True
    held(code == 2, f"exit code {code}: {(err or out)[-300:]}")
    held(out == "", f"a refusal with {out[:200]!r} on standard output")
    one_line(err.removesuffix("\n"), *names)
    return False


def refusal(call, allowed: tuple[type[Exception], ...], *names: str):
    """(what the call returns, None), or (None, its error), which is one of those allowed and one clear line."""
    try:
        return call(), None
    except allowed as error:
        one_line(str(error), *names)
        return None, error


def one_line(text: str, *names: str) -> None:
    text = text.encode("utf-8", "backslashreplace").decode()  # as standard error shows what is not UTF-8
    held(bool(text.strip()), "a refusal without a word")
    held(len(text.splitlines()) == 1, f"a refusal of {len(text.splitlines())} lines: {text[:300]!r}")
    held(not any(category(one) == "Cc" for one in text), f"a refusal with control characters: {text[:300]!r}")
    held(len(text) <= LONGEST, f"a refusal of {len(text)} characters: {text[:200]!r} ...")
    held("Traceback" not in text, f"a traceback: {text[:300]!r}")
    held(not names or any(name in text for name in names), f"none of {names} is named: {text[:300]!r}")
