"""The world's faults: processes that are killed, disks that are full, files whose bits flip.

Commands run in children of a process that has imported the library already (`python faults.py`), so that a case takes
a second.  What each command answers without a fault is the reference.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import strategies
from cases import Broken, Case, held, one_line, unchanged
from PIL import Image

DOMAINS, PICTURES, SIDE = ("photo", "sketch"), 4, 40
SPEC = ("size_px=32", "precision=float32", "embedding_dim=50", "recipe.epochs=4", "recipe.batch_size=12")
SPACE_MB = 64  # of a disk that has room for everything


def serve() -> None:
    """Reads a command a line as JSON, answers the process that runs it, and then how that ended.

    What the commands import is imported here, once.
    """
    from ucdr_core import cli
    from ucdr_core.apps import search
    from ucdr_core.cli import data, run  # noqa: F401
    from ucdr_core.evidence.code import code_digest
    from ucdr_core.evidence.store import Store
    from ucdr_core.methods.backbones import trunk

    trunk("efficientnet_lite0")  # imports timm, and the digest reads the sources: five seconds of every run
    code_digest("simple")

    Store.make.__kwdefaults__["checkpoint_seconds"] = 0.0  # whatever takes seconds: states and indexes are kept at once
    search.BATCH, search.SAVE_SECONDS = 4, 0.0
    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        pipes = [os.pipe() for _ in range(2)]  # a limit to the size of files is none to what is printed
        child = os.fork()
        if not child:
            os.setsid()
            os.environ["UCDR_HOME"] = command["home"]
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for stream, (_, end) in enumerate(pipes, 1):
                os.dup2(end, stream)
            sys.stdout, sys.stderr = (open(one, "w", encoding="utf-8", closefd=False) for one in (1, 2))
            if command["file_bytes"]:
                resource.setrlimit(resource.RLIMIT_FSIZE, (command["file_bytes"],) * 2)
            code = 1
            try:
                code = cli.main(command["arguments"])
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            except BaseException:
                sys.excepthook(*sys.exc_info())
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(child, flush=True)
        for _, end in pipes:
            os.close(end)
        with ThreadPoolExecutor(len(pipes)) as pool:
            printed = list(pool.map(_read, (start for start, _ in pipes)))
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *printed]), flush=True)


def _read(pipe: int) -> str:
    with open(pipe, "rb") as stream:
        return stream.read().decode("utf-8", "replace")


@dataclass
class Ended:
    """How a command ended: a negative code is the signal that killed it."""

    code: int
    out: str
    err: str
    seconds: float


@dataclass
class World:
    """Pictures of a user, and what the commands answer on them without a fault."""

    root: Path
    server: subprocess.Popen = field(init=False)
    answers: dict[str, Any] = field(init=False, default_factory=dict)
    seconds: dict[str, float] = field(init=False, default_factory=dict)
    run: str = field(init=False, default="")

    def __post_init__(self):
        self.pictures, self.drawing = self.root / "pictures", self.root / "drawing.png"
        for number, domain in enumerate(DOMAINS):
            for place, name in enumerate(strategies.CLASSES):
                (self.pictures / domain / name).mkdir(parents=True)
                for one in range(PICTURES):
                    pixels = strategies.shape(100 * place + 10 * number + one, (SIDE, SIDE))
                    Image.fromarray(pixels).save(self.pictures / domain / name / f"{one}.png")
        Image.fromarray(strategies.shape(1, (SIDE, SIDE))).save(self.drawing)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        held(self.server.stdout.readline() == "ready\n", "the library cannot be imported")
        self.whole = self.root / "whole"
        for name in ("run", "index", "search", "pack"):
            ended = self.call(name, self.whole)
            held(ended.code == 0, f"{name} fails without a fault: {ended.err[-500:]}")
            if name == "run":
                self.run = json.loads(ended.out)["run"]
            self.answers[name], self.seconds[name] = self.answer(name, ended, self.whole), ended.seconds

    def close(self) -> None:
        self.server.communicate()  # closes its input, which ends it

    def arguments(self, name: str) -> list[str]:
        photos, drawing = str(self.pictures / "photo"), str(self.drawing)
        own = ["--dataset", "folders", "--data-root", str(self.pictures)]
        return {
            "run": [
                "run",
                "simple",
                *own,
                "--no-notebook",
                "--json",
                *(word for one in SPEC for word in ("--set", one)),
            ],
            "index": ["index", photos, "--run", self.run],
            "search": ["search", drawing, "--folder", photos, "--run", self.run, "-k", "5", "--json"],
            "pack": ["data", "pack", "folders", "--data-root", str(self.pictures), "--size-px", "32"],
        }[name]

    def call(self, name: str, home: Path, kill_after: float | None = None, file_bytes: int = 0) -> Ended:
        command = {"arguments": self.arguments(name), "home": str(home), "file_bytes": file_bytes}
        started = time.monotonic()
        print(json.dumps(command), file=self.server.stdin, flush=True)
        child = int(self.server.stdout.readline())

        def kill() -> None:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass

        timer = threading.Timer(120 if kill_after is None else kill_after, kill)
        timer.start()
        code, out, err = json.loads(self.server.stdout.readline())
        timer.cancel()
        timer.join()
        return Ended(code, out, err, time.monotonic() - started)

    def answer(self, name: str, ended: Ended, home: Path) -> Any:
        """What a command that was done says, without where it was done."""
        if name in ("run", "search"):
            answer = json.loads(ended.out)
            return {"run": answer["run"], "scores": answer["scores"]} if name == "run" else answer
        lines = ended.out.replace(str(home), "HOME").splitlines()  # others say what was found damaged and made anew
        return [line.partition(" (")[0] for line in lines if " pictures " in line]

    def judge(self, name: str, ended: Ended, home: Path, healthy: bool = False) -> str:
        """Done with the reference's answer, or, where the world is not healthy, refused in one line."""
        if ended.code == 2 and not healthy:
            lines = [line for line in ended.err.splitlines() if line.startswith("ucdr ")]
            held("Traceback" not in ended.err, f"{name}: a traceback: {ended.err[-400:]}")
            held(len(lines) == 1 and ended.err.splitlines()[-1] == lines[0], f"{name}: refuses in {ended.err[-400:]!r}")
            one_line(lines[0], str(self.root))
            return "refused"
        held(ended.code == 0, f"{name}: exit code {ended.code}: {ended.err[-400:]}")
        answer = self.answer(name, ended, home)
        held(
            answer == self.answers[name],
            f"{name}: answers {answer!r:.300}, without a fault {self.answers[name]!r:.300}",
        )
        return "done"


