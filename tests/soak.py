"""An hour of new cases of every kind of `tests/fuzz`, and of the world's faults: `make soak`, or

    python tests/soak.py --minutes 60 --to build/soak

It prints a line a minute and can be interrupted.  What it did goes to `soak.json` in the folder, each failing case to
`failures/`, where `UCDR_CASES=build/soak/failures pytest tests/fuzz/test_fuzz_replay.py` replays it.  The report of a
soak that ran to its end takes the place of the committed one, which the status page shows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

import faults  # noqa: E402
from cases import Broken, Case  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from kinds import FAULTS, KINDS  # noqa: E402

from ucdr_core import paths  # noqa: E402

COMMITTED = paths.PACKAGE / "evidence" / "soak.json"
LIBRARIES = ("numpy", "torch", "pillow", "hypothesis")
BATCH, FEW = 100, 10  # cases of one kind before the next; of the SLOW kinds, which take a second and more each
SLOW = ("folder", "options", *FAULTS)
KEPT = 3  # cases of one failure


class Soak:
    """Draws cases until the time is over, and counts how they end."""

    def __init__(self, folder: Path, minutes: float, number: int, kinds: list[str]):
        self.folder, self.minutes, self.number, self.kinds = folder, minutes, number, kinds
        self.ends: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
        self.failures: dict[str, dict] = {}
        self.skipped: dict[str, str] = {}
        self.started = self.told = time.monotonic()
        self.world: faults.World | None = None

    @property
    def spent(self) -> float:
        return (time.monotonic() - self.started) / 60

    def go(self) -> None:
        draw = random.Random(self.number)
        with tempfile.TemporaryDirectory(prefix="ucdr-soak-") as scratch:
            if "full disk" in self.kinds and not faults.may_mount(Path(scratch) / "mount"):
                self.kinds.remove("full disk")
                self.skipped["full disk"] = "no tmpfs may be mounted here; the cases 'file limit' stand in for it"
                print(f"full disk: skipped, {self.skipped['full disk']}", flush=True)
            if set(FAULTS) & set(self.kinds):
                self.world = faults.World(Path(scratch) / "world")
            try:
                while self.spent < self.minutes:
                    for kind in self.kinds:
                        if kind in FAULTS:
                            for _ in range(FEW):
                                self.case(faults.case_of(kind, draw.getrandbits(32)), Path(scratch))
                        else:
                            self.batch(kind, draw.getrandbits(32), Path(scratch))
            finally:
                if self.world is not None:
                    self.world.close()

    def batch(self, kind: str, number: int, scratch: Path) -> None:
        @seed(number)
        @settings(
            max_examples=FEW if kind in SLOW else BATCH,
            database=None,
            derandomize=False,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(KINDS[kind][0])
        def each(case: Case) -> None:
            self.case(case, scratch)

        each()

    def case(self, case: Case, scratch: Path) -> None:
        if self.spent >= self.minutes:
            return
        given = Case(case.kind, dict(case.files), dict(case.values))
        try:
            if case.kind in FAULTS:
                end = faults.check(case, self.world)
            else:
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    end = KINDS[case.kind][1](case, Path(folder))
        except Exception as error:
            end = "failed"
            self.failed(given, error)
        self.ends[case.kind][end] += 1
        if time.monotonic() - self.told > 60:
            self.told = time.monotonic()
            cases = sum(ends.total() for ends in self.ends.values())
            bad = sum(ends["failed"] for ends in self.ends.values())
            print(f"{self.spent:.0f} of {self.minutes:g} min: {cases:,} cases, {bad} failed", flush=True)

    def failed(self, case: Case, error: Exception) -> None:
        problem = f"{error}" if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
        places = [f for f in traceback.extract_tb(error.__traceback__) if "ucdr_core" in f.filename]
        where = f"{Path(places[-1].filename).name}:{places[-1].name}" if places else ""
        name = f"{case.kind}: {where} {re.sub(r'[0-9]+', '#', problem)[:90]}"
        failure = self.failures.setdefault(
            name, {"kind": case.kind, "problem": problem[:1000], "count": 0, "files": []}
        )
        failure["count"] += 1
        if failure["count"] <= KEPT:
            told = "".join(traceback.format_exception(error))
            failure["files"].append(case.dump(self.folder / "failures", told).name)
            print(f"FAILED {case.kind}: {where} {problem[:300]}", flush=True)

    def report(self, finished: bool) -> dict:
        kinds = {
            kind: {
                "cases": ends.total(),
                "right": ends.total() - ends["refused"] - ends["failed"],
                "refused": ends["refused"],
                "failed": ends["failed"],
            }
            for kind, ends in self.ends.items()
            if kind in self.kinds
        }
        commit = subprocess.run(
            ["git", "-C", str(paths.REPOSITORY), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True
        )
        return {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "minutes": round(self.spent, 1),
            "finished": finished,
            "seed": self.number,
            "cases": sum(one["cases"] for one in kinds.values()),
            "failed": sum(one["failed"] for one in kinds.values()),
            "kinds": kinds,
            "skipped": self.skipped,
            "failures": list(self.failures.values()),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
            "commit": commit.stdout.strip(),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--to", type=Path, default=paths.REPOSITORY / "build" / "soak", metavar="FOLDER")
    parser.add_argument("--seed", type=int, help="default: another one each time")
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS, *FAULTS], default=[*KINDS, *FAULTS])
    parser.add_argument("--commit", action="store_true", help="a report of the whole time is put in the evidence")
    options = parser.parse_args()
    warnings.simplefilter("error")
    for tolerated in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning):
        warnings.simplefilter("ignore", tolerated)
    number = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    shutil.rmtree(options.to / "failures", ignore_errors=True)
    options.to.mkdir(parents=True, exist_ok=True)
    soak, finished = Soak(options.to, options.minutes, number, list(options.kinds)), False
    try:
        soak.go()
        finished = True
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    report = soak.report(finished)
    (options.to / "soak.json").write_text(json.dumps(report, indent=1) + "\n")
    if finished and options.commit:
        shutil.copy(options.to / "soak.json", COMMITTED)
    print(
        f"{report['cases']:,} cases in {report['minutes']} min, {report['failed']} failed; {options.to / 'soak.json'}"
    )
    return 1 if report["failed"] else 0 if finished else 130


if __name__ == "__main__":
    sys.exit(main())
