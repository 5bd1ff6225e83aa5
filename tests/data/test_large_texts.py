"""Texts in shards: the same tokens as in memory, found again, and gone on with after a kill."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import Future
from functools import partial

import numpy as np
import pytest

from keras_lm.data import corpus, preparation
from keras_lm.data.large import making, pool, streams, work
from keras_lm.data.large.sharded_corpus import ShardedCorpus
from keras_lm.data.large.shards import Shard, Shards
from keras_lm.data.large.streams import TextStream, is_large
from keras_lm.data.reading import TextError
from keras_lm.data.texts import load_text
from keras_lm.data.tokenizers import TokenizerError
from keras_lm.settings.config import DataConfig, RunConfig
from keras_lm.system.paths import PROJECT

CONTEXT = 16


class InThisProcess:
    """A pool of one process: this one."""

    def __init__(self, count, context, begin, arguments):
        (tokenizer,) = arguments
        work._tokenizers[:] = [work.tokenizer_from_dict(tokenizer)] if tokenizer else []

    def submit(self, do, chunk):
        future = Future()
        try:
            future.set_result(do(chunk))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, cancel_futures):
        pass


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch, tmp_path):
    """Chunks of 8,000 characters, tokenized in this process, in a cache of the test's own."""
    monkeypatch.setenv("KERAS_LM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(making, "CHUNK", 8_000)
    monkeypatch.setattr(pool, "ProcessPoolExecutor", InThisProcess)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(load_text("alice")[:60_000] + "日本語 and 😀.\n")
    return path


def config(path, **changes):
    return DataConfig(str(path), shard_from_mb=0.01).changed(**changes)


def folder_of(data):
    return making.ShardMaker(data, None, print).folder


def assert_equal(found, expected):
    assert isinstance(found, ShardedCorpus)
    assert found.tokenizer.to_dict() == expected.tokenizer.to_dict()
    for part in ("train", "validation"):
        np.testing.assert_array_equal(getattr(found, part)[:], getattr(expected, part))
    names = ("unigram_entropy", "train_bytes", "validation_bytes", "first_words")
    assert [getattr(found, n) for n in names] == [getattr(expected, n) for n in names]
    np.testing.assert_array_equal(found.measured, expected.measured)
    if len(expected.validation):
        assert found.validation_bits_per_byte(2.0) == expected.validation_bits_per_byte(2.0)


@pytest.mark.parametrize("tokenizer", ["gpt2", "char", "bpe"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"separator": "\\n\\n"}, {"cleaning": "classic", "validation_fraction": 0.0}],
    ids=["plain", "separator", "classic"],
)
def test_a_text_in_shards_has_the_tokens_that_it_has_in_memory(text, tokenizer, changes):
    data = config(text, tokenizer=tokenizer, **changes)
    if tokenizer == "bpe":  # learned from slices that the chunks cut elsewhere
        expected = preparation.prepare(data, CONTEXT)
        known = expected.tokenizer
        expected = corpus.prepare(data, CONTEXT, known=known)
        assert_equal(preparation.prepare(data, CONTEXT, known=known), expected)
    else:
        assert_equal(preparation.prepare(data, CONTEXT), corpus.prepare(data, CONTEXT))


def test_several_files_and_records_are_one_text(text, tmp_path):
    lines = [{"text": part} for part in ("one record", "", "another\r\nof two lines")]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "c.txt").write_bytes("e\r\n\u00e9".encode("utf-16"))
    names = "\n".join([str(text), str(tmp_path / "b.jsonl"), "alice", str(tmp_path / "c.txt")])
    for separator in ("", "<|end|>"):
        data = config(names, separator=separator, tokenizer="char")
        assert "".join(TextStream(data).pieces()) == corpus.cleaned_text(data)
        assert_equal(preparation.prepare(data, CONTEXT), corpus.prepare(data, CONTEXT))


def test_a_model_s_tokenizer_is_extended(text, tmp_path):
    (tmp_path / "first.txt").write_text("A first text: ~ ^ of strange words, zyzzyva. " * 99)
    for tokenizer in ("gpt2", "char"):
        first = DataConfig(str(tmp_path / "first.txt"), tokenizer=tokenizer)
        known = corpus.prepare(first, CONTEXT).tokenizer
        data = config(text, tokenizer=tokenizer)
        expected = corpus.prepare(data, CONTEXT, known=known)
        assert_equal(preparation.prepare(data, CONTEXT, known=known), expected)