def case_of(kind: str, seed: int) -> Case:
    """What is done, in which order and when, follows from the seed."""
    return Case(kind, {}, {"seed": seed})


def check(case: Case, world: World) -> str:
    """One case of a fault, drawn by its seed, in a home of its own."""
    draw, home = random.Random(case.values["seed"]), world.root / "home"
    shutil.rmtree(home, ignore_errors=True)
    case.values["did"] = did = []
    try:
        with unchanged(world.root, but=("home", "whole")):
            return {"kill": _kill, "flip": _flip, "full disk": _full_disk, "file limit": _file_limit}[case.kind](
                world, home, draw, did
            )
    except Broken as error:
        raise Broken(f"{error} after {'; '.join(did)}") from error


def _begin(world: World, home: Path, draw: random.Random, did: list[str], share: float) -> None:
    """The home is empty, or for a share of the cases a copy of the whole one without some of its files."""
    if draw.random() < share:
        shutil.copytree(world.whole, home, symlinks=True)
        did.append("all was done before")
        for part in draw.sample(("runs", "cache", "indexes", "cache/maps", "cache/images"), draw.choice((0, 1, 2))):
            shutil.rmtree(home / part, ignore_errors=True)
            did.append(f"without {part}")


def _command(world: World, home: Path, draw: random.Random) -> str:
    """Any that can be asked: an index needs the run."""
    return draw.choice(("run", "run", "pack", *(("index",) if (home / "runs" / world.run).is_dir() else ())))


