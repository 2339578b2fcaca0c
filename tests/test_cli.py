"""The command line as a user calls it."""
import json

import numpy as np
import pytest

from ucdr_core import cli, evaluate
from ucdr_core.retrieval import METRICS


@pytest.fixture
def arrays(tmp_path, random):
    q, g = random.standard_normal((9, 4)).astype(np.float32), random.standard_normal((30, 4)).astype(np.float32)
    ql, gl = np.array(["cat", "dog", "tree"] * 3), np.array(["cat", "dog", "tree"] * 10)
    np.savez(tmp_path / "q.npz", embeddings=q, labels=ql)
    np.savez(tmp_path / "g.npz", embeddings=g, labels=gl)
    return tmp_path, (q, ql, g, gl)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_evaluate_answers_one_json_object(arrays, capsys, distance):
    folder, (q, ql, g, gl) = arrays
    assert cli.main(["evaluate", "--query", str(folder / "q.npz"), "--gallery", str(folder / "g.npz"), "--distance", distance, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    expected = evaluate(q, ql, g, gl, distance)
    assert {name: answer[name] for name in METRICS} == pytest.approx(expected.mean)
    assert (answer["queries"], answer["gallery"]) == (9, 30)


def write(path, **values):
    np.savez(path, **values)


@pytest.mark.parametrize("make, message", [
    (lambda p: None, "q.npz does not exist"),
    (lambda p: p.write_bytes(b"no zip"), "q.npz is no .npz file"),
    (lambda p: write(p, features=np.zeros((2, 4))), "lacks embeddings and labels; it has features"),
    (lambda p: write(p, embeddings=np.zeros((2, 4))), "lacks labels"),
    (lambda p: write(p, embeddings=np.zeros((2, 4)), labels=np.array(["a", "b", "c"])), r"query labels must have shape \(2,\)"),
    (lambda p: write(p, embeddings=np.full((2, 4), np.nan), labels=np.array(["a", "b"])), "query embeddings hold NaN"),
    (lambda p: write(p, embeddings=np.zeros((2, 5)), labels=np.array(["a", "b"])), "5 dimensions"),
    (lambda p: write(p, embeddings=np.zeros(4), labels=np.array(["a"])), "query embeddings must have shape"),
    (lambda p: write(p, embeddings=np.zeros((2, 4)), labels=np.array(["a", None], object)), "pickled objects"),
])
def test_evaluate_names_what_is_wrong(arrays, capsys, make, message):
    folder, _ = arrays
    (folder / "q.npz").unlink()
    make(folder / "q.npz")
    assert cli.main(["evaluate", "--query", str(folder / "q.npz"), "--gallery", str(folder / "g.npz"), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    import re

    assert re.search(message, captured.err), captured.err


RUN = ["run", "cumix", "--dataset", "folders", "--protocol", "zs_sbir", "--query-domain", "sketch", "--gallery-domain", "photo",
       "--set", "size_px=32", "--set", "recipe.epochs=2", "--set", "embedding_dim=50"]


def test_run_trains_on_own_pictures(tree, capsys):
    assert cli.main([*RUN, "--data-root", str(tree), "--no-notebook", "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert 0 < answer["scores"]["zs_sbir:sketch:unseen"]["map_all"] <= 1
    assert "drawn" in captured.err  # says which split it drew and where it is stored


def test_run_goes_through_papermill(tree, capsys):
    assert cli.main([*RUN, "--data-root", str(tree), "--seed", "1", "--json"]) == 0
    from pathlib import Path

    answer = json.loads(capsys.readouterr().out)
    executed = json.loads((Path(answer["folder"]).parent / f"{answer['run']}.ipynb").read_text())
    assert any("injected-parameters" in cell["metadata"].get("tags", []) for cell in executed["cells"])


@pytest.mark.parametrize("change, message", [
    (["--query-domain", "oil"], "no domain 'oil'"), (["--query-domain", "photo"], "both 'photo'"), (["--data-root", "/nowhere"], "/nowhere is not a folder"),
    (["--set", "kappa=2"], "unknown option 'kappa'"), (["--set", "recipe.lr=fast"], "lr must be float"), (["--set", "oops"], "NAME=VALUE"),
    (["--split", "no_such"], "no split 'no_such'"), (["--split", "domainnet"], "does not have"), (["--seed", "-1"], "seed"),
])
def test_run_refuses_before_training(tree, capsys, change, message):
    assert cli.main([*RUN, "--data-root", str(tree), "--no-notebook", *change]) == 2
    assert message in capsys.readouterr().err


def test_unfitting_protocol_is_refused_before_training(tree, capsys):
    assert cli.main([*RUN, "--data-root", str(tree), "--no-notebook", "--protocol", "ucdr", "--train-domains", "sketch,photo"]) == 2
    assert "cannot be asked ucdr from sketch" in capsys.readouterr().err


def test_ucdr_on_own_pictures(tree, capsys):
    assert cli.main([*RUN, "--data-root", str(tree), "--no-notebook", "--protocol", "ucdr", "--set", "gallery_held_out=0.2", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["scores"]) == {"ucdr:sketch:unseen", "ucdr:sketch:seen+unseen"}


def test_data_status_counts(tree, capsys):
    assert cli.main(["data", "status", "folders", "--data-root", str(tree)]) == 0
    assert "144 images, 8 classes" in capsys.readouterr().out
    assert cli.main(["data", "list"]) == 0


def test_unknown_tables_are_named(capsys):
    assert cli.main(["table", "snmpnet", "table9"]) == 2
    assert "table2" in capsys.readouterr().err
    assert cli.main(["table", "nopaper", "table9"]) == 2


@pytest.mark.parametrize("verb", ["data", "run", "reproduce", "evaluate", "table", "bench"])
def test_every_help_shows_an_example(verb, capsys):
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    assert "example:\n  ucdr" in capsys.readouterr().out