@pytest.mark.parametrize("size", [9_999, 10_000, 10_001])
def test_a_text_is_large_when_it_has_more_than_the_limit(tmp_path, size):
    import gzip

    (tmp_path / "a.txt").write_bytes(b"a" * size)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a" * size))
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a" * size, "more": "b" * 10_000}))
    for name in ("a.txt", "a.txt.gz", "a.jsonl"):
        assert is_large(config(tmp_path / name)) == (size > 10_000)
        assert not is_large(config(tmp_path / name, max_text_mb=0.01))
    assert not is_large(config(tmp_path / "missing.txt"))
    assert not is_large(config("task:copy")) and not is_large(config("-"))


def test_a_stored_config_of_an_earlier_version_keeps_its_text_in_memory():
    stored = RunConfig.from_dict({"schema": 1, "model": {}, "data": {}, "training": {}})
    assert stored.data.shard_from_mb == 1024


def made_chunks(monkeypatch):
    """The numbers of the chunks that are tokenized from now on."""
    made, shard = [], work.shard

    def counted(chunk, **values):
        made.append(chunk.index)
        return shard(chunk, **values)

    monkeypatch.setattr(work, "shard", counted)
    return made


def test_shards_are_found_again_and_only_what_lacks_is_made(text, monkeypatch):
    made, data = made_chunks(monkeypatch), config(text, tokenizer="gpt2")
    first = preparation.prepare(data, CONTEXT)
    assert len(made) == len(set(made)) > 5
    made.clear()
    assert preparation.prepare(data, CONTEXT).sha256 == first.sha256 and not made
    folder = folder_of(data)
    (folder / "manifest.json").unlink()
    log = (folder / "shards.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "shards.jsonl").write_bytes(b"".join(log[:2]) + log[2][:9])  # as a kill leaves it
    again = preparation.prepare(data, CONTEXT)
    kept = {json.loads(line)["index"] for line in log[:2]}
    assert set(made) == {*range(len(log) - 1)} - kept and again.sha256 == first.sha256
    made.clear()
    damaged = folder / "000001"
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    assert preparation.prepare(data, CONTEXT).sha256 == first.sha256 and made == [1]
    made.clear()
    for part in first.manifest["train"][-1:]:
        (folder / Shard(*part).file).unlink()
    assert preparation.prepare(data, CONTEXT).sha256 == first.sha256


def test_a_changed_file_or_setting_is_another_text(text):
    data = config(text)
    first = folder_of(data)
    assert folder_of(data) == first
    others = [{"separator": "x"}, {"cleaning": "classic"}, {"tokenizer": "bpe", "bpe_size": 300}]
    assert len({folder_of(config(text, **change)) for change in others} | {first}) == 4
    os.utime(text, ns=(5, 5))
    assert folder_of(data) != first


@pytest.mark.parametrize("shard_from_mb", [0.01, 50], ids=["in shards", "in memory"])
def test_a_large_validation_part_is_measured_on_windows_spread_over_it(
    text, monkeypatch, shard_from_mb
):
    monkeypatch.setattr(corpus, "MEASURED_TOKENS", 10 * CONTEXT)
    data = config(text, tokenizer="gpt2", shard_from_mb=shard_from_mb)
    found = preparation.prepare(data, CONTEXT)
    assert isinstance(found, ShardedCorpus) == (shard_from_mb < 1)
    measured = found.measured
    assert measured.shape == (10, CONTEXT + 1)
    validation = found.validation[:]
    np.testing.assert_array_equal(measured[0], validation[: CONTEXT + 1])
    np.testing.assert_array_equal(measured[-1], validation[-CONTEXT - 1 :])
    targets = [found.tokenizer.token_bytes(id) for id in measured[:, 1:].reshape(-1).tolist()]
    num_bytes = len(b"".join(targets))
    assert found.validation_bits_per_byte(3.0) == corpus.bits_per_byte(3.0, num_bytes, 160)


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        (b"text " * 9000 + b"caf\xe9 au lait", {}, "is not UTF-8 .byte 0xe9 at offset 45,003 look"),
        (b"text " * 9000 + b"\0", {}, "is not plain text: it has a NUL character"),
        (b"%PDF-1.7" + b" text" * 9000, {}, "is a PDF, not plain text"),
        (b"text " * 9000, {"separator": "|"}, "The separator must occur in the text, but '|' does"),
        (b"text " * 9000, {"encoding": "klingon"}, "encoding must be one that Python knows"),
        (b"text " * 9000, {"max_text_mb": 0.02}, "has 45,000 bytes, but at most 0.02 MB"),
    ],
)
def test_what_is_said_of_a_large_text_that_cannot_be_used(tmp_path, content, changes, message):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises((TextError, TokenizerError), match=message) as raised:
        preparation.prepare(config(tmp_path / "x.txt", **changes), CONTEXT)
    assert "\n" not in str(raised.value)


