"""The gate: nbval executes every notebook and compares each output with the committed one (`make gate`).

Where it is red, it says which cells differ, how, and what to do.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from ucdr_core import paths
from ucdr_core.apps import publish

COMMAND = (
    "-m",
    "pytest",
    "-q",
    "--nbval",
    "--nbval-current-env",
    "--nbval-cell-timeout=600",
    "--dist",
    "loadscope",
    "-n",
    "2",
    "-p",
    "no:cacheprovider",
    "--no-header",
    "--tb=no",
    "notebooks",
)
REMEDY = """What to do:
  a number moved after you changed the code: look at the difference; if it is meant, `make notebooks`
                                         writes the outputs anew
  a run is missing or damaged: `ucdr reproduce --live` makes the live runs; tables come from ucdr_core/evidence/runs
  nothing was changed here: the committed outputs hold on other machines, so please report the cells above
                          with `ucdr bench numerics`"""


def failures(report: Path) -> list[tuple[str, str]]:
    """(cell, how it differs) of a JUnit report, in order."""
    differing = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        for kind in ("failure", "error"):
            for problem in case.iter(kind):
                text = re.sub(r"\x1b\[[0-9;]*m", "", problem.text or problem.get("message") or "")
                differing.append((f"{case.get('classname', '')} {case.get('name', '')}".strip(), text.strip()))
    return differing


def main() -> int:
    """Runs the gate on what it has not passed yet, and stamps that.  Returns the exit code."""
    before = publish.digest()
    if publish.has_passed():
        return 0
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "gate.xml"
        # Two processes with two threads each slow one another down on two cores.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, *COMMAND, f"--junitxml={report}"], cwd=paths.REPOSITORY, env=environment)
        if done.returncode == 0:
            publish.passed(before=before)
            return 0
        differing = failures(report) if report.exists() else []
    print(
        f"\nThe gate is red: {len(differing)} cells differ from what is committed, so no site is built.",
        file=sys.stderr,
    )
    for cell, text in differing:
        lines = [line for line in text.splitlines() if line.strip()]
        print(f"\n{cell}\n  " + "\n  ".join(line[:200] for line in lines[:12]), file=sys.stderr)
    print(f"\n{REMEDY}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
