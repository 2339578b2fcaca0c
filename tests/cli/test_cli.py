"""The command line as a user calls it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ucdr_core import cli, evaluate, paths, progress
from ucdr_core.retrieval import METRICS


@pytest.fixture
def arrays(tmp_path, random):
    q, g = (random.standard_normal((count, 4)).astype(np.float32) for count in (9, 30))
    ql, gl = np.array(["cat", "dog", "tree"] * 3), np.array(["cat", "dog", "tree"] * 10)
    np.savez(tmp_path / "q.npz", embeddings=q, labels=ql)
    np.savez(tmp_path / "g.npz", embeddings=g, labels=gl)
    return tmp_path, (q, ql, g, gl)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_evaluate_answers_one_json_object(arrays, capsys, distance):
    folder, (q, ql, g, gl) = arrays
    files = ["--query", str(folder / "q.npz"), "--gallery", str(folder / "g.npz")]
    assert cli.main(["evaluate", *files, "--distance", distance, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    expected = evaluate(q, ql, g, gl, distance)
    assert {name: answer[name] for name in METRICS} == pytest.approx(expected.mean)
    assert (answer["queries"], answer["gallery"]) == (9, 30)


def write(path, **values):
    np.savez(path, **values)


def write_one(path, values):
    with open(path, "wb") as file:
        np.save(file, values)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: None, "q.npz does not exist"),
        (lambda p: p.write_bytes(b"no zip"), "q.npz is no .npz file"),
        (lambda p: write(p, features=np.zeros((2, 4))), "lacks embeddings and labels; it has features"),
        (lambda p: write(p, embeddings=np.zeros((2, 4))), "lacks labels"),
        (lambda p: write_one(p, np.zeros(3)), "is one array, not an .npz file"),
        (
            lambda p: write(p, embeddings=np.zeros((2, 4)), labels=np.array(["a", "b", "c"])),
            r"query labels must have shape \(2,\)",
        ),
        (
            lambda p: write(p, embeddings=np.full((2, 4), np.nan), labels=np.array(["a", "b"])),
            "query embeddings hold NaN",
        ),
        (lambda p: write(p, embeddings=np.zeros((2, 5)), labels=np.array(["a", "b"])), "5 dimensions"),
        (lambda p: write(p, embeddings=np.zeros(4), labels=np.array(["a"])), "query embeddings must have shape"),
        (lambda p: write(p, embeddings=np.zeros((2, 4)), labels=np.array(["a", None], object)), "pickled objects"),
    ],
)
def test_evaluate_names_what_is_wrong(arrays, capsys, make, message):
    folder, _ = arrays
    (folder / "q.npz").unlink()
    make(folder / "q.npz")
    assert cli.main(["evaluate", "--query", str(folder / "q.npz"), "--gallery", str(folder / "g.npz"), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(message, captured.err), captured.err


RUN = [
    "run",
    "cumix",
    "--dataset",
    "folders",
    "--protocol",
    "zs_sbir",
    "--query-domain",
    "sketch",
    "--gallery-domain",
    "photo",
    "--set",
    "size_px=32",
    "--set",
    "recipe.epochs=2",
    "--set",
    "embedding_dim=50",
]


def test_run_trains_on_own_pictures(tree, capsys):
    assert cli.main([*RUN, "--data-root", str(tree), "--no-notebook", "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert 0 < answer["scores"]["zs_sbir:sketch:unseen"]["map_all"] <= 1
    assert "drawn" in captured.err  # says which split it drew and where it is stored


def test_run_goes_through_papermill(tree, capsys):
    assert cli.main([*RUN, "--data-root", str(tree), "--seed", "1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    executed = json.loads((Path(answer["folder"]).parent / f"{answer['run']}.ipynb").read_text())
    assert any("injected-parameters" in cell["metadata"].get("tags", []) for cell in executed["cells"])


@pytest.mark.parametrize(
    "change, message",
    [
        (["--query-domain", "oil"], "no domain 'oil'"),
        (["--query-domain", "photo"], "both 'photo'"),
        (["--data-root", "/nowhere"], "/nowhere is not a folder"),
        (["--set", "kappa=2"], "unknown option 'kappa'"),
        (["--set", "recipe.lr=fast"], "lr must be float"),
        (["--set", "oops"], "NAME=VALUE"),
        (["--split", "no_such"], "no split 'no_such'"),
        (["--split", "domainnet"], "does not have"),
        (["--seed", "-1"], "seed"),
    ],
)
def test_run_refuses_before_training(tree, capsys, change, message):
    assert cli.main([*RUN, "--data-root", str(tree), "--no-notebook", *change]) == 2
    assert message in capsys.readouterr().err


def test_unfitting_protocol_is_refused_before_training(tree, capsys):
    assert (
        cli.main(
            [*RUN, "--data-root", str(tree), "--no-notebook", "--protocol", "ucdr", "--train-domains", "sketch,photo"]
        )
        == 2
    )
    assert "cannot be asked ucdr from sketch" in capsys.readouterr().err


def test_ucdr_on_own_pictures(tree, capsys):
    assert (
        cli.main(
            [
                *RUN,
                "--data-root",
                str(tree),
                "--no-notebook",
                "--protocol",
                "ucdr",
                "--set",
                "gallery_held_out=0.2",
                "--json",
            ]
        )
        == 0
    )
    assert set(json.loads(capsys.readouterr().out)["scores"]) == {"ucdr:sketch:unseen", "ucdr:sketch:seen+unseen"}


def test_data_status_counts(tree, capsys):
    assert cli.main(["data", "status", "folders", "--data-root", str(tree)]) == 0
    assert "144 images, 8 classes" in capsys.readouterr().out
    assert cli.main(["data", "list"]) == 0


def test_every_data_set_is_described_by_its_own_text(capsys):
    assert cli.main(["data", "list"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert "emoji" in lines["emoji-sketchy"] and "emoji" not in lines["sketchy"] and "125 classes" in lines["sketchy"]


def test_unknown_tables_are_named(capsys):
    assert cli.main(["table", "snmpnet", "table9"]) == 2
    assert "table2" in capsys.readouterr().err
    assert cli.main(["table", "nopaper", "table9"]) == 2
    assert cli.main(["claims", "snmpnet", "table9"]) == 2
    assert cli.main(["figure", "snmpnet", "figure99"]) == 2


@pytest.mark.parametrize("tier", ["embedded", "real", "paper"])
def test_a_table_and_its_claims_are_printed_on_every_tier(capsys, tier):
    for verb in ("table", "claims"):
        assert cli.main([verb, "snmpnet", "table5", "--tier", tier]) == 0
        assert ":::{table}" in capsys.readouterr().out


def test_the_runs_behind_a_table_are_listed_with_their_rows(capsys):
    assert cli.main(["table", "snmpnet", "table1", "--runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) and all(re.match("[0-9a-f]{16} ", line) for line in lines)
    assert any("/SnMpNet snmpnet on emoji-sketchy" in line for line in lines)


def test_a_figure_is_saved_and_its_fingerprint_printed(tmp_path, monkeypatch, capsys):
    from ucdr_core.chapters import show

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        show,
        "figure",
        lambda *names: SimpleNamespace(png=lambda: b"picture", fingerprint="from 3 runs " + "/".join(names)),
    )
    assert cli.main(["figure", "snmpnet", "figure4", "--tier", "real"]) == 0
    assert (tmp_path / "snmpnet-figure4-real.png").read_bytes() == b"picture"
    assert cli.main(["figure", "snmpnet", "figure4", "--save", "new/four.png"]) == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["four.png"]
    assert "from 3 runs snmpnet/figure4/real" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], ("embedded", "sample", [], None, None)),
        (["--all", "--tier", "real", "--jobs", "3"], ("real", "all", [], 3, None)),
        (["--stale", "--home", "x"], ("embedded", "stale", [], None, Path("x"))),
        (["ab", "cd"], ("embedded", "keys", ["ab", "cd"], None, None)),
    ],
)
def test_verify_hands_on_what_is_to_be_verified(monkeypatch, arguments, expected):
    calls = []
    monkeypatch.setitem(
        sys.modules, "ucdr_core.apps.verify", SimpleNamespace(verify=lambda *given: calls.append(given) or 1)
    )
    assert cli.main(["verify", *arguments]) == 1
    assert calls == [expected]


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_help_shows_an_example(verb, capsys):
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    assert f"example:\n  ucdr {verb}" in capsys.readouterr().out


def test_help_needs_no_library():
    code = "import sys; from ucdr_core import cli; cli.parser_for('').format_help(); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_seconds_of_a_benchmark_may_be_a_fraction():
    assert cli.parser_for("bench").parse_args(["bench", "train", "--seconds", "0.5"]).seconds == 0.5


@pytest.mark.parametrize("when", ["importing", "working"])
def test_an_interrupt_is_one_line(monkeypatch, capsys, when):
    def interrupted(*_):
        raise KeyboardInterrupt

    if when == "importing":
        monkeypatch.setattr(cli, "import_module", interrupted)
    else:
        monkeypatch.setattr("ucdr_core.data.names", interrupted)
    assert cli.main(["data", "list"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on from here\n"


def test_a_file_that_is_missing_is_one_line(tmp_path, capsys):
    assert cli.main(["search", str(tmp_path / "none.png"), "--folder", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_run_notebook_ships_with_the_package():
    assert paths.run_notebook().is_relative_to(paths.PACKAGE)
    assert (paths.REPOSITORY / "notebooks" / "run.ipynb").resolve() == paths.run_notebook()


# --------------------------------------------------------------------------------------------------------------
# progress


class Clock:
    """Seconds that pass where the test says so."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def test_a_log_gets_a_line_every_half_minute_and_no_control_characters(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    with progress.bar(total=935, initial=35, desc="runs", unit="run") as progress_bar:
        for number in range(85):
            clock.now += 1
            if number == 20:
                progress_bar.set_postfix(failed=2)
            progress_bar.update()
    assert capsys.readouterr().err.splitlines() == [
        "runs: 65 of 935 done, 2 failed, about 14 min left",
        "runs: 95 of 935 done, 2 failed, about 14 min left",
        "runs: 120 of 935 done, 2 failed, 85 s in all",
    ]


def test_a_short_loop_prints_nothing_into_a_log(capsys):
    assert list(progress.bar([3, 1, 2], desc="notebooks")) == [3, 1, 2]
    assert list(progress.bar(iter("ab"), desc="letters")) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_bytes_are_written_in_megabytes(monkeypatch, capsys):
    clock = Clock(monkeypatch)
    with progress.bar(total=20_000_000, desc="a.zip", unit="B", unit_scale=True) as progress_bar:
        clock.now += 40
        progress_bar.update(5_000_000)
    assert capsys.readouterr().err.splitlines()[0] == "a.zip: 5.00MB of 20.0MB done, about 2 min left"


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.bar(total=2, desc="runs") as progress_bar:
        progress_bar.update()
    assert isinstance(progress_bar, progress.tqdm) and progress_bar.n == 1
    with progress.bar(total=2, disable=True) as hidden:
        assert hidden.disable
