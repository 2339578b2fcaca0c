"""Fetching from a server that misbehaves, and unpacking archives that do: the right bytes or a clear error."""

import gzip
import http.server
import io
import json
import shutil
import stat
import tarfile
import threading
import zipfile
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from ucdr_core.data import DataError, download, published

BODY = np.random.default_rng(0).bytes(1_000_000)
CHANGED = np.random.default_rng(1).bytes(1_000_000)
CUT = 400_000


class Server(http.server.BaseHTTPRequestHandler):
    """Answers each request by the next of `script`, a function of the handler; the last goes on for ever."""

    script: list = []
    asked: list = []

    def log_message(self, *_):
        pass

    def do_GET(self):
        Server.asked.append(dict(self.headers))
        (Server.script.pop(0) if len(Server.script) > 1 else Server.script[0])(self)

    def answer(self, status=200, body=b"", **headers):
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


def good(body=BODY, cut=None, tag='"1"', **more):
    """A server that resumes, and may break off `cut` bytes after the beginning."""

    def play(server):
        asked, start = server.headers.get("Range"), 0
        if asked and (tag is None or server.headers.get("If-Range") == tag):
            start = int(asked[6:-1])
        if start >= len(body):
            return server.answer(416, Content_Range=f"bytes */{len(body)}", ETag=tag)
        part = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        tags = {"ETag": tag} if tag else {}
        length = {"Content_Length": str(len(body) - start)}
        server.answer(206 if start else 200, body[start:cut], **{**length, **part, **tags, **more})

    return play


def plain(status=200, body=BODY, **headers):
    return lambda server: server.answer(status, body, **headers)


def chunked(body=BODY, end=b"0\r\n\r\n"):
    blocks = b"".join(
        f"{len(body[at : at + 65536]):x}\r\n".encode() + body[at : at + 65536] + b"\r\n"
        for at in range(0, len(body), 65536)
    )

    def play(server):
        server.protocol_version = "HTTP/1.1"
        server.answer(200, blocks + end, Transfer_Encoding="chunked")

    return play


def after_cut(answer):
    """To a request that resumes, `answer`; to any other, the whole."""
    return lambda server: answer(server) if "Range" in server.headers else good()(server)


def stalled(server):
    server.send_response_only(200)
    server.send_header("Content-Length", "100")
    server.end_headers()
    threading.Event().wait(3.0)


@pytest.fixture(scope="module")
def address():
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    httpd.handle_error = lambda *_: None  # clients that have gone
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/a.zip"
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def fetched(address, tmp_path, monkeypatch):
    """Fetches a.zip from a server that answers by the script."""
    monkeypatch.setattr(download, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 1.0)

    def fetch(*script):
        Server.script, Server.asked = list(script), []
        return download.fetch(address, tmp_path / "a.zip", progress=False).read_bytes()

    return fetch


def left_from(url, folder, size=CUT, tag='"1"', body=BODY):
    """What an interrupted fetch leaves."""
    (folder / "a.zip.partial").write_bytes(body[:size])
    origin = {"url": url, "validator": tag, "total": len(BODY)}
    (folder / "a.zip.partial.json").write_text(json.dumps(origin))


ZIP = io.BytesIO()
with zipfile.ZipFile(ZIP, "w") as pack:
    pack.writestr("one.txt", "1" * 1000)

