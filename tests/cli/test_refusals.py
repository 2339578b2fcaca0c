"""Every refusal is one clear line with exit code 2, and a fault of ours still shows where it is."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ucdr_core import __main__ as program
from ucdr_core import cli

RUN = ["run", "cumix", "--set", "recipe.epochs=1", "--plan"]
REFUSED = [  # arguments, words of the line
    ([], "required: VERB"),
    (["zzz"], "invalid choice: 'zzz'"),
    (["run"], "required: method"),
    (["run", "zzz"], "invalid choice: 'zzz'"),
    ([*RUN, "--zzz"], "unrecognized arguments: --zzz"),
    (["reproduce", "--jobs", "-1"], "--jobs: must be at least 1, not -1"),
    (["reproduce", "--jobs", "0"], "--jobs: must be at least 1"),
    (["reproduce", "--jobs", "x"], "--jobs: must be a whole number"),
    (["reproduce", "--gpus", "-1"], "--gpus: must be at least 0"),
    (["reproduce", "--gpus", "99"], "this machine"),
    (["reproduce", "--tier", "zzz"], "--tier: invalid choice"),
    (["reproduce", "--live", "--only", "zzz"], "no such run"),
    (["verify", "--jobs", "-1"], "--jobs: must be at least 1"),
    (["verify", "--home", ""], "--home: is empty"),
    (["verify", "--tier", "paper"], "no committed evidence"),
    (["verify", "zzz"], "has no run zzz"),
    (["figure", "snmpnet", "figure4", "--save", "x.zzz"], "must end in .png"),
    (["figure", "snmpnet", "figure4", "--save", ""], "--save: is empty"),
    (["figure", "snmpnet", "figure4", "--save", "{folder}/folder.png"], "is there and is no picture"),
    (["figure", "snmpnet", "figure4", "--save", "{folder}/text.png"], "is there and is no picture"),
    (["export", "--to", ""], "--to: is empty"),
    (["export", "--to", "."], "is the current folder"),
    (["export", "--to", "{folder}/file"], "is a file"),
    (["export", "--to", "{folder}/file/x"], "no folder that you may write to"),
    (["export", "--to", "{folder}"], "or holds it"),
    (["export", "--to", "{folder}/full"], "no earlier export"),
    (["publish"], "--to --branch --check is required"),
    (["publish", "--to", ""], "--to: is empty"),
    (["bench", "retrieval", "--device", "cuda:77"], "device 'cuda:77' is not on this machine"),
    (["bench", "retrieval", "--device", ""], "device '' is not on this machine"),
    (["bench", "retrieval", "--queries", "0"], "--queries: must be at least 1"),
    (["bench", "search", "--sizes", "10,x"], "--sizes: must be a whole number"),
    (["bench", "train", "--seconds", "0"], "--seconds: must be a number above 0"),
    (["bench", "train", "--seconds", "nan"], "--seconds: must be a number above 0"),
    (["bench", "train", "--precision", "half"], "--precision: invalid choice"),
    ([*RUN, "--device", "zzz"], "device 'zzz' is not on this machine"),
    ([*RUN, "--device", "cuda:77"], "device 'cuda:77' is not on this machine"),
    ([*RUN, "--device", "meta"], "device 'meta' is not on this machine"),
    ([*RUN, "--device", ""], "device '' is not on this machine"),
    ([*RUN, "--gpus", "0"], "--gpus: must be at least 1"),
    ([*RUN, "--seed", "-1"], "seed"),
    ([*RUN, "--seed", str(2**64)], "seed"),
    ([*RUN, "--seed", "1e5"], "--seed"),
    ([*RUN, "--set", "options."], "expected NAME=VALUE"),
    ([*RUN, "--set", "options.=3"], "expected NAME=VALUE"),
    ([*RUN, "--set", "=3"], "expected NAME=VALUE"),
    ([*RUN, "--set", ""], "expected NAME=VALUE"),
    ([*RUN, "--set", "options.a.b=3"], "expected NAME=VALUE"),
    ([*RUN, "--set", "zzz.a=3"], "expected NAME=VALUE"),
    ([*RUN, "--set", "options=3", "--set", "options.a=3"], "options was set to 3"),
    ([*RUN, "--set", "options=" + "[" * 100_000], "options must be a mapping"),
    ([*RUN, "--set", "recipe.lr=NaN"], "lr must be finite"),
    ([*RUN, "--set", "size_px=0"], "size_px"),
    ([*RUN, "--set", "seed=" + "9" * 5000], "seed must be int"),
    ([*RUN, "--set", "line\nbreak=3"], "unknown option 'line\\nbreak'"),
    ([*RUN, "--split", ""], "--split: is empty"),
    ([*RUN, "--dataset", "folders", "--data-root", ""], "--data-root: is empty"),
    ([*RUN, "--dataset", "folders", "--data-root", "{folder}/file"], "is not a folder"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "text.png").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def refused(arguments, capsys):
    """The one line with which the command line refuses."""
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" or "--json" not in arguments
    assert len(captured.err.splitlines()) == 1, captured.err
    return captured.err


@pytest.mark.parametrize("arguments, words", REFUSED, ids=lambda value: None)
def test_one_line_says_what_is_refused(folder, capsys, arguments, words):
    assert words in refused([argument.replace("{folder}", str(folder)) for argument in arguments], capsys)
    assert (folder / "file").read_text() == (folder / "full" / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize("home", ["{folder}/file", "{folder}/file/x", "~nobody-of-this-name/x", "/dev/null", "a" * 300])
@pytest.mark.parametrize(
    "arguments",
    [["run", "cumix", "--set", "recipe.epochs=1", "--no-notebook"], ["reproduce", "--live"], ["verify", "--sample"]],
    ids=lambda arguments: arguments[0],
)
def test_a_home_that_is_no_folder_is_one_line(folder, capsys, monkeypatch, home, arguments):
    monkeypatch.setenv("UCDR_HOME", home.replace("{folder}", str(folder)))
    line = refused(arguments, capsys)
    assert "home" in line.lower() or "folder" in line or "name" in line


FAULTS = {
    "full": OSError(errno.ENOSPC, "No space left on device", "/runs/x"),
    "no right": PermissionError(errno.EACCES, "Permission denied", "/runs/x"),
    "read-only": OSError(errno.EROFS, "Read-only file system", "/runs/x"),
    "a file for a folder": NotADirectoryError(errno.ENOTDIR, "Not a directory", "/runs/x"),
    "a folder for a file": IsADirectoryError(errno.EISDIR, "Is a directory", "/runs/x"),
    "long": OSError(errno.ENAMETOOLONG, "File name too long", "/runs/x"),
    "several lines": OSError(errno.EIO, "Input/output\nerror", "/runs/x\x1b[2J"),
    "no number": OSError("/runs/x is damaged"),
    "another's pipe": BrokenPipeError(errno.EPIPE, "Broken pipe", "/runs/x"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_systems_errors_are_one_line_that_names_the_file(monkeypatch, capsys, fault):
    monkeypatch.setattr("ucdr_core.data.names", lambda: (_ for _ in ()).throw(FAULTS[fault]))
    monkeypatch.setattr(cli, "_reader_has_gone", lambda: False)
    line = refused(["data", "list"], capsys)
    assert "/runs/x" in line and "Errno" not in line and "\x1b" not in line


def test_want_of_memory_is_one_line(monkeypatch, capsys):
    import torch

    for error in (
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    ):
        monkeypatch.setattr("ucdr_core.data.names", lambda error=error: (_ for _ in ()).throw(error))
        assert "memory" in refused(["data", "list"], capsys)


@pytest.mark.parametrize("error", [TypeError("ours"), KeyError("ours"), RuntimeError("ours"), RecursionError("ours")])
def test_a_fault_of_ours_shows_its_traceback(monkeypatch, error):
    monkeypatch.setattr("ucdr_core.data.names", lambda: (_ for _ in ()).throw(error))
    with pytest.raises(type(error), match="ours"):
        cli.main(["data", "list"])


def test_json_is_alone_on_stdout(capfd):
    """What Python, C libraries and child processes print while the work is done goes to stderr."""
    import ctypes

    with cli.only_json(True):
        print("from Python")
        os.write(1, b"from the system\n")
        ctypes.CDLL(None).puts(b"from C")
        subprocess.run(["echo", "from a child"], check=True)
    print(json.dumps({"alone": True}))
    captured = capfd.readouterr()
    assert json.loads(captured.out) == {"alone": True}
    assert {"from Python", "from the system", "from C", "from a child"} <= set(captured.err.splitlines())


# --------------------------------------------------------------------------------------------------------- the process


def ucdr(*arguments, **more):
    command = [sys.executable, "-m", "ucdr_core", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)


def test_an_interrupt_while_importing_is_one_line(tmp_path):
    """A module that is imported by the verb stands for the seconds that torch takes; it swallows exceptions."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, builtins\n"
        "real = builtins.__import__\n"
        "def slow(name, *rest, **more):\n"
        "    if name.startswith('numpy'):\n"
        "        print('importing', flush=True)\n"
        "        import time\n"
        "        for _ in range(600):\n"
        "            try:\n"
        "                time.sleep(.1)\n"
        "            except BaseException:\n"
        "                raise ImportError('lost') from None\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = slow\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(cli.__file__).parents[2])])
    process = ucdr("data", "list", stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "interrupted; the same command goes on from here\n")


def test_interrupts_are_exceptions_only_while_there_is_work(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    try:
        for handler in (signal.SIG_IGN, program.leave):
            signal.signal(signal.SIGINT, handler)
            program.interruptible(True)
            at_work = signal.getsignal(signal.SIGINT)
            program.interruptible(False)
            expected = handler if handler == signal.SIG_IGN else signal.default_int_handler
            assert (at_work, signal.getsignal(signal.SIGINT)) == (expected, handler)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_stdout_that_is_closed_full_or_not_read_leaves_no_traceback():
    closed = subprocess.run(
        [*"sh -c".split(), '"$0" -m ucdr_core --help >&-', sys.executable], capture_output=True, text=True
    )
    assert (closed.returncode, closed.stderr) == (0, "")
    with open("/dev/full", "w") as full:
        process = ucdr("data", "list", stdout=full)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2 and "No space left on device" in errors and len(errors.splitlines()) == 1
    reader, writer = os.pipe()
    process = ucdr("data", "list", stdout=writer)
    os.close(writer)
    os.close(reader)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
