"""The gate is itself tested: a changed record, a changed number, a changed output must each make nbval fail.

Needs the runs of tier E (`make runs`); marked `gate`, so that the unit tests can run without them.
"""
import json
import os
import shutil
import subprocess
import sys

import pytest

from ucdr_core import paths
from ucdr_core.chapters import snmpnet
from ucdr_core.evidence.store import Store
from ucdr_core.evidence.record import _digest_of

pytestmark = pytest.mark.gate
CHAPTER = paths.REPOSITORY / "notebooks" / "snmpnet" / "2_tables.ipynb"


def only(cells_matching: str) -> dict:
    """The committed chapter with the parameters, the imports and the cells that contain this text."""
    notebook = json.loads(CHAPTER.read_text())
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    notebook["cells"] = [*code[:2], *(c for c in code[2:] if cells_matching in "".join(c["source"]))]
    assert len(notebook["cells"]) > 2
    return notebook


def nbval(path, home) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "-c", os.devnull, str(path)],
                          capture_output=True, text=True, env={**os.environ, "UCDR_HOME": str(home)}, cwd=path.parent)


@pytest.fixture
def copy(tmp_path):
    """A home with the runs of Table 4 (hard links: damage to one must not reach the original, so files are replaced, never edited)."""
    store = Store()
    home = tmp_path / "home"
    for spec in snmpnet.table4().specs:
        shutil.copytree(store.folder(spec), home / "runs" / spec.key)
    path = tmp_path / "table4.ipynb"
    path.write_text(json.dumps(only('table(paper, "table4")')))
    return home, path


def record_of(home, method="snmpnet"):
    spec = snmpnet.multi_domain(method, snmpnet.without("sketch"))
    return home / "runs" / spec.key / "record.json"


def test_the_gate_passes_what_is_right(copy):
    home, path = copy
    done = nbval(path, home)
    assert done.returncode == 0, done.stdout


def test_a_changed_record_fails(copy):
    home, path = copy
    file = record_of(home)
    file.write_text(file.read_text().replace('"map_all": 0.', '"map_all": 0.9', 1))
    done = nbval(path, home)
    assert done.returncode == 1 and "was altered" in done.stdout


def test_a_changed_number_fails_even_with_a_matching_digest(copy):
    home, path = copy
    file = record_of(home)
    content = json.loads(file.read_text())
    content.pop("digest")
    content["result"]["scores"]["udcdr:sketch:seen"]["map_all"] += 0.003  # the mean over three seeds moves by one in the third digit
    file.write_text(json.dumps({**content, "digest": _digest_of(content)}))
    done = nbval(path, home)
    assert done.returncode == 1 and "mismatch" in done.stdout


def test_a_missing_run_fails(copy):
    home, path = copy
    shutil.rmtree(record_of(home).parent)
    done = nbval(path, home)
    assert done.returncode == 1 and "there is no run" in done.stdout


def test_a_changed_output_fails(copy):
    home, path = copy
    text = path.read_text()
    row = next(line for line in json.loads(text)["cells"][2]["outputs"][0]["data"]["text/markdown"] if "SnMpNet|" in line)
    changed = row.replace("0.", "0.9", 1)
    path.write_text(text.replace(json.dumps(row), json.dumps(changed)))
    assert path.read_text() != text
    done = nbval(path, home)
    assert done.returncode == 1 and "mismatch" in done.stdout


def test_a_changed_fingerprint_fails(copy, tmp_path):
    """Pictures are not compared; the line beside each is."""
    home, path = copy
    source = paths.REPOSITORY / "notebooks" / "emoji.ipynb"
    notebook = json.loads(source.read_text())
    cell = next(c for c in notebook["cells"] if c["cell_type"] == "code" and "fingerprint" in "".join(c["source"]) and "sheet" in "".join(c["source"]))
    cell["outputs"][0]["text"] = ["8 classes x 9 domains, data 0000000000000000\n"]
    path = tmp_path / "emoji.ipynb"
    path.write_text(json.dumps(notebook))
    done = nbval(path, home)
    assert done.returncode == 1 and "mismatch" in done.stdout