RIGHT = {
    "at once": [good()],
    "cut, then the rest": [good(cut=CUT), good()],
    "cut twice": [good(cut=CUT), good(cut=2 * CUT), good()],
    "chunked": [chunked()],
    "chunked and cut, then whole": [chunked(BODY[:CUT], b""), chunked()],
    "chunked, with a broken chunk": [chunked(BODY[:CUT], b"zz\r\n"), good()],
    "busy, then whole": [plain(503), plain(429), good()],
    "206 from another byte": [good(cut=CUT), after_cut(plain(206, BODY[7:], Content_Range="bytes 7-999999/1000000"))],
    "206 without a range": [good(cut=CUT), after_cut(plain(206, BODY[CUT:], ETag='"1"'))],
    "206 of another total": [
        good(cut=CUT),
        after_cut(plain(206, BODY[CUT:], Content_Range=f"bytes {CUT}-1999999/2000000", ETag='"1"')),
    ],
    "206 of another file": [
        good(cut=CUT),
        after_cut(plain(206, CHANGED[CUT:], Content_Range=f"bytes {CUT}-999999/1000000", ETag='"2"')),
    ],
    "206 that does not say of which file": [
        good(cut=CUT),
        after_cut(plain(206, CHANGED[CUT:], Content_Range=f"bytes {CUT}-999999/1000000")),
    ],
    "206 in parts": [
        good(cut=CUT),
        plain(206, BODY[CUT : CUT + 9], Content_Range=f"bytes {CUT}-{CUT + 8}/1000000", Content_Length="9", ETag='"1"'),
        good(),
    ],
    "206 that is longer than the rest": [
        good(cut=CUT),
        after_cut(plain(206, BODY[CUT:] + b"more", Content_Range=f"bytes {CUT}-999999/1000000", ETag='"1"')),
    ],
    "416 to what is left": [good(cut=CUT), after_cut(plain(416, b""))],
    "200 with the whole to what is left": [good(cut=CUT), plain(Content_Length="1000000")],
    "a weak tag is none": [good(CHANGED, CUT, 'W/"1"'), good(tag='W/"1"')],
    "no tag and changed meanwhile": [good(CHANGED, CUT, None), good(tag=None)],
    "changed in the second it was sent": [
        good(CHANGED, CUT, None, Last_Modified="Thu, 26 Nov 2026 20:00:00 GMT", Date="Thu, 26 Nov 2026 20:00:00 GMT"),
        good(tag=None),
    ],
    "redirected": [
        lambda server: server.answer(302, Location="/elsewhere.zip"),
        good(cut=CUT),
        lambda server: server.answer(302, Location="/elsewhere.zip"),
        good(),
    ],
    "a connection that ends before the headers": [lambda server: server.wfile.write(b"HT"), good()],
    "nothing at all, then whole": [plain(body=b"", Content_Length="0"), good()],
    "stalled, then whole": [stalled, good()],
}


@pytest.mark.parametrize("case", RIGHT)
def test_the_right_bytes_arrive(fetched, tmp_path, case):
    assert fetched(*RIGHT[case]) == BODY
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "a.zip.sha256.json"]


def test_a_server_that_resumes_is_asked_for_the_rest_alone(fetched):
    assert fetched(good(cut=CUT), good()) == BODY
    assert "Range" not in Server.asked[0] and Server.asked[1]["Range"] == f"bytes={CUT}-"
    assert Server.asked[1]["If-Range"] == '"1"'


