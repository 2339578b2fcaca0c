"""`ucdr evaluate` on files that are not what they should be: one line, exit code 2, and no memory taken for a lie."""

import io
import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from ucdr_core import cli
from ucdr_core.cli import evaluate

LABELS = np.array(["a", "b"])


def npy(array, header=None, version=(1, 0)) -> bytes:
    """A .npy file, with another header where one is given."""
    if header is None:
        content = io.BytesIO()
        np.lib.format.write_array(content, array, allow_pickle=True)
        return content.getvalue()
    text = header.encode()
    return (
        b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text + bytes(64)
    )


def header(shape="(2, 4)", kind="'<f8'") -> str:
    return f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n"


def pack(path, *members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)


def with_embeddings(path, content, **options):
    pack(path, ("embeddings.npy", content), ("labels.npy", npy(LABELS)), **options)


def change(path, edit):
    with_embeddings(path, npy(np.arange(8.0).reshape(2, 4)), compression=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    edit(content)
    path.write_bytes(content)


def encrypt(content):
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1


def answer(folder, capsys):
    np.savez(folder / "g.npz", embeddings=np.ones((2, 4)), labels=LABELS)
    code = cli.main(["evaluate", "--query", str(folder / "q.npz"), "--gallery", str(folder / "g.npz"), "--json"])
    return code, *capsys.readouterr()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda p: pack(p, *[("embeddings.npy", npy(np.ones((2, 4))))] * 2, ("labels.npy", npy(LABELS))),
            "more than once",
        ),
        (
            lambda p: pack(
                p, ("embeddings", b""), ("embeddings.npy", npy(np.ones((2, 4)))), ("labels.npy", npy(LABELS))
            ),
            "more than once",
        ),
        (lambda p: p.mkdir(), "is no file"),
        (lambda p: p.write_bytes(npy(np.ones((2, 4)))), "is one array"),
        (lambda p: p.write_bytes(b""), "is no .npz file"),
        (lambda p: change(p, lambda c: c.__delitem__(slice(len(c) // 2, None))), "is no .npz file, or is cut off"),
        (lambda p: change(p, encrypt), "is encrypted"),
        (lambda p: change(p, lambda c: c.__setitem__(80, c[80] ^ 255)), "is damaged: embeddings.npy cannot be read"),
        (lambda p: with_embeddings(p, npy(np.ones((2, 4)))[:-8]), "has 184 bytes, not 192 as it says"),
        (lambda p: with_embeddings(p, npy(np.ones((2, 4))) + b"more"), "has 196 bytes, not 192 as it says"),
        (lambda p: with_embeddings(p, npy(None, header("(10**18,)"))), "is damaged: embeddings.npy"),
        (lambda p: with_embeddings(p, npy(None, header("(-2, -4)"))), "as it says"),
        (lambda p: with_embeddings(p, npy(None, header("(1000000000000, 4)"))), "32,000,000,000,0"),
        (lambda p: with_embeddings(p, npy(None, header(kind="'|O'"))), "pickled objects"),
        (lambda p: with_embeddings(p, npy(None, header(kind="[('x', '<f8')]"))), "save plain numbers"),
        (lambda p: with_embeddings(p, npy(None, header(kind="'<f99'"))), "embeddings.npy cannot be read"),
        (lambda p: with_embeddings(p, npy(None, "(" * 5000)), "embeddings.npy cannot be read"),
        (lambda p: with_embeddings(p, npy(None, " " * 100_000, (2, 0))), "embeddings.npy cannot be read"),
        (lambda p: with_embeddings(p, npy(None, header(), (9, 9))), "embeddings.npy cannot be read"),
        (lambda p: with_embeddings(p, b"no array"), "embeddings.npy cannot be read"),
        (lambda p: with_embeddings(p, npy(np.ones((0, 4)))), "query embeddings must have shape"),
        (lambda p: with_embeddings(p, npy(np.ones((2, 4), complex))), "must be numbers, not complex128"),
    ],
)
def test_a_file_that_is_not_whole_is_one_line(tmp_path, capsys, make, message):
    make(tmp_path / "q.npz")
    code, out, error = answer(tmp_path, capsys)
    assert (code, out, error.count("\n")) == (2, "", 1), error
    assert "q.npz" in error
    assert message in error


def test_an_archive_that_is_larger_than_the_memory_is_refused_before_it_is_read(tmp_path, capsys, monkeypatch):
    np.savez_compressed(tmp_path / "q.npz", embeddings=np.zeros((1_000_000, 8)), labels=np.zeros(1_000_000, int))
    monkeypatch.setattr(evaluate, "_available_memory", lambda: 50_000_000)
    tracemalloc.start()
    code, _, error = answer(tmp_path, capsys)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert code == 2
    assert "holds 0.1 GB of arrays" in error
    assert peak < 10_000_000


@pytest.mark.parametrize(
    "files, expected",
    [
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 8 kB\n"}, 8192),
        ({"memory.max": "max\n", "memory.current": "5\n", "memory.stat": "inactive_file 1\n"}, 8192),
        ({"memory.max": "4000\n", "memory.current": "1500\n", "memory.stat": "anon 1\ninactive_file 300\n"}, 2800),
        ({"memory.max": "4000\n", "memory.current": "4100\n", "memory.stat": "inactive_file 0\n"}, 0),
        (
            {
                "memory/memory.limit_in_bytes": "6000\n",
                "memory/memory.usage_in_bytes": "2500\n",
                "memory/memory.stat": "total_inactive_file 500\n",
            },
            4000,
        ),
    ],
)
def test_a_container_has_no_more_memory_than_its_limit(tmp_path, files, expected):
    for name, text in {"proc/meminfo": "MemAvailable: 8 kB\n", **files}.items():
        file = tmp_path / name if name.startswith("proc") else tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert evaluate._available_memory(tmp_path) == expected


def test_a_directory_that_promises_more_than_there_is_is_refused(tmp_path, capsys):
    """A deflated byte stands for 1,032 at most."""
    size = 80_000_000

    def promise(content):
        place = content.index(b"PK\1\2")
        content[place + 24 : place + 28] = struct.pack("<I", size)

    change(tmp_path / "q.npz", promise)
    code, _, error = answer(tmp_path, capsys)
    assert code == 2
    assert "cannot hold embeddings" in error


@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f8", "<i8", "|u1", "?"])
@pytest.mark.parametrize("order", "CF")
def test_plain_arrays_of_every_kind_are_scored(tmp_path, capsys, kind, order):
    np.savez(tmp_path / "q.npz", embeddings=np.eye(2, 4).astype(kind, order=order), labels=LABELS)
    code, out, _ = answer(tmp_path, capsys)
    assert code == 0
    assert json.loads(out)["map_all"] == 0.5  # both items of the gallery are alike
