"""The command line `ucdr`: a file for each group of verbs, imported when one of them is called."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext, redirect_stdout
from importlib import import_module
from typing import NamedTuple


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


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, 1 where runs failed, 2 for what the caller can mend, 130 for an interrupt."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verb = arguments[0] if arguments and arguments[0] in VERBS else ""
    try:
        options = parser_for(verb).parse_args(arguments)
        code = options.do(options) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `ucdr ... | head` has seen enough
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as error:
        if not isinstance(error, _user_errors()):
            raise
        print(f"ucdr {verb}: {error}", file=sys.stderr)
        return 2


def parser_for(verb: str) -> argparse.ArgumentParser:
    """A parser that names every verb and has the options of one: the others' files are not imported."""
    parser = argparse.ArgumentParser("ucdr", description="Universal cross-domain retrieval, reproducibly.")
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


def only_json(wanted: bool):
    """While the work is done nothing but errors and progress is printed, to stderr: the JSON is alone on stdout."""
    return redirect_stdout(sys.stderr) if wanted else nullcontext()


def _user_errors() -> tuple[type[Exception], ...]:
    """What one line explains.  Imported when something was raised, so that `--help` is fast."""
    from ucdr_core.apps.export import ExportError
    from ucdr_core.apps.publish import PublishError
    from ucdr_core.data import DataError
    from ucdr_core.evidence.record import RecordError
    from ucdr_core.methods import OptionError
    from ucdr_core.methods.backbones import WeightsError

    return DataError, OptionError, RecordError, WeightsError, ExportError, PublishError, FileNotFoundError


if __name__ == "__main__":
    sys.exit(main())
