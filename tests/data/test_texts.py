"""Texts: names, files, folders, downloads over loopback, and every message."""

import hashlib
import math
import os
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from keras_lm.data import reading, texts
from keras_lm.data.reading import TextError, read_text
from keras_lm.data.texts import TEXTS, Text, load_text
from keras_lm.settings.config import DataConfig

ROOT = Path(__file__).parents[2]


def test_the_limit_is_inclusive_and_checked_before_a_file_is_read(tmp_path, monkeypatch):
    assert len(read_text(b"a" * 2000, max_text_mb=0.002)) == 2000
    with pytest.raises(TextError, match="2,001 bytes, but at most 0.002 MB are accepted. .* raise"):
        read_text(b"a" * 2001, max_text_mb=0.002)
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(2**40)  # a sparse file of a terabyte
    monkeypatch.setattr(Path, "open", lambda path, mode: pytest.fail("was read"))
    with pytest.raises(
        TextError, match="huge.txt has 1,099,511,627,776 bytes, but at most 50 MB are"
    ):
        load_text(str(path))


def test_a_file_of_unknown_size_is_read_to_the_limit_only():
    endless = Path("/proc/self/maps")  # of size 0, to believe the system
    if not endless.exists():
        pytest.skip("needs a file of unknown size")
    with pytest.raises(TextError, match="/proc/self/maps has at least 1,001 bytes, but at most"):
        load_text(str(endless), 0.001)


def test_the_limit_holds_for_texts_of_several_files():
    size = len(load_text("shakespeare").encode())
    assert load_text("shakespeare", size / 1_000_000)
    with pytest.raises(TextError, match=f"shakespeare has {size:,} bytes"):
        load_text("shakespeare", (size - 1) / 1_000_000)


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("alice", "[Alice's Adventures", "the happy summer days.\n"),
        ("shakespeare", "[The Tragedie of Hamlet", "IVLIVS CaeSAR.\n\n\n"),
        ("moby-dick", "[Moby Dick by Herman", "another\norphan.\n\n"),
        ("sense-and-sensibility", "[Sense and Sensibility", "THE END\n\n\n"),
    ],
)
def test_built_in_texts(name, start, end):
    text = load_text(name)
    assert text.startswith(start) and text.endswith(end)
    assert "\r" not in text and "\ufffd" not in text and len(text) > 100_000


def test_the_data_folder_s_readme_lists_every_file_as_it_is():
    rows = re.findall(
        r"^\| (\S+) \|.*\| (\d+) \| (\w{64}) \|$", (ROOT / "data/README.md").read_text(), re.M
    )
    named = {file for text in TEXTS.values() for file in text.files}
    assert {file for file, _, _ in rows} == named | {"keras_lm/data/tokenizers/gpt2.tiktoken"}
    assert named == {path.name for path in (ROOT / "data").glob("*.txt")}
    for file, size, sha256 in rows:
        content = (ROOT / ("" if "/" in file else "data") / file).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (int(size), sha256), file


def test_load_text_reads_a_file_and_prefers_a_name(tmp_path, monkeypatch):
    (tmp_path / "alice").write_bytes(b"\xef\xbb\xbfmine\r\n")
    monkeypatch.chdir(tmp_path)
    assert load_text("./alice") == load_text(str(tmp_path / "alice")) == "mine\n"
    assert len(load_text("alice")) > 100_000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "mobydick",
            r"no file 'mobydick'. Name a text file, a folder or .*did you mean moby-dick\?",
        ),
        ("Alice", r"did you mean alice\?"),
        ("nothing like it", r"no file 'nothing like it'. .* tiny-shakespeare\.$"),
        (
            "no/such/file.txt",
            "no file 'no/such/file.txt'. Name a text file, a folder or one of",
        ),
        ("", "'.' is not an ordinary file. Name a text file"),
        (str(ROOT / ".git"), "has no text files. Name a folder with .txt, .text, .md files, or a"),
        (str(ROOT / "*.nothing"), "has no text files. Name a pattern that some files match"),
        ("alice\nno/such", "no file 'no/such'. Name a text file"),
        (os.devnull, "is not an ordinary file. Name a text file"),
        ("x" * 5000, "cannot be read: File name too long. Name a text file"),
        ("a\0b", "no file 'a.x00b'"),
        ("a\ud800b", "no file 'a.ud800b'"),
    ],
)
def test_load_text_refuses_with_one_sentence(data, message):
    with pytest.raises(TextError, match=message) as caught:
        load_text(data)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 350


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("{}", "aa\nbb\ndd\ncc"),
        ("{}/*.txt", "aa\nbb"),
        ("{}/**/*.[pm]*", "print()\ncc"),
        ("{}/d.txt.gz", "dd"),
        ("{0}/b.txt\n{0}/a.txt", "bb\naa"),
    ],
)
def test_several_files_are_joined_in_a_fixed_order(books, data, text):
    data = data.format(books)
    assert load_text(data) == text
    with pytest.raises(TextError, match=" bytes, but at most 1e-06 MB"):
        load_text(data, 1e-6)


def test_names_and_files_can_be_joined(books):
    assert load_text(f"{books}/a.txt\nalice") == "aa\n" + load_text("alice")


def test_the_size_is_known_before_the_files_are_read(books, monkeypatch):
    monkeypatch.setenv("KERAS_LM_CACHE", str(books / "nothing downloaded yet"))
    assert texts.size_on_disk(f"{books}/*.txt") == 4
    assert texts.size_on_disk(f"{books}/d.txt.gz") == texts.size_on_disk(str(books)) == math.inf
    assert texts.size_on_disk("alice") == 144_395
    assert texts.size_on_disk("tiny-shakespeare") == texts.size_on_disk("no/such") == 0