def test_an_empty_file_among_others_is_refused_as_it_is_in_memory(text, tmp_path):
    (tmp_path / "empty.txt").touch()
    data = config(f"{text}\n{tmp_path / 'empty.txt'}")
    for prepare in (preparation.prepare, corpus.prepare):
        with pytest.raises(TextError, match="empty.txt is empty. Choose one with some text."):
            prepare(data, CONTEXT)


def test_too_small_and_full_disks_are_said(text, monkeypatch):
    data = config(text)
    with monkeypatch.context() as patched:
        usage = shutil.disk_usage("/")._replace(free=1000)
        patched.setattr(making.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(TextError, match="need up to 0.0 GB in .* GB are free. Make room, or"):
            preparation.prepare(data, CONTEXT)

    def refuse(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(work, "write_atomically", refuse)
        with pytest.raises(TextError, match="cannot be kept in .*: No space left on device. Make"):
            preparation.prepare(data, CONTEXT)
    assert_equal(preparation.prepare(data, CONTEXT), corpus.prepare(data, CONTEXT))


def test_what_takes_long_says_how_far_it_is(text, monkeypatch):
    monkeypatch.setattr(making, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(streams, "PIECE", 10_000)
    said = []
    preparation.prepare(config(text, tokenizer="gpt2"), CONTEXT, report=said.append)
    assert "is tokenized once; that takes up to 0.0 GB in" in said[0]
    assert "Tokenizing the text: 100%, about 0 s left." in said and len(said) > 5


@pytest.mark.parametrize("start", [0, 1, 2, 3, 7])
def test_any_part_of_shards_can_be_read(tmp_path, start):
    ids = np.arange(20, dtype="uint16")
    sizes, shards, at = [3, 0, 1, 9, 0, 7], [], 0
    for number, size in enumerate(sizes):
        (tmp_path / str(number)).write_bytes(ids[at : at + size].tobytes())
        shards.append(Shard(str(number), size, ""))
        at += size
    found = Shards(tmp_path, shards, "uint16", 2 * np.arange(20))
    for stop in range(22):
        np.testing.assert_array_equal(found[start:stop], 2 * ids[start:stop])
    offsets = np.array([0, start, 20 - 6])
    expected = [2 * ids[offset : offset + 6] for offset in offsets]
    np.testing.assert_array_equal(found.windows(offsets, 6), expected)
    assert found[:].dtype == "int32" and found[5:2].shape == (0,)


@pytest.mark.slow
def test_a_script_that_its_processes_would_run_again_is_told_so_and_ends(text, tmp_path):
    program = (
        "from keras_lm.data import preparation\n"
        "from keras_lm.settings.config import DataConfig\n"
        f"preparation.prepare(DataConfig({str(text)!r}, shard_from_mb=0.01), 16)\n"
    )
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, str(tmp_path / "program.py")]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and pool.UNGUARDED in ended.stderr
    assert ended.stderr.splitlines()[-1].endswith("start again, what was done is kept.")


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them_and_the_next_goes_on(text, tmp_path):
    """Killed with SIGKILL amid its work; its children must not stay, nor what was done be lost."""
    text.write_text(text.read_text() * 25)
    program = (
        "import sys\n"
        "from keras_lm.data import preparation\n"
        "from keras_lm.data.large import making\n"
        "from keras_lm.settings.config import DataConfig\n"
        "making.CHUNK, making.REPORT_SECONDS = 60_000, 0\n"
        "if __name__ == '__main__':\n"
        "    data = DataConfig(sys.argv[1], shard_from_mb=1, tokenizer='gpt2')\n"
        "    found = preparation.prepare(data, 16, report=lambda line: print(line, flush=True))\n"
        "    print(len(found.train))\n"
    )
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, str(tmp_path / "program.py"), str(text)]
    start = partial(subprocess.Popen, command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    with start(env=environment) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if line.startswith("Tokenizing"):
                break
        first.send_signal(signal.SIGKILL)
        first.stdout.read()  # ends when no child has it open any more
    (log,) = (tmp_path / "cache" / "texts").glob("*/shards.jsonl")
    done = len(log.read_bytes().splitlines())
    assert done > 0
    times = {path: path.stat().st_mtime_ns for path in log.parent.glob("0*")}
    with start(env=environment) as second:
        assert second.stdout is not None
        lines = second.stdout.read().splitlines()
    assert int(lines[-1]) > 50_000
    kept = [path for path, at in times.items() if path.stat().st_mtime_ns == at]
    assert len(kept) >= done - 1
