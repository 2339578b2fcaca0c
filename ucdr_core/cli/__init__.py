"""The command line `ucdr`: a file for each group of verbs, imported when one of them is called."""

from __future__ import annotations

import argparse
import ctypes
import errno
import io
import os
import re
import select
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, NoReturn


class Verb(NamedTuple):
    """Where a verb's function `add_VERB(parser)` is, what it does, and an example."""

    module: str
    help: str
    example: str


VERBS = {
    "data": Verb(
        "data",
        "List the data sets; count one's pictures against what was published; fetch it; decode it once.",
        "ucdr data status sketchy",
    ),
    "run": Verb(
        "run",
        "Train one method and score it: validates the values, then executes the run notebook through papermill.",
        "ucdr run snmpnet --dataset folders --data-root PATH --query-domain quickdraw --gallery-domain photo --seed 0",
    ),
    "reproduce": Verb(
        "reproduce",
        "Make every run of a paper, or of all, that is not done yet.",
        "ucdr reproduce --paper snmpnet --tier paper --gpus 4",
    ),
    "verify": Verb(
        "reproduce",
        "Train runs anew and compare their scores with the committed evidence.",
        "ucdr verify --sample --jobs 2",
    ),
    "evaluate": Verb(
        "evaluate",
        "Score anyone's embeddings: .npz files with arrays `embeddings` (n, d) and `labels` (n,).",
        "ucdr evaluate --query q.npz --gallery g.npz --distance cosine --json",
    ),
    "table": Verb("tables", "Print a paper's table beside ours.", "ucdr table snmpnet table2 --tier paper"),
    "claims": Verb(
        "tables",
        "Print the order that a paper's table claims, as differences beside ours.",
        "ucdr claims snmpnet table2",
    ),
    "figure": Verb(
        "tables",
        "Draw a paper's figure on our runs, and print its fingerprint.",
        "ucdr figure snmpnet figure5 --tier real --save figure5.png",
    ),
    "index": Verb(
        "search",
        "Index the pictures of a folder, and of all folders in it, for `ucdr search`; again, it looks at new and "
        "changed files only.",
        "ucdr index ~/Pictures",
    ),
    "search": Verb(
        "search",
        "Find the pictures of an indexed folder that are nearest to a drawing.",
        "ucdr search doodle.png -k 12 --save result.png",
    ),
    "export": Verb(
        "publish",
        "Write a run as an ONNX model with a gallery and a parity file, for any other runtime.",
        "ucdr export 1a2b3c --to build/model",
    ),
    "publish": Verb(
        "publish",
        "Put the built site into a folder of a static host, or on a branch of the repository; refuses what the gate "
        "has not passed.",
        "ucdr publish --to /var/www/ucdr",
    ),
    "bench": Verb(
        "bench",
        "Measure this machine: exact retrieval metrics against scikit-learn; the training loop against the model alone "
        "and a straightforward loop; indexes for search against a flat one; or how far numbers move between "
        "instruction sets.",
        "ucdr bench train --device cuda",
    ),
}


class UsageError(ValueError):
    """Arguments that the command line does not take."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; `{self.prog} --help` lists what there is")


def main(arguments: list[str] | None = None, working: Callable[[bool], None] = lambda work: None) -> int:
    """The exit code: 0, 1 where runs failed, 2 for what the caller can mend, 130 for an interrupt.

    working  is told when the work begins and when it has ended
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    verb = arguments[0] if arguments and arguments[0] in VERBS else ""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show is shown in escapes
            stream.reconfigure(errors="backslashreplace")
    try:
        options = parser_for(verb).parse_args(arguments)
        working(True)
        code = options.do(options) or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        working(False)
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_has_gone():  # `ucdr ... | head` has seen enough
            return 0
        if (reason := explained(error)) is None:
            raise
        print(one_line(f"ucdr {verb}".rstrip() + f": {reason}"), file=sys.stderr)
        return 2
    finally:
        working(False)
        _settle_stdout()


