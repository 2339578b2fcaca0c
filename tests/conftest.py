import os

import numpy as np
import pytest
import torch
from PIL import Image

from ucdr_core import data
from ucdr_core.evidence.store import Store
from ucdr_core.training.spec import TrainSpec

# Two test processes with two threads each slow one another down on two cores.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count()))

CLASSES = ("bird", "car", "cat", "dog", "fish", "house", "moon", "tree")


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """Own pictures, <domain>/<class>/<file>: three emoji sets, eight classes, six images each, 32 px, with stray
    files."""
    root = tmp_path_factory.mktemp("pictures")
    whole = data.emoji()
    for source, domain in (("openmoji_line", "sketch"), ("fluent_3d", "photo"), ("twemoji", "clipart")):
        for name in CLASSES:
            folder = root / domain / name
            folder.mkdir(parents=True)
            for row in whole.rows([source], [name])[:6]:
                stem = whole.samples.path.iloc[row].split("/")[-1].removesuffix(".webp")
                data.images.read(whole, row).resize((32, 32)).save(folder / f"{stem}.png")
    (root / "README.md").write_text("not an image")
    (root / "photo" / "cat" / ".hidden.png").write_bytes(b"")
    (root / "photo" / "cat" / "notes.txt").write_text("not an image")
    return root


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """A folder for runs and caches that the tests of one session share."""
    return tmp_path_factory.mktemp("ucdr")


@pytest.fixture(scope="session")
def record(tree, library):
    """A run that can be searched with and exported: SnMpNet on the tree, 64 px, two epochs."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("UCDR_HOME", str(library))
        yield Store().make(
            TrainSpec.from_mapping(
                {
                    "method": "snmpnet",
                    "dataset": "folders",
                    "data_root": str(tree),
                    "split": None,
                    "train_domains": ["sketch", "photo"],
                    "gallery_domain": "photo",
                    "size_px": 64,
                    "precision": "float32",
                    "embedding_dim": 50,
                    "options": {"distance": "cosine"},
                    "recipe": {"optimiser": "adam", "lr": 1e-3, "decay": "constant", "epochs": 2, "batch_size": 12},
                }
            ),
            progress=False,
        )


@pytest.fixture(autouse=True)
def own_home(library, monkeypatch, request):
    if "gate" not in request.keywords:  # the gate looks at the real runs
        monkeypatch.setenv("UCDR_HOME", str(library))


@pytest.fixture
def small(tree):
    """Values of a TrainSpec that trains in a second: random weights, 32 px."""
    return {
        "method": "snmpnet",
        "dataset": "folders",
        "data_root": str(tree),
        "split": None,
        "train_domains": ["sketch", "photo"],
        "gallery_domain": "photo",
        "weights": "imagenet",
        "size_px": 32,
        "precision": "float32",
        "embedding_dim": 50,
        "recipe": {"optimiser": "adam", "lr": 1e-3, "decay": "constant", "epochs": 4, "batch_size": 12},
    }


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def white(tmp_path):
    path = tmp_path / "white.png"
    Image.new("RGB", (8, 8), "white").save(path)
    return path