def test_several_names_are_measured_before_the_first_is_read(monkeypatch):
    monkeypatch.setattr(texts, "_documents", None)
    with pytest.raises(TextError, match="The text has 72,197,500 bytes, but at most 50 MB"):
        load_text("\n".join(["alice"] * 500))


@pytest.mark.parametrize("extra", [0, 1])
def test_a_folder_or_a_pattern_has_a_bounded_number_of_files(tmp_path, monkeypatch, extra):
    monkeypatch.setattr(reading, "MOST_ENTRIES", 5)
    for index in range(5 + extra):
        (tmp_path / f"{index}.txt").write_text("ab")
    for name in (str(tmp_path), f"{tmp_path}/*.txt", f"{tmp_path}/**/*.txt"):
        if extra:
            with pytest.raises(TextError, match="must match at most 5 files and folders"):
                load_text(name)
        else:
            assert load_text(name) == "\n".join(["ab"] * 5)


def test_links_in_a_circle_end(tmp_path):
    for name in "abc":
        (tmp_path / name).symlink_to(tmp_path)
    start = time.process_time()
    with pytest.raises(TextError, match="must match at most 10,000 files and folders"):
        load_text(f"{tmp_path}/**/*")
    assert time.process_time() - start < 5


def test_a_pipe_is_not_waited_for_and_a_closed_folder_has_no_files(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(TextError, match="is not an ordinary file"):
        load_text(str(tmp_path / "pipe.txt"))
    assert texts.size_on_disk(str(tmp_path / "pipe.txt")) == 0

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.is_file", refuse)
    with pytest.raises(TextError, match="has no text files"):
        load_text(str(tmp_path))


def test_absolute_paths_mean_the_same_from_any_folder(books, monkeypatch):
    monkeypatch.chdir(books)
    data = texts.with_absolute_path(DataConfig(data="alice\na.txt\ndeep\n*.py\nnone\n-")).data
    assert data == f"alice\n{books}/a.txt\n{books}/deep\n{books}/*.py\nnone\n-"


def test_load_text_without_permission(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / ("long" * 30) / "secret.txt"
    path.parent.mkdir()
    path.write_text("text")
    monkeypatch.setattr(texts, "open_plain", refuse)
    with pytest.raises(TextError, match="secret.txt' cannot be read: Permission denied. Name a"):
        load_text(str(path))


BOOK = (
    "\ufeffvar DATASET=`\nThe Project Gutenberg EBook\n\n"
    "*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n\n\nProduced by Somebody\n\n\n"
    "TITLE\r\n\r\nIt was “good”.\n\n\nEnd of Project Gutenberg’s X\n\n"
    "*** END OF THIS PROJECT GUTENBERG EBOOK X ***\n\n*** START: FULL LICENSE ***\n`"
).encode()
PLAIN = b"  First Citizen:\nSpeak.\n"


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A loopback server of BOOK and PLAIN; `.paths` lists the requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.paths.append(self.path)
            body = {"/book.js": BOOK, "/plain.txt": PLAIN}.get(self.path)
            self.send_response(200 if body else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.paths, server.url = [], f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("KERAS_LM_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def catalogue(monkeypatch, url: str, content: bytes) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(TEXTS, "x", Text("Title X", url=url, sha256=sha256))


@pytest.mark.parametrize(
    ("path", "content", "text"),
    [
        ("/book.js", BOOK, "TITLE\n\nIt was “good”.\n"),
        ("/plain.txt", PLAIN, "  First Citizen:\nSpeak.\n"),
    ],
)
def test_a_download_is_unwrapped_and_kept(monkeypatch, server, capfd, path, content, text):
    catalogue(monkeypatch, server.url + path, content)
    assert load_text("x") == load_text("x") == text
    assert server.paths == [path]
    assert capfd.readouterr() == ("", "")


def test_a_damaged_cache_is_downloaded_again(monkeypatch, server, tmp_path):
    catalogue(monkeypatch, server.url + "/plain.txt", PLAIN)
    load_text("x")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(b"damaged")
    assert load_text("x") == PLAIN.decode()
    assert server.paths == ["/plain.txt"] * 2


@pytest.mark.parametrize(
    ("path", "content", "got"),
    [("/book.js", b"other", "other content"), ("/none", PLAIN, "status 404")],
)
def test_a_failed_download_is_one_sentence(monkeypatch, server, tmp_path, path, content, got):
    catalogue(monkeypatch, server.url + path, content)
    message = f"Expected Title X from {server.url}{path}, but got {got}; use a built-in text or"
    with pytest.raises(TextError, match=re.escape(message)) as caught:
        load_text("x")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_download_without_network_or_without_a_cache(monkeypatch, server, tmp_path):
    catalogue(monkeypatch, "http://127.0.0.1:1/closed", PLAIN)
    with pytest.raises(TextError, match="but there is no connection; use a built-in text"):
        load_text("x")
    (tmp_path / "file").write_text("a file where the cache's folder should be")
    monkeypatch.setenv("KERAS_LM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        TextError, match="Expected Title X .* but the cache cannot be written \\(Not a directory"
    ):
        load_text("x")


def test_the_catalogue_is_pinned():
    catalogue = [text for text in TEXTS.values() if text.url]
    assert len(catalogue) >= 2
    for text in catalogue:
        assert text.url.startswith("https://") and re.search(r"/[0-9a-f]{40}/", text.url)
        assert re.fullmatch("[0-9a-f]{64}", text.sha256)
