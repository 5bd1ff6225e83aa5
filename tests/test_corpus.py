"""Texts: encodings, names, downloads over loopback, cleaning, splitting, and every message."""

import hashlib
import math
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from keras_lm import corpus
from keras_lm.corpus import Text, TextError, check_length, clean, load_text, read_text, split
from keras_lm.tokenizer import tokenize

ROOT = Path(corpus.__file__).parent.parent


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("né".encode(), "né"),
        ("né".encode("utf-8-sig"), "né"),
        (b"\xff\xfe" + "né😀".encode("utf-16-le"), "né😀"),
        (b"\xfe\xff" + "né😀".encode("utf-16-be"), "né😀"),
        ("a\ufeffb".encode(), "a\ufeffb"),
        (b"a\r\nb\rc\n\r\n\rd", "a\nb\nc\n\n\nd"),
        (b"\xff\xfe" + "a\r\nb".encode("utf-16-le"), "a\nb"),
        (b"aa", "aa"),
        (b"a\n", "a\n"),
        (b"tab\t\x0c\x1b", "tab\t\x0c\x1b"),
    ],
)
def test_read_text(source, text):
    assert read_text(source) == text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "but x.txt is empty; choose a longer one"),
        (b"\xef\xbb\xbf", "x.txt is empty"),
        (b"\xff\xfe", "x.txt is empty"),
        (b" \r\n\t", "x.txt is blank"),
        (b"a", "x.txt has one character only"),
        ("日".encode(), "x.txt has one character only"),
        (b"ab\0c", "x.txt has a NUL byte at offset 2; choose a text file"),
        ("ab".encode("utf-16-le"), "x.txt has a NUL byte at offset 1"),
        ("a text".encode("utf-16-le"), "that is not UTF-16 without a byte order mark, or save"),
        (
            "a text".encode("utf-16-be"),
            "not UTF-16 without a byte order mark, or",
        ),
        ("a text".encode("utf-32"), "NUL byte at offset 2; choose a text file that is not UTF-32,"),
        (b"a\xed\xa0\x80b", "byte 0xed at offset 1, which looks like a lone surrogate"),
        (b"it\x92s", "byte 0x92 at offset 2, which looks like Windows-1252"),
        (b"\x89PNG\r\n\x1a\n\0\0", "x.txt has a NUL byte at offset 8"),
        ("ab\0".encode("utf-16"), "x.txt has a NUL character at position 2"),
        (b"caf\xe9 au", "x.txt has the byte 0xe9 at offset 3, which looks like Latin-1"),
        (b"\xef\xbb\xbfcaf\xe9 au", "x.txt has the byte 0xe9 at offset 6"),
        (b"ab\xc3", "x.txt has the byte 0xc3 at offset 2"),
        (b"ab\xed\xa0\x80", "x.txt has the byte 0xed at offset 2"),
        (b"\xff\xfea\0b", "x.txt has the byte 0x62 at offset 4, which looks like a damaged UTF-16"),
        (b"\xff\xfea\0\x00\xd8b\0", "offset 4, which looks like a damaged UTF-16"),
    ],
)
def test_read_text_refuses_with_one_sentence(source, message):
    with pytest.raises(TextError, match=re.escape(message)) as caught:
        read_text(source, "x.txt")
    assert str(caught.value).startswith("Expected ") and "\n" not in str(caught.value)


def test_the_limit_is_inclusive_and_checked_before_a_file_is_read(tmp_path, monkeypatch):
    assert len(read_text(b"a" * 2000, max_text_mb=0.002)) == 2000
    with pytest.raises(TextError, match="at most 0.002 MB, but the text has 2,001 bytes; .* raise"):
        read_text(b"a" * 2001, max_text_mb=0.002)
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(2**40)  # a sparse file of a terabyte
    monkeypatch.setattr(Path, "open", lambda path, mode: pytest.fail("was read"))
    with pytest.raises(
        TextError, match="at most 50 MB, but .*huge.txt has 1,099,511,627,776 bytes"
    ):
        load_text(str(path))


def test_a_file_that_does_not_tell_its_size_is_read_to_the_limit_only():
    endless = Path("/proc/self/maps")  # of size 0, to believe the system
    if not endless.exists():
        pytest.skip("needs a file of unknown size")
    with pytest.raises(TextError, match="at most 0.001 MB, but /proc/self/maps has 1,001 bytes"):
        load_text(str(endless), 0.001)


def test_the_limit_holds_for_texts_of_several_files():
    size = len(load_text("shakespeare").encode())
    assert load_text("shakespeare", size / 1_000_000)
    with pytest.raises(TextError, match=f"but shakespeare has {size:,} bytes"):
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


def test_data_readme_tells_the_truth():
    rows = re.findall(
        r"^\| (\S+) \|.*\| (\d+) \| (\w{64}) \|$", (ROOT / "data/README.md").read_text(), re.M
    )
    named = {file for text in corpus.BUILT_IN.values() for file in text.files}
    assert {file for file, _, _ in rows} == named | {"keras_lm/gpt2.tiktoken"}
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
        ("mobydick", r"no file 'mobydick'; name a text file or one of .*did you mean moby-dick\?"),
        ("Alice", r"did you mean alice\?"),
        ("nothing like it", r"no file 'nothing like it'; .* tiny-shakespeare\.$"),
        ("no/such/file.txt", "no file 'no/such/file.txt'; name a text file or one of alice, "),
        ("", "'.' is a folder; name a text file"),
        (str(ROOT), "is a folder; name a text file"),
        (os.devnull, "is no ordinary file; name a text file"),
        ("x" * 5000, "gives: File name too long; name a text file"),
        ("a\0b", "no file 'a.x00b'"),
        ("a\ud800b", "no file 'a.ud800b'"),
    ],
)
def test_load_text_refuses_with_one_sentence(data, message):
    with pytest.raises(TextError, match=message) as caught:
        load_text(data)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 350