WRONG = {
    "cut for ever": ([good(cut=CUT)], "could not be fetched: it was cut off at .* goes on from"),
    "always the wrong part": ([plain(206, BODY[7:], Content_Range="bytes 7-999999/1000000")], "answers 206"),
    "404": ([plain(404)], "answers 404"),
    "204": ([plain(204, b"")], "answers 204"),
    "416 to the whole": ([plain(416)], "answers 416"),
    "busy for ever": ([plain(503)], "could not be fetched: it answers 503"),
    "stalled for ever": ([stalled], "timed out"),
    "no length, cut": ([plain(body=BODY[:CUT])], "does not say how long it is"),
    "no length, an archive that is cut": ([plain(body=ZIP.getvalue()[:-9])], "does not say how long it is"),
    "compressed on the way": ([plain(body=gzip.compress(BODY), Content_Encoding="gzip")], "encoded .gzip."),
    "a web page": ([plain(body=b"<html>", Content_Type="text/html; charset=utf-8")], "answers with a web page"),
    "a web page that calls itself a zip": (
        [plain(body=b"\n<!DOCTYPE html><title>Virus scan warning", Content_Type="application/zip")],
        "answers with a web page",
    ),
    "redirected for ever": ([lambda server: server.answer(302, Location="/a.zip")], "answers 302"),
    "redirected to a file": ([lambda server: server.answer(302, Location="file:///etc/passwd")], "answers 302"),
    "an empty file": ([plain(body=b"", Content_Length="0")], "it sends nothing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_answers_are_clear_errors(fetched, tmp_path, case):
    script, message = WRONG[case]
    with pytest.raises(DataError, match=message):
        fetched(*script)
    assert not (tmp_path / "a.zip").exists()


def test_an_archive_of_unknown_length_is_taken_when_it_is_whole(fetched):
    assert fetched(plain(body=ZIP.getvalue())) == ZIP.getvalue()


def test_a_web_page_does_not_cost_what_was_fetched_before(fetched, address, tmp_path):
    left_from(address, tmp_path)
    with pytest.raises(DataError, match="web page"):
        fetched(plain(body=b"<html>", Content_Type="text/html"))
    assert (tmp_path / "a.zip.partial").read_bytes() == BODY[:CUT]
    assert fetched(good()) == BODY


@pytest.mark.parametrize(
    "left",
    [
        lambda url, folder: left_from(url, folder, tag='"0"', body=CHANGED),
        lambda url, folder: left_from(url, folder, body=BODY + b"more", size=1_000_004),
        lambda url, folder: left_from(url, folder, size=len(BODY)),
        lambda url, folder: left_from(url, folder, tag=""),
    ],
    ids=["of an older file", "too long", "whole", "of a server without tags"],
)
def test_what_an_earlier_fetch_left_never_spoils_the_file(fetched, address, tmp_path, left):
    left(address, tmp_path)
    assert fetched(good()) == BODY


@pytest.mark.parametrize("beside", [None, "{", '{"url": "elsewhere", "validator": "", "total": 1}'])
def test_a_partial_file_of_others_is_set_aside(fetched, tmp_path, beside):
    (tmp_path / "a.zip.partial").write_bytes(b"precious")
    if beside:
        (tmp_path / "a.zip.partial.json").write_text(beside)
    assert fetched(good()) == BODY
    assert (tmp_path / "a.zip.partial.1").read_bytes() == b"precious"


def test_two_processes_do_not_write_into_one_file(fetched, address, tmp_path):
    out = download._owned(tmp_path / "a.zip.partial", tmp_path / "a.zip.partial.json", address)
    with out, pytest.raises(DataError, match="another process fetches"):
        fetched(good())


def test_a_file_that_the_disk_has_no_space_for_is_refused_before(fetched, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match="1,000,000 bytes, for which .* has no space"):
        fetched(good())


def test_a_changed_file_and_a_damaged_sum_are_named(fetched, tmp_path):
    fetched(good())
    sums = tmp_path / "a.zip.sha256.json"
    stated = sums.read_text()
    for damaged in ("{", "[]", "{}", '{"sha256": 1, "bytes": 2}', ""):
        sums.write_text(damaged)
        with pytest.raises(DataError, match="sha256.json is damaged"):
            fetched(good())
    sums.write_text(stated)
    (tmp_path / "a.zip").write_bytes(CHANGED)
    with pytest.raises(DataError, match="has changed since it was fetched"):
        fetched(good())


# -------------------------------------------------------------------------------------------------------------- unpack

Entry = namedtuple("Entry", "name content kind", defaults=(b"x", "file"))


def archive(path, *entries):
    """An archive by the suffix of the path."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack:
            for name, content, kind in entries:
                info = zipfile.ZipInfo(name)
                types = {"file": stat.S_IFREG, "link": stat.S_IFLNK, "pipe": stat.S_IFIFO, "hard link": stat.S_IFLNK}
                info.external_attr = (types[kind] | 0o777) << 16
                pack.writestr(info, content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as pack:
        for name, content, kind in entries:
            info = tarfile.TarInfo(name)
            kinds = {"link": tarfile.SYMTYPE, "pipe": tarfile.FIFOTYPE, "hard link": tarfile.LNKTYPE}
            if kind == "file":
                info.size = len(content)
            else:
                info.type, info.linkname = kinds[kind], "/etc/passwd"
            pack.addfile(info, io.BytesIO(content) if kind == "file" else None)
    return path


def content_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


REFUSED = {
    "above": Entry("../outside.txt"),
    "absolute": Entry("/etc/outside.txt"),
    "above in the middle": Entry("a/../../outside.txt"),
    "above for Windows": Entry("a\\..\\..\\outside.txt"),
    "a drive": Entry("C:/outside.txt"),
    "no name": Entry("./"[:1]),
    "a link": Entry("link", b"/etc/passwd", "link"),
    "a hard link": Entry("link", b"/etc/passwd", "hard link"),
    "a pipe": Entry("pipe", b"", "pipe"),
    "twice": Entry("fine.txt", b"other"),
    "a file and a folder": Entry("fine.txt/b.txt"),
    "a long name": Entry("a" * 300),
    "a long path": Entry("/".join(["a" * 200] * 25)),
}


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_must_not_be_written_refuses_the_whole(tmp_path, case, suffix):
    file = archive(tmp_path / f"bad{suffix}", Entry("fine.txt"), REFUSED[case])
    with pytest.raises(DataError, match="it was not unpacked"):
        download.unpack(file, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir()) and not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
def test_names_that_differ_in_case_alone_stay_two_files(tmp_path, suffix):
    file = archive(tmp_path / f"a{suffix}", Entry("a/B.png", b"1"), Entry("a/b.png", b"2"), Entry("a/\u00e9.png"))
    download.unpack(file, tmp_path / "out")
    assert content_of(tmp_path / "out") == {"a/B.png": b"1", "a/b.png": b"2", "a/\u00e9.png": b"x"}


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
def test_the_users_files_are_not_overwritten(tmp_path, suffix):
    file = archive(tmp_path / f"a{suffix}", Entry("new.txt"), Entry("photo/1.png", b"theirs"))
    mine = tmp_path / "out" / "photo" / "1.png"
    mine.parent.mkdir(parents=True)
    for content in (b"my own", b"mine is longer"):
        mine.write_bytes(content)
        with pytest.raises(DataError, match="1.png is there, and is another"):
            download.unpack(file, tmp_path / "out")
        assert content_of(tmp_path / "out") == {"photo/1.png": content}
    mine.write_bytes(b"theirs")
    download.unpack(file, tmp_path / "out")
    assert content_of(tmp_path / "out") == {"new.txt": b"x", "photo/1.png": b"theirs"}


def test_a_link_in_the_folder_is_not_followed(tmp_path):
    file = archive(tmp_path / "a.zip", Entry("photo/1.png"))
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "photo").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="would leave its folder by a link"):
        download.unpack(file, tmp_path / "out")
    (tmp_path / "out" / "photo").unlink()
    (tmp_path / "out" / "photo").mkdir()
    (tmp_path / "out" / "photo" / "1.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    with pytest.raises(DataError, match="is there, and is another"):
        download.unpack(file, tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_file_that_has_a_folders_place_is_named(tmp_path):
    file = archive(tmp_path / "a.zip", Entry("photo/cat/1.png"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "photo").write_bytes(b"mine")
    with pytest.raises(DataError, match="'photo', which is a folder where a file is"):
        download.unpack(file, tmp_path / "out")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
def test_an_archive_larger_than_the_disk_is_refused_before(tmp_path, monkeypatch, suffix):
    file = archive(tmp_path / f"bomb{suffix}", Entry("zeros", bytes(5_000_000)))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(DataError, match="larger than the free space"):
        download.unpack(file, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_an_encrypted_archive_is_named(tmp_path):
    file = archive(tmp_path / "a.zip", Entry("secret.txt"))
    content = bytearray(file.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="is encrypted"):
        download.unpack(file, tmp_path / "out")


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
def test_a_damaged_archive_is_one_clear_error_or_right(tmp_path, suffix, random):
    """Cut anywhere, or with bytes flipped anywhere."""
    entries = [Entry(f"photo/{number}.png", random.bytes(300)) for number in range(4)]
    whole = archive(tmp_path / f"a{suffix}", *entries).read_bytes()
    wanted = {entry.name: entry.content for entry in entries}
    for number in range(60):
        damaged = bytearray(whole)
        if number % 2:
            del damaged[random.integers(len(damaged)) :]
        else:
            damaged[random.integers(len(damaged))] ^= 1 << random.integers(8)
        (tmp_path / f"a{suffix}").write_bytes(damaged)
        out = tmp_path / str(number)
        try:
            download.unpack(tmp_path / f"a{suffix}", out)
        except DataError as error:
            assert str(tmp_path) in str(error) and len(str(error)) < 600
            continue
        found = content_of(out)  # a tar archive has sums of its headers alone
        assert len(found) == 4 and (suffix == ".tar" or set(found.values()) == set(wanted.values()))


def test_an_unpacking_that_was_cut_off_does_not_count_and_goes_on(address, tmp_path, monkeypatch):
    entries = [Entry(f"png/cat/{number}.png", str(number).encode()) for number in range(6)]
    body = archive(tmp_path / "source.zip", *entries).read_bytes()
    Server.script = [good(body)]
    known = published.PUBLISHED["tuberlin"]
    archives = (published.Archive("sketches.zip", address), known.archives[1])
    monkeypatch.setitem(published.PUBLISHED, "tuberlin", published.Published(**{**vars(known), "archives": archives}))
    write, written = download._write, []

    def interrupted(member, target, *more):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(target)
        write(member, target, *more)

    monkeypatch.setattr(download, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download.download("tuberlin", tmp_path / "tb", progress=False)
    assert not (tmp_path / "tb" / ".sketches.zip.unpacked").exists()
    monkeypatch.setattr(download, "_write", write)
    lines = download.download("tuberlin", tmp_path / "tb", progress=False)
    assert "fetched from" in lines[0] and "ImageResized" in lines[1]
    assert len(content_of(tmp_path / "tb" / "png")) == 6
    assert not [path.name for path in (tmp_path / "tb").iterdir() if path.name.startswith(".unpacking")]
    (tmp_path / "tb" / "sketches.zip").unlink()
    Server.asked = []
    assert "unpacked before" in download.download("tuberlin", tmp_path / "tb", progress=False)[0]
    (tmp_path / "tb" / ".sketches.zip.unpacked").write_text("")
    assert "fetched from" in download.download("tuberlin", tmp_path / "tb", progress=False)[0] and Server.asked