def parser_for(verb: str) -> argparse.ArgumentParser:
    """A parser that names every verb and has the options of one: the others' files are not imported."""
    parser = Parser("ucdr", description="Universal cross-domain retrieval, reproducibly.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (module, text, example) in VERBS.items():
        verb_parser = verbs.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == verb:
            getattr(import_module(f"ucdr_core.cli.{module}"), f"add_{name}")(verb_parser)
    return parser


# -------------------------------------------------------------------------------------------------------------- errors


def refusals() -> tuple[type[Exception], ...]:
    """The library's own errors of the user's world.  Their modules are imported here, so that `--help` is fast."""
    from ucdr_core.apps.export import ExportError
    from ucdr_core.apps.publish import PublishError
    from ucdr_core.data import DataError
    from ucdr_core.evidence.record import RecordError
    from ucdr_core.methods import OptionError
    from ucdr_core.methods.backbones import WeightsError

    return DataError, OptionError, RecordError, WeightsError, ExportError, PublishError


def explained(error: Exception) -> str | None:
    """What one line says of an error of the user's world; None for any other, which is ours and shows its traceback."""
    if isinstance(error, (argparse.ArgumentTypeError, UsageError, *refusals())):
        return str(error)
    if isinstance(error, OSError):
        remedy = REMEDIES.get(error.errno or 0, "")
        what = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
        return what + (f"; {remedy}" if remedy else "")
    if isinstance(error, UnicodeError):
        return f"a file or a name is not UTF-8 ({error}); save or name it anew"
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error):
        return "this needs more memory than there is; a smaller batch, size or number of --jobs takes less"
    kind = type(error).__name__  # of libraries that are not imported for this
    if kind == "OutOfMemoryError":
        return "this needs more memory than the GPU has; a smaller recipe.batch_size or size_px takes less"
    if kind == "BrokenProcessPool":
        return (
            "a worker was ended from outside, for want of memory perhaps; the same command goes on, with fewer --jobs"
        )
    return None


REMEDIES = {
    errno.ENOSPC: "free some space, or set UCDR_HOME to a folder on another disk",
    errno.EDQUOT: "free some space, or set UCDR_HOME to a folder on another disk",
    errno.EACCES: "give yourself the right to it, or name another place (UCDR_HOME for runs and caches)",
    errno.EPERM: "give yourself the right to it, or name another place (UCDR_HOME for runs and caches)",
    errno.EROFS: "name a place that can be written to (UCDR_HOME for runs and caches)",
    errno.ENOTDIR: "a file stands where a folder is meant; move it, or name another place",
    errno.EEXIST: "a file stands where a folder is meant; move it, or name another place",
    errno.EISDIR: "a folder stands where a file is meant; name a file",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOENT: "check the name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


LONGEST = 2000  # characters of a line


def one_line(text: str) -> str:
    """The text without line breaks and, if it is very long, its middle, and with escapes for what a terminal would
    obey."""
    flat = re.sub(r"\s*\n\s*", " ", text.strip())
    if len(flat) > LONGEST:
        flat = f"{flat[: LONGEST // 2]} ... {flat[-LONGEST // 2 :]}"
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in flat)


def _reader_has_gone() -> bool:
    """Whether nobody reads stdout any more; a pipe to another process may have broken instead."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):
        return True


def _settle_stdout() -> None:
    """What could not be written is dropped: the interpreter would complain of it at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# ------------------------------------------------------------------------------------------------------------- options


@contextmanager
def only_json(wanted: bool) -> Iterator[None]:
    """While the work is done nothing is printed to stdout, by libraries and child processes neither: the JSON is alone
    there."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C libraries hold back would come after the JSON
        os.dup2(kept, 1)
        os.close(kept)


def whole_number(least: int) -> Callable[[str], int]:
    """An option's type: a whole number that is not below `least`."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, not {text[:40]!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {value}")
        return value

    return number


def filled(text: str) -> str:
    """An option's type: text that is not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; give a value, or leave the option out")
    return text


def folder_path(text: str) -> Path:
    """An option's type: the path of a folder."""
    return Path(filled(text))


def picture_path(*suffixes: str) -> Callable[[str], Path]:
    """An option's type: a file to save a picture in, of one of these suffixes; it may replace one of the same kind."""

    def path(text: str) -> Path:
        file = Path(filled(text))
        if file.suffix.lower() not in suffixes:
            listed = f"one of {', '.join(suffixes)}" if len(suffixes) > 1 else suffixes[0]
            raise argparse.ArgumentTypeError(f"{text!r} must end in {listed}")
        if os.path.lexists(file):
            from PIL import Image

            try:
                Image.open(file).close()
            except OSError:
                what = ", but a folder" if file.is_dir() else ""
                raise argparse.ArgumentTypeError(
                    f"{text!r} is there and is no picture{what}; give another name"
                ) from None
        return file

    return path


def can_write(folder: Path) -> None:
    """Raises OSError where no file can be made in the folder: before hours of work, not after."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()


if __name__ == "__main__":
    sys.exit(main())