def test_load_text_without_permission(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / ("long" * 30) / "secret.txt"
    path.parent.mkdir()
    path.write_text("text")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TextError, match="secret.txt' gives: Permission denied; name a text file"):
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
    """A loopback server of BOOK and PLAIN; `.paths` lists what was asked for."""

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
    monkeypatch.setattr(corpus, "CATALOGUE", {"x": Text("Title X", url=url, sha256=sha256)})


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
    ("path", "content", "came"),
    [("/book.js", b"other", "other content"), ("/none", PLAIN, "status 404")],
)
def test_a_failed_download_is_one_sentence(monkeypatch, server, tmp_path, path, content, came):
    catalogue(monkeypatch, server.url + path, content)
    message = f"Expected Title X from {server.url}{path}, but {came} came; use a built-in text or"
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
    for text in corpus.CATALOGUE.values():
        assert text.url.startswith("https://") and re.search(r"/[0-9a-f]{40}/", text.url)
        assert re.fullmatch("[0-9a-f]{64}", text.sha256)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("The Man, who?", "the man , who ?"),
        ("Wait...  what?!", "wait . . . what ? !"),
        ("a  ,  b\n\n .c", "a , b\n\n .c"),
        ("“Señor”—it's 3;\ttab", "seorits 3tab"),
        ("A\nB", "a\nb"),
    ],
)
def test_classic_cleaning(text, cleaned):
    assert clean(text, "classic") == cleaned
    assert clean(cleaned, "classic") == cleaned
    assert clean(text, "none") == text


def test_clean_refuses():
    with pytest.raises(TextError, match="one of none, classic, but 'strong' came"):
        clean("text", "strong")
    with pytest.raises(TextError, match="none of them; set cleaning to none"):
        clean("Привет, мир!", "classic")


@pytest.mark.parametrize("length", [0, 1, 4, 29, 100, 1001])
@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.29, 0.5, 0.999])
@pytest.mark.parametrize("make", [list, np.array])
def test_split_is_a_cut(length, fraction, make):
    train, validation = split(make(range(length)), fraction)
    assert [*train, *validation] == list(range(length))
    assert abs(len(validation) - length * fraction) <= 0.5 or len(validation) == 1
    assert (len(validation) > 0) == (fraction > 0 and length > 0)


def test_split_takes_the_last_tenth():
    assert split(list(range(30)), 0.1) == (list(range(27)), [27, 28, 29])


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, math.nan])
def test_split_refuses(fraction):
    with pytest.raises(TextError, match="from 0 to below 1, but .* came; 0.1 is usual"):
        split([1, 2], fraction)


@pytest.mark.parametrize("train", [64, 65, 66])
@pytest.mark.parametrize("validation", [0, 1, 64, 65, 66])
def test_check_length_needs_one_token_more_than_the_context(train, validation):
    if train >= 65 and validation in (0, 65, 66):
        check_length(range(train), np.zeros(validation), 64)
        return
    message = f"needs 65 tokens in each part, .* {train} for training and {validation} for valid"
    with pytest.raises(TextError, match=message):
        check_length(range(train), np.zeros(validation), 64)


@pytest.mark.parametrize(
    ("ids", "entropy"),
    [
        ([7] * 5, 0.0),
        ([0, 1], math.log(2)),
        ([0, 1, 2, 3] * 9, math.log(4)),
        ([5, 5, 5, 9], 2 * math.log(2) - 0.75 * math.log(3)),
    ],
)
def test_unigram_entropy(ids, entropy):
    assert corpus.unigram_entropy(ids) == pytest.approx(entropy)
    assert math.copysign(1, corpus.unigram_entropy(np.array(ids))) == 1


def test_unigram_entropy_of_nothing():
    with pytest.raises(TextError, match="at least one token"):
        corpus.unigram_entropy([])


def test_no_tensorflow_is_loaded():
    code = "import sys, keras_lm.corpus, keras_lm.tokenizer; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "keras_lm.corpus" in loaded.stdout.split()
    assert not {"tensorflow", "keras", "streamlit"} & set(loaded.stdout.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ήταν ένας άνθρωπος που ζούσε δίπλα στη θάλασσα.\n" * 3, "Ήταν ένας άνθρωπος"),
        (
            "[A Title]\n\nCHAPTER I\n\nThere was once a king with twelve daughters.\n",
            "There was once",
        ),
        ("one two three four\n" * 9, "one two three"),
        ("あ" * 99, "あ" * 30),
    ],
)
def test_a_text_s_first_words_are_its_own(text, words):
    tokenizer, ids = tokenize("char", text)
    prepared = corpus.Corpus(tokenizer, np.array(ids), np.array([], "int32"))
    assert prepared.first_words == words
    assert tokenizer.unknown(words) == []
