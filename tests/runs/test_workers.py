"""Workers as processes: loading, streaming, cancelling, dying, making room."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from keras_lm import generate
from keras_lm.data.tokenizers import CharTokenizer
from keras_lm.export.keras_archive import save_model
from keras_lm.generation import bundle
from keras_lm.generation.inspection import inspect
from keras_lm.model.language_model import build_model
from keras_lm.runs.workers import MAX_WORKERS, WorkerPool
from keras_lm.settings.config import ModelConfig

SETTINGS = {"max_new_tokens": 31, "seed": 5}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    tokenizer = CharTokenizer.from_text("The quick brown fox jumps over a lazy dog. é")
    config = ModelConfig(tokenizer.vocab_size, 11, d_model=6, num_heads=1, num_blocks=1, ffn_dim=5)
    path = tmp_path_factory.mktemp("models") / "model.keras"
    save_model(path, build_model(config), tokenizer.to_dict())
    return path


@pytest.fixture
def pool(tmp_path):
    pool = WorkerPool(tmp_path / "worker.log")
    yield pool
    pool.close()


def wait(reply, seconds: float = 60.0):
    end = time.monotonic() + seconds
    while not reply.done:
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)
    return reply


def test_a_worker_streams_cancels_refuses_and_dies_in_words(pool, model_file):
    worker = pool.worker(model_file)
    assert pool.worker(model_file) is worker
    wait(worker.loading)
    begin = time.perf_counter()
    reply = worker.generate(["The ☃"], SETTINGS)
    assert not wait(reply).error and len(reply.texts[0]) == 31
    assert 0 < reply.result["seconds"] < (time.perf_counter() - begin) / 2  # most is compiling
    assert reply.result["tokens_cut"] == 0
    for length in (10, 11, 12):
        long = worker.generate(["T" * length], SETTINGS)
        assert wait(long).result["tokens_cut"] == max(0, length - 11)  # the model's context
    assert reply.result["unknown"] == ["☃"] and worker.loading.result["parameters"] > 0
    expected = generate(bundle.load(model_file), "The ", **SETTINGS)
    assert reply.texts == [expected]  # the same seed gives the same text in another process

    prompts = ["The", "", "quick brown fox"]
    together = worker.generate(prompts, SETTINGS)
    model = bundle.load(model_file)
    assert wait(together).texts == generate(model, prompts, **SETTINGS)

    inspected = wait(worker.inspect("The quick <b>", None, None))
    assert inspected.result == json.loads(json.dumps(inspect(model, "The quick <b>")))
    assert "at least two tokens" in wait(worker.inspect("T", None, None)).error

    long_reply = worker.generate(["The"], {"max_new_tokens": 100_000})
    while len(long_reply.texts[0]) < 100:
        time.sleep(0.01)
    worker.cancel(long_reply)
    assert not wait(long_reply).error and 100 <= len(long_reply.texts[0]) < 100_000

    refused = worker.generate(["The"], {"temperature": -1})
    assert "temperature must be between" in wait(refused).error
    unknown = worker.generate(["The"], {"heat": 1})
    assert "no field 'heat'" in wait(unknown).error

    dying = worker.generate(["The"], {"max_new_tokens": 100_000})
    os.kill(worker.process.pid, signal.SIGKILL)
    assert "process ended" in wait(dying).error
    assert pool.worker(model_file) is not worker  # the next request gets a new process


def test_a_file_that_is_no_model_is_refused_in_one_sentence(pool, tmp_path):
    path = tmp_path / "bad.keras"
    path.write_bytes(b"no zip")
    worker = pool.worker(path)
    assert "bad.keras" in wait(worker.loading).error and len(worker.loading.error.split("\n")) == 1
    reply = worker.generate(["The"], SETTINGS)
    assert wait(reply).error


def test_a_worker_gets_ready_before_it_is_asked(pool, model_file):
    worker = pool.worker(model_file)
    for _ in range(2):  # the page asks whenever it is drawn
        worker.prepare(2)
    assert worker.is_busy
    end = time.monotonic() + 60
    while worker.is_busy:
        assert time.monotonic() < end
        time.sleep(0.02)
    begin = time.monotonic()
    reply = worker.generate(["The", "quick"], SETTINGS)
    assert not wait(reply).error and [len(text) for text in reply.texts] == [31, 31]
    assert time.monotonic() - begin < reply.result["seconds"] + 0.8  # nothing is compiled any more


def copies(model_file, folder, count: int) -> list:
    paths = [folder / f"{number}.keras" for number in range(count)]
    for path in paths:  # models: the worker of a file that is none ends by itself
        shutil.copy(model_file, path)
    return paths


def test_the_least_recently_used_worker_makes_room(pool, tmp_path, model_file):
    *first, last = copies(model_file, tmp_path, MAX_WORKERS + 1)
    workers = [pool.worker(path) for path in first]
    for worker in workers:
        wait(worker.loading)
    assert pool.worker(first[0]) is workers[0]  # so that the second is the least recently used
    workers.append(pool.worker(last))
    assert [worker.is_alive for worker in workers] == [True, False] + [True] * (MAX_WORKERS - 1)
    pool.close()
    assert not any(worker.is_alive for worker in workers)


def test_a_worker_at_work_never_makes_room(pool, tmp_path, model_file):
    *first, last = copies(model_file, tmp_path, MAX_WORKERS + 1)
    workers = [pool.worker(path) for path in first]
    assert pool.worker(last) is None  # they are loading
    asked = [worker.generate(["The"], {"max_new_tokens": 100_000}) for worker in workers]
    for worker, reply in zip(workers, asked, strict=True):
        wait(worker.loading)
        assert pool.worker(last) is None and not reply.done
    workers[-1].cancel(asked[-1])
    wait(asked[-1])
    assert pool.worker(last) is not None
    assert workers[0].is_alive and not workers[-1].is_alive and not asked[0].done


def test_a_line_torn_by_the_end_of_the_process_ends_its_reply(pool, model_file, monkeypatch):
    started, process = [], subprocess.Popen

    def torn(words, pass_fds, **kwargs):
        line = '{"id": 0, "kind": "ready"}\n{"id": 1, "kind": "te'
        words = [sys.executable, "-c", f"import os; os.write({pass_fds[1]}, {line.encode()!r})"]
        started.append(process(words, pass_fds=pass_fds, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", torn)
    worker = pool.worker(model_file)
    reply = worker.generate(["The"], SETTINGS)
    assert "process ended" in wait(reply).error and not worker.loading.error and started
    worker.close()
    late = worker.generate(["The"], SETTINGS)  # another tab has closed it
    assert "process ended" in wait(late).error
