"""The gate and the proof are themselves tested: a changed record, a changed output, a missing run, and a wrong method
each fail.

A mutant is a copy of the library, so that nothing of the checkout is touched.  Marked `gate`: the cached maps of the
live runs make these quick.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
from pyarrow import parquet

from ucdr_core import paths
from ucdr_core.apps import gate, verify
from ucdr_core.chapters.live import live_runs
from ucdr_core.chapters.systems import SYSTEMS
from ucdr_core.chapters.tiers import tier_of
from ucdr_core.evidence import committed
from ucdr_core.evidence.store import Store

pytestmark = pytest.mark.gate
CHAPTER = paths.REPOSITORY / "notebooks" / "snmpnet" / "2_tables.ipynb"


def excerpt(cells_matching: str) -> dict:
    """The committed chapter with the parameters, the imports and the cells that contain this text."""
    notebook = json.loads(CHAPTER.read_text())
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    notebook["cells"] = [*code[:2], *(c for c in code[2:] if cells_matching in "".join(c["source"]))]
    assert len(notebook["cells"]) == 3
    return notebook


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "table4.ipynb"
    path.write_text(json.dumps(excerpt('table(paper, "table4"')))
    return path


@pytest.fixture
def mutant(tmp_path):
    """A copy of the library, and a home with the cached maps alone."""
    shutil.copytree(paths.PACKAGE, tmp_path / "mutant" / "ucdr_core", ignore=shutil.ignore_patterns("__pycache__"))
    home = tmp_path / "home"
    home.mkdir()
    if paths.cache().exists():
        (home / "cache").symlink_to(paths.cache())
    return tmp_path / "mutant"


def run(command: list[str], library, home, cwd) -> subprocess.CompletedProcess:
    environment = {**os.environ, "UCDR_HOME": str(home), "OMP_NUM_THREADS": "1"}
    if library:
        environment["PYTHONPATH"] = str(library)
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, cwd=cwd)


def nbval(path, library=None, home=None) -> subprocess.CompletedProcess:
    command = [
        "-m",
        "pytest",
        "-q",
        "--nbval",
        "--nbval-current-env",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        str(path),
    ]
    return run(command, library, home or path.parent / "home", path.parent)


def one_run():
    """A run behind Table 4."""
    return tier_of("embedded").runs("snmpnet", "domainnet", held_out="sketch")[0]


def rewrite(library, change) -> None:
    """Changes the lines of the mutant's evidence."""
    path = library / "ucdr_core" / "evidence" / "runs" / "embedded.parquet"
    table = parquet.read_table(path)
    rows = change(table.to_pylist())
    parquet.write_table(type(table).from_pylist(rows, schema=table.schema), path)


def test_the_gate_passes_what_is_right(page):
    done = nbval(page)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("queries_too, said", [(True, "mismatch"), (False, "Notebook cell execution failed")])
def test_a_changed_score_in_the_evidence_fails(page, mutant, queries_too, said):
    """By its table where its queries were changed with it, else as evidence that contradicts itself."""

    def change(rows):
        row = next(row for row in rows if row["key"] == one_run().key)
        result, name = json.loads(row["result"]), "udcdr:sketch:seen"
        result["scores"][name]["map_all"] += 0.003  # the mean over three seeds moves by one in the third digit
        row["result"] = json.dumps(result)
        for one in row["per_query"]:
            if queries_too and one["name"] == f"{name}/map_all":
                one["values"] = [value + 30 for value in one["values"]]  # in ten thousandths
        return rows

    rewrite(mutant, change)
    done = nbval(page, mutant)
    assert done.returncode == 1 and said in done.stdout


def test_a_missing_run_fails(page, mutant):
    rewrite(mutant, lambda rows: [row for row in rows if row["key"] != one_run().key])
    done = nbval(page, mutant)
    assert done.returncode == 1 and "2 of 3 runs" in done.stdout


def test_a_damaged_run_of_the_users_own_is_never_shown(page, mutant, tmp_path):
    """It stands before the evidence, so that it must not be passed over in silence."""
    folder = tmp_path / "home" / "runs" / one_run().key
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}")
    done = nbval(page, home=tmp_path / "home")
    assert done.returncode == 1 and "is no run record" in done.stdout