def _kill(world: World, home: Path, draw: random.Random, did: list[str]) -> str:
    _begin(world, home, draw, did, 0.5)
    for _ in range(draw.randint(1, 3)):
        name = _command(world, home, draw)
        moment = draw.uniform(0, 1.1 * world.seconds[name])
        did.append(f"{name} killed at {moment:.2f} s")
        ended = world.call(name, home, kill_after=moment)
        if ended.code != -signal.SIGKILL:
            world.judge(name, ended, home, healthy=True)
    return _all_again(world, home, did, healthy=True)


def _flip(world: World, home: Path, draw: random.Random, did: list[str]) -> str:
    _begin(world, home, draw, did, 0.7)
    if not home.exists() or draw.random() < 0.3:
        moment = draw.uniform(0.3, 1) * world.seconds["run"]
        shutil.rmtree(home / "runs", ignore_errors=True)
        did.append(f"run killed at {moment:.2f} s")
        world.call("run", home, kill_after=moment)
    files = sorted(path for path in home.rglob("*") if path.is_file() and path.stat().st_size)
    for path in draw.sample(files, min(len(files), draw.choice((1, 1, 2, 3)))):
        did.append(f"{damage(path, draw)} in {path.relative_to(home)}")
    return _all_again(world, home, did, healthy=False)


def damage(path: Path, draw: random.Random) -> str:
    """Flips a bit of the file, cuts it off, or empties it; says what it did."""
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content))
    what = draw.choice(("flip", "flip", "flip", "cut", "empty", "zeros"))
    if what == "flip":
        content[place] ^= 1 << draw.randrange(8)
    elif what == "zeros":
        content[place : place + 4096] = bytes(len(content[place : place + 4096]))
    else:
        del content[0 if what == "empty" else place :]
    path.write_bytes(content)
    return f"{what} at byte {place}"


def _full_disk(world: World, home: Path, draw: random.Random, did: list[str]) -> str:
    """On a tmpfs with too little room, which is then given more."""
    home.mkdir()
    size = draw.randint(16, round(1.1 * _kilobytes(world.whole)))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "ucdr-soak", str(home)], check=True)
    try:
        did.append(f"a disk of {size} kB")
        for name in ("run", "index") if draw.random() < 0.7 else ("pack", "run"):
            if name == "index" and not (home / "runs" / world.run).is_dir():
                break
            did.append(name)
            world.judge(name, world.call(name, home), home)
        subprocess.run(["mount", "-o", f"remount,size={SPACE_MB}m", str(home)], check=True)
        did.append("a larger disk")
        return _all_again(world, home, did, healthy=True)
    finally:
        subprocess.run(["umount", "-l", str(home)], check=True)


def may_mount(folder: Path) -> bool:
    """Whether this process may mount a tmpfs."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "ucdr-soak", str(folder)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


def _file_limit(world: World, home: Path, draw: random.Random, did: list[str]) -> str:
    """No file may be larger than so much, as on a disk that is full; then the limit is lifted."""
    largest = max(path.stat().st_size for path in world.whole.rglob("*") if path.is_file())
    _begin(world, home, draw, did, 0.3)
    for _ in range(draw.randint(1, 2)):
        name, limit = _command(world, home, draw), round(10 ** draw.uniform(0.5, len(str(largest))))
        did.append(f"{name} with files of at most {limit} bytes")
        world.judge(name, world.call(name, home, file_bytes=limit), home)
    return _all_again(world, home, did, healthy=True)


def _all_again(world: World, home: Path, did: list[str], healthy: bool) -> str:
    """Every command, without a fault, and a training from what they have cached of the pictures."""
    ends = set()
    for name in ("run", "index", "search", "pack", "run"):
        if name == "run" and ends:
            for part in ("runs", "cache/maps"):
                shutil.rmtree(home / part, ignore_errors=True)
        did.append(name)
        ends.add(world.judge(name, world.call(name, home), home, healthy))
        if "refused" in ends:
            break
    return max(ends)


def _kilobytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1024 + 1


if __name__ == "__main__":
    serve()
