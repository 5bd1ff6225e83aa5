"""Texts: encodings, names, downloads over loopback, cleaning, splitting, and every message."""

import gzip
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

from keras_lm.data import corpus
from keras_lm.data.corpus import Text, TextError, check_length, clean, load_text, read_text, split
from keras_lm.data.tokenizers import tokenize
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


def test_a_file_that_does_not_tell_its_size_is_read_to_the_limit_only():
    endless = Path("/proc/self/maps")  # of size 0, to believe the system
    if not endless.exists():
        pytest.skip("needs a file of unknown size")
    with pytest.raises(TextError, match="/proc/self/maps has 1,001 bytes, but at most 0.001 MB"):
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


def test_data_readme_tells_the_truth():
    rows = re.findall(
        r"^\| (\S+) \|.*\| (\d+) \| (\w{64}) \|$", (ROOT / "data/README.md").read_text(), re.M
    )
    named = {file for text in corpus.BUILT_IN.values() for file in text.files}
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
        ("", "'.' is no ordinary file. Name a text file"),
        (str(ROOT / ".git"), "has no text files. Name a folder with .txt, .text, .md files, or a"),
        (str(ROOT / "*.nothing"), "has no text files. Name a pattern that some files match"),
        ("alice\nno/such", "no file 'no/such'. Name a text file"),
        (os.devnull, "is no ordinary file. Name a text file"),
        ("x" * 5000, "cannot be read: File name too long. Name a text file"),
        ("a\0b", "no file 'a.x00b'"),
        ("a\ud800b", "no file 'a.ud800b'"),
    ],
)
def test_load_text_refuses_with_one_sentence(data, message):
    with pytest.raises(TextError, match=message) as caught:
        load_text(data)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 350


@pytest.fixture
def books(tmp_path):
    """A folder with texts, packed ones, others, and hidden ones."""
    contents = {
        "b.txt": "bb",
        "a.txt": "aa",
        "deep/er/c.md": "cc",
        "d.txt.gz": gzip.compress(b"dd"),
        "code.py": "print()",
        ".hidden.txt": "no",
        ".git/e.txt": "no",
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


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


@pytest.mark.parametrize(("separator", "between"), [("<|end|>", "<|end|>"), (r"\n\n", "\n\n")])
def test_a_separator_stands_between_files_and_outlives_cleaning(books, separator, between):
    names = f"{books}/a.txt\n{books}/b.txt\n{books}/c.txt"
    (books / "c.txt").write_text(f"C{between}D!")
    data = DataConfig(names, separator=separator, validation_fraction=0.0, cleaning="classic")
    prepared = corpus.prepare(data, 1)
    assert prepared.tokenizer.decode(prepared.train) == between.join(["aa", "bb", "c", "d !"])
    assert (prepared.train == prepared.tokenizer.stop).sum() == 3
    with pytest.raises(ValueError, match="must occur in the text"):
        corpus.prepare(DataConfig(f"{books}/a.txt", separator=separator), 1)


def test_names_and_files_can_be_joined(books):
    assert load_text(f"{books}/a.txt\nalice") == "aa\n" + load_text("alice")


def test_the_size_is_known_before_the_files_are_read(books):
    assert corpus.size_on_disk(f"{books}/*.txt") == 4
    assert corpus.size_on_disk(f"{books}/d.txt.gz") == corpus.size_on_disk(str(books)) == math.inf
    assert corpus.size_on_disk("alice") == 144_395
    assert corpus.size_on_disk("tiny-shakespeare") == corpus.size_on_disk("no/such") == 0


def test_absolute_paths_mean_the_same_from_any_folder(books, monkeypatch):
    monkeypatch.chdir(books)
    data = corpus.with_absolute_path(DataConfig(data="alice\na.txt\ndeep\n*.py\nnone\n-")).data
    assert data == f"alice\n{books}/a.txt\n{books}/deep\n{books}/*.py\nnone\n-"


def test_load_text_without_permission(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / ("long" * 30) / "secret.txt"
    path.parent.mkdir()
    path.write_text("text")
    monkeypatch.setattr(Path, "open", refuse)
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
    with pytest.raises(TextError, match="one of none, classic, but got 'strong'"):
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
    with pytest.raises(TextError, match="from 0 to below 1, but got .*; 0.1 is usual"):
        split([1, 2], fraction)


@pytest.mark.parametrize("train", [64, 65, 66])
@pytest.mark.parametrize("validation", [0, 1, 64, 65, 66])
def test_check_length_needs_one_token_more_than_the_context(train, validation):
    if train >= 65 and validation in (0, 65, 66):
        check_length(range(train), np.zeros(validation), 64, 0.5)
        return
    message = f"too short: it has {train + validation} tokens. Use at least 1"
    with pytest.raises(TextError, match=message):
        check_length(range(train), np.zeros(validation), 64, 0.5)


def test_a_short_text_is_described_in_characters(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("a" * 65)
    data = DataConfig(data=str(path))
    message = (
        "The text is too short: it has 65 characters. "
        "Use at least 1,300, or a context of at most 5."
    )
    with pytest.raises(TextError, match=message):
        corpus.prepare(data, context_length=128)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("context_length", [2, 3, 10, 64, 1000])
@pytest.mark.parametrize("length", [5, 30, 100, 640])
def test_the_advice_about_a_short_text_works(fraction, context_length, length):
    try:
        check_length(*split(range(length), fraction), context_length, fraction)
    except TextError as error:
        enough = int(re.search(r"Use at least ([\d,]+)", str(error))[1].replace(",", ""))
        check_length(*split(range(enough), fraction), context_length, fraction)
        assert length < enough
        if shorter := re.search(r"context of at most ([\d,]+)", str(error)):
            most = int(shorter[1].replace(",", ""))
            check_length(*split(range(length), fraction), most, fraction)


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
    code = "import sys, keras_lm.data.corpus, keras_lm.data.tokenizers; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "keras_lm.data.corpus" in loaded.stdout.split()
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