def test_a_changed_output_fails(page):
    text = page.read_text()
    lines = json.loads(text)["cells"][2]["outputs"][0]["data"]["text/markdown"]
    row = next(line for line in lines if "SnMpNet|" in line)
    page.write_text(text.replace(json.dumps(row), json.dumps(row.replace("0.", "0.9", 1))))
    assert page.read_text() != text
    done = nbval(page)
    assert done.returncode == 1 and "mismatch" in done.stdout


def test_a_changed_fingerprint_fails(tmp_path):
    """Pictures are not compared; the line beside each is."""
    notebook = json.loads((paths.REPOSITORY / "notebooks" / "emoji.ipynb").read_text())
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    cell = next(c for c in code if "sheet.fingerprint" in "".join(c["source"]))
    cell["outputs"][0]["text"] = ["8 classes x 9 domains, data 0000000000000000\n"]
    path = tmp_path / "emoji.ipynb"
    path.write_text(json.dumps(notebook))
    done = nbval(path)
    assert done.returncode == 1 and "mismatch" in done.stdout


def test_a_red_gate_names_the_cells(tmp_path):
    report = tmp_path / "gate.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="notebooks/a.ipynb" name="Cell 3"><failure message="differs">'
        "Cell 3: mismatch text/markdown</failure></testcase><testcase classname='notebooks/b.ipynb' name='Cell "
        "1'/></testsuite></testsuites>"
    )
    assert gate.failures(report) == [("notebooks/a.ipynb Cell 3", "Cell 3: mismatch text/markdown")]


# ---------------------------------------------------------------------------------------------------------------- proof


def verified(library, home, *arguments) -> subprocess.CompletedProcess:
    return run(["-m", "ucdr_core", "verify", *arguments, "--jobs", "1"], library, home, home)


def test_a_run_trained_anew_agrees_with_the_evidence(mutant, tmp_path):
    key = tier_of("embedded").runs("simple", "sketchy", (1,), options={"shared": True})[0].key
    done = verified(mutant, tmp_path / "home", key)
    assert done.returncode == 0 and "1 of 1 runs agree" in done.stdout, done.stdout + done.stderr


WRONG = {  # what is wrong: (file, right, wrong, method)
    "a flipped sign in a loss": ("methods/devise.py", "margin - cosines", "margin + cosines", "devise"),
    "a leak of one test class into training": (
        "data/protocols.py",
        "seen = tuple(c for c in sorted(split.train) if c not in left_out)",
        "seen = tuple(c for c in sorted((*split.train, split.test[0])) if c not in left_out)",
        "devise",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_method_fails(mutant, tmp_path, what):
    file, right, wrong, method = WRONG[what]
    path = mutant / "ucdr_core" / file
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong, 1))
    key = tier_of("embedded").runs(method, "sketchy")[0].key
    done = verified(mutant, tmp_path / "home", key)
    assert done.returncode == 1 and "DIFFERS" in done.stderr, done.stdout + done.stderr


def test_the_sample_holds_each_system_on_each_data_set_every_live_run_and_a_drawn_part():
    tier, evidence = tier_of("embedded"), committed.runs_of("embedded")
    chosen = set(verify.sample(tier, evidence, commit="a"))
    for view in ("sketchy", "tuberlin", "quickdraw", "domainnet"):
        held_out = {"held_out": "sketch"} if view == "domainnet" else {}
        for label in SYSTEMS:
            keys = {spec.key for spec in tier.system(label, view, (0, 1, 2, 3, 4, 5), **held_out)}
            assert keys & chosen or not keys & set(evidence), (label, view)
    assert {(run.spec.method, run.spec.dataset) for run in evidence.values()} == {
        (evidence[key].spec.method, evidence[key].spec.dataset) for key in chosen
    }
    assert {spec.key for spec in live_runs()} <= chosen
    assert set(verify.sample(tier, evidence, commit="b")) != chosen


def test_every_run_of_the_tables_is_in_the_evidence():
    from ucdr_core import chapters

    store = Store(paths.home() / "nothing")
    missing = [spec.key for spec in (*chapters.runs_of("embedded"), *live_runs()) if store.get(spec) is None]
    assert missing == []
