"""The soak itself, and what the status page shows of the last one."""

import json

import pytest
import soak
from cases import Broken, Case
from kinds import FAULTS, KINDS

from ucdr_core.chapters import status


def soaked(folder, kind="split", minutes=0.02):
    one = soak.Soak(folder, minutes, 1, [kind])
    one.go()
    return one


def test_a_soak_counts_its_cases(tmp_path):
    report = soaked(tmp_path).report(finished=True)
    assert report["cases"] == sum(report["kinds"]["split"][end] for end in ("right", "refused", "failed")) > 0
    assert json.loads(json.dumps(report)) == report


def test_a_case_that_fails_is_kept_and_can_be_replayed(tmp_path, monkeypatch):
    strategy, check = KINDS["split"]

    def wrong(case, folder):
        raise Broken("a silent wrong number")

    monkeypatch.setitem(KINDS, "split", (strategy, wrong))
    one = soaked(tmp_path)
    (failure,) = one.failures.values()
    assert failure["count"] == one.report(finished=False)["failed"] > soak.KEPT == len(failure["files"])
    kept = Case.load(tmp_path / "failures" / failure["files"][0])
    assert kept.files and check(kept, tmp_path) in ("taken", "refused")


def test_an_interrupted_soak_says_what_it_did_and_leaves_the_evidence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(soak, "COMMITTED", tmp_path / "committed.json")
    monkeypatch.setattr(soak.Soak, "case", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr("sys.argv", ["soak", "--to", str(tmp_path), "--kinds", "split", "--commit"])
    assert soak.main() == 130
    assert json.loads((tmp_path / "soak.json").read_text())["finished"] is False
    assert not (tmp_path / "committed.json").exists()


def test_the_status_page_names_every_kind():
    assert set(status.SOAKED) == {*KINDS, *FAULTS}


def test_the_committed_soak_ran_to_its_end_and_nothing_failed():
    report = json.loads(soak.COMMITTED.read_text())
    assert report["finished"] and report["failed"] == 0 and set(report["kinds"]) <= set(status.SOAKED)
    text = status.soak_table().text
    assert f"{report['cases']:,}" in text and status.SOAKED["kill"] in text


@pytest.mark.parametrize("kind", [*KINDS, *FAULTS])
def test_the_committed_soak_has_cases_of_every_kind(kind):
    report = json.loads(soak.COMMITTED.read_text())
    assert kind in report["skipped"] or report["kinds"][kind]["cases"] > 0
