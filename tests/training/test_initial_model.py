"""Runs that go on with a finished model on another text: full training of all its weights."""

import dataclasses
import json
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keras_lm.data.corpus import Corpus, prepare
from keras_lm.data.tokenizers import build_tokenizer, rows_within, tokenizer_from_dict
from keras_lm.generation.bundle import load
from keras_lm.keras_file.initial import (
    check_shape,
    file_like,
    initial_weights,
    keep_initial,
    settled,
)
from keras_lm.keras_file.opening import ModelContent, read_model_file
from keras_lm.settings.config import ConfigError, DataConfig, ModelConfig, RunConfig
from keras_lm.storage.run_folder import RunFolder
from keras_lm.training.first_text import first_text
from tests.training.small_run import PLAIN, events_of, train

TEXT = "Ünter Bäumen, unter Zweigen: wörtlich jeder Ast. " * 40


@pytest.fixture(scope="module")
def taught(straight, tmp_path_factory) -> tuple[RunFolder, RunConfig, Corpus]:
    """A folder that holds the copied model of `straight`, its config, and another text."""
    folder = RunFolder(tmp_path_factory.mktemp("taught") / "run")
    folder.create()
    text = folder.path.parent / "text.txt"
    text.write_text(TEXT)
    data = DataConfig(str(text), init_from=str(straight.model_file))
    content = read_model_file(straight.model_file)
    training = PLAIN.training.changed(log_every=1, eval_every=10)
    config = settled(RunConfig(ModelConfig(), data, training), content, {})
    keep_initial(folder, config)
    return folder, config, further(content, config)


def further(content: ModelContent, config: RunConfig) -> Corpus:
    known = tokenizer_from_dict(content.tokenizer)
    return prepare(config.data, config.model.context_length, known=known)


@pytest.fixture
def started(taught, tmp_path) -> tuple[RunFolder, RunConfig, Corpus]:
    """A folder of the same to train in."""
    folder, *rest = taught
    shutil.copytree(folder.path, tmp_path / "run")
    return RunFolder(tmp_path / "run"), *rest


def bits_of_first_text(straight: RunFolder) -> float:
    """Bits per byte of the finished model on the validation part of its text, by hand."""
    ids, model = prepare(PLAIN.data, 7).validation, load(straight.model_file).model
    starts = range(0, len(ids) - 1, 7)
    inputs = np.stack([np.resize(ids[start : start + 7], 7) for start in starts])
    logits = np.array(model(inputs)).astype("float64").reshape(-1, model.config.vocab_size)
    logits, targets = logits[: len(ids) - 1], ids[1:]  # what was filled up is at the end
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(targets)), targets]
    num_bytes = len(load(straight.model_file).tokenizer.decode(ids.tolist()).encode())
    return losses.mean() / np.log(2) / (num_bytes / len(ids))


def test_it_begins_with_the_model_measures_both_texts_and_is_whole(
    started, straight, monkeypatch, quick
):
    folder, config, corpus = started
    config = dataclasses.replace(config, model=config.model.changed(dropout=0.0))
    monkeypatch.chdir(folder.path.parent)
    train(folder.path, corpus, monkeypatch, config)
    events, _ = folder.read_events()
    note = next(event["message"] for event in events if event["kind"] == "note")
    assert note.startswith("Before the first step, the first text (Alice's Adventures")
    measured = [e for e in events if "val_loss" in e]
    assert measured and all(e["first_val_bits_per_byte"] > 0 for e in measured)

    old = load(straight.model_file)
    status = json.loads(folder.status_file.read_text())
    assert len(status["init_sha256"]) == 64
    result = load(folder.model_file)
    assert result.tokenizer.vocab_size == corpus.tokenizer.vocab_size > old.tokenizer.vocab_size
    assert not set("Üäö") - set(result.tokenizer.decode(range(result.tokenizer.vocab_size)))


def test_old_rows_are_the_models_to_the_bit_and_new_ones_are_fresh(started, straight):
    _, config, corpus = started
    content = read_model_file(straight.model_file)
    sized = config.with_vocab_size(corpus.tokenizer.vocab_size).model
    random = np.random.default_rng(0)
    fresh = [random.normal(size=s).astype("float32") for s in sized.weight_shapes().values()]
    weights = initial_weights(content, corpus.tokenizer, sized, fresh)
    rows = rows_within(corpus.tokenizer, tokenizer_from_dict(content.tokenizer))
    others = np.setdiff1d(np.arange(sized.vocab_size), rows)
    assert len(others) == sized.vocab_size - content.config.vocab_size > 0
    for path, given, new, kept in zip(
        sized.weight_shapes(), content.arrays, fresh, weights, strict=True
    ):
        if path.startswith("embedding"):
            np.testing.assert_array_equal(kept[rows], given)
            np.testing.assert_array_equal(kept[others], new[others])
        elif path.startswith("layers/dense"):
            np.testing.assert_array_equal(kept[:, rows], given)
            np.testing.assert_array_equal(kept[:, others], new[:, others])
        else:
            np.testing.assert_array_equal(kept, given)


def test_a_resumed_run_is_the_straight_one_to_the_bit_without_the_original(
    started, straight, tmp_path, monkeypatch, quick
):
    folder, config, corpus = started
    shutil.copytree(folder.path, tmp_path / "interrupted")
    gone = config.data.changed(init_from=str(tmp_path / "gone.keras"))
    config = dataclasses.replace(config, data=gone)
    train(folder.path, corpus, monkeypatch, config)

    class Killed(BaseException):
        pass

    def kill(line: str) -> None:
        if line.startswith("step 7/"):
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "interrupted", corpus, monkeypatch, config, report=kill)
    interrupted = train(tmp_path / "interrupted", corpus, monkeypatch, config)
    assert events_of(interrupted) == events_of(folder)
    for one, other in zip(
        read_model_file(interrupted.model_file).arrays,
        read_model_file(folder.model_file).arrays,
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_with_lora_a_resumed_run_is_the_straight_one_and_its_model_is_plain(
    started, straight, tmp_path, monkeypatch, quick
):
    folder, config, corpus = started
    shutil.copytree(folder.path, tmp_path / "interrupted")
    training = config.training.changed(lora_rank=2, sample_every=6, patience=0)
    config = dataclasses.replace(config, training=training)
    train(folder.path, corpus, monkeypatch, config)

    def kill(line: str) -> None:
        if line.startswith("step 7/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "interrupted", corpus, monkeypatch, config, report=kill)
    interrupted = train(tmp_path / "interrupted", corpus, monkeypatch, config)
    assert events_of(interrupted) == events_of(folder)
    arrays = read_model_file(folder.model_file).arrays
    for one, other in zip(arrays, read_model_file(interrupted.model_file).arrays, strict=True):
        np.testing.assert_array_equal(one, other)

    sized = config.with_vocab_size(corpus.tokenizer.vocab_size)
    new = sized.model.vocab_size - load(straight.model_file).tokenizer.vocab_size
    note = next(e["message"] for e in folder.read_events()[0] if e["kind"] == "note")
    assert note.startswith(f"LoRA of rank 2 trains {sized.trained_count(new):,} weights; ")
    rows = rows_within(
        corpus.tokenizer, tokenizer_from_dict(read_model_file(straight.model_file).tokenizer)
    )
    for path, array, old in zip(
        sized.model.weight_shapes(),
        arrays,
        read_model_file(straight.model_file).arrays,
        strict=True,
    ):
        if path.startswith("embedding"):
            np.testing.assert_array_equal(array[rows], old)
        elif path.startswith("layers/dense"):
            np.testing.assert_array_equal(array[:, rows], old)
        else:
            is_adapted = path.startswith("blocks") and array.ndim == 2
            assert np.array_equal(array, old) != is_adapted, path
    status = folder.read_status()
    assert status["parameters"] == sized.model.parameter_count()


def test_lora_needs_a_model_to_go_on_with():
    with pytest.raises(ConfigError, match="lora_rank must be 0 for fresh weights, but got 4"):
        dataclasses.replace(PLAIN, training=PLAIN.training.changed(lora_rank=4))


def test_the_first_loss_is_the_models_own(started, straight, monkeypatch, quick):
    """On one window of the first text, whose characters the model has, and on its validation."""
    folder, config, corpus = started
    config = dataclasses.replace(
        config,
        model=config.model.changed(dropout=0.0),
        training=config.training.changed(steps=1, batch_size=1, gradient_accumulation=1),
    )
    first = prepare(PLAIN.data, 7)
    window = dataclasses.replace(first, train=first.train[:8], validation=first.validation[:0])
    train(folder.path, window, monkeypatch, config)
    event = next(e for e in folder.read_events()[0] if e["kind"] == "metrics")
    logits = np.array(load(straight.model_file).model(window.train[None, :-1]))[0]
    log_sums = np.log(np.exp(logits.astype("float64")).sum(-1))
    losses = log_sums - logits[np.arange(7), window.train[1:]]
    assert event["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    note = next(e["message"] for e in folder.read_events()[0] if e["kind"] == "note")
    assert float(note.split()[-4]) == pytest.approx(bits_of_first_text(straight), rel=1e-4)


def test_a_first_text_that_nothing_names_is_left_out_and_said(started, monkeypatch, quick):
    folder, config, corpus = started
    folder.initial_config.unlink()
    config = dataclasses.replace(config, training=config.training.changed(steps=5))
    train(folder.path, corpus, monkeypatch, config)
    events, _ = folder.read_events()
    assert any("is not measured" in e.get("message", "") for e in events)
    assert not any("first_val_bits_per_byte" in e for e in events)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": "own.txt"}, "own"),
        ({"data": "own.txt", "title": "My letters"}, "My letters"),
        ({"data": "gone.txt"}, "gone.txt"),
        ({"data": "other.txt"}, "not the one that the model was trained on"),
        ({"data": "own.txt", "max_text_mb": 9.0, "shard_from_mb": 0.001}, "kept in shards"),
        ({"data": "own.txt", "validation_fraction": 0.0}, "all of own was trained on"),
        ({"data": "task:copy"}, "a task has no text"),
    ],
)
def test_a_first_text_of_ones_own_is_measured_and_what_cannot_be_is_said(
    started, tmp_path, changes, words
):
    folder, config, corpus = started
    (tmp_path / "own.txt").write_text("alice was tired of sitting by her sister. " * 30)
    (tmp_path / "other.txt").write_text("Ж" * 300)
    made_with = json.loads(folder.initial_config.read_text())
    data = changes["data"] if ":" in changes["data"] else str(tmp_path / changes["data"])
    made_with["data"] |= {**changes, "data": data}
    folder.initial_config.write_text(json.dumps(made_with))
    run: Any = SimpleNamespace(folder=folder, config=config, corpus=corpus)
    first = first_text(run)
    assert words in first.words
    assert (first.num_tokens > 0) == (first.words in ("own", "My letters"))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"d_model": 12}, "d_model must be 6, as in the model of init_from, but got 12"),
        ({"attention": "linear"}, "attention must be "),
        ({"tokenizer": "bpe"}, "tokenizer must be char"),
    ],
)
def test_settings_that_the_model_decides_are_refused_when_they_differ(taught, typed, words):
    folder, config, _ = taught
    with pytest.raises(ConfigError, match=words):
        settled(config, read_model_file(folder.initial_model), typed)


def test_what_the_model_decides_may_be_given_and_dropout_is_free(taught):
    folder, config, _ = taught
    content = read_model_file(folder.initial_model)
    changed = dataclasses.replace(config, model=config.model.changed(dropout=0.7))
    found = settled(changed, content, {"d_model": 6, "dropout": 0.7, "tokenizer": "char"})
    assert (found.model.d_model, found.model.dropout, found.model.vocab_size) == (6, 0.7, 0)


def test_shared_rows_of_ngrams_are_not_extended():
    exact = ModelConfig(vocab_size=3, d_model=4, num_heads=1, ngram_order=2)
    check_shape(exact, exact.changed(vocab_size=5))
    shared = exact.changed(ngram_rows=15)
    check_shape(shared, shared)
    with pytest.raises(ConfigError, match="tables of n-grams whose rows are shared"):
        check_shape(shared, shared.changed(vocab_size=4))
    with pytest.raises(ConfigError, match="ngram_rows must be 15"):
        check_shape(shared, exact)


def test_tables_of_ngrams_keep_the_vectors_of_their_groups():
    old = build_tokenizer("char", "bd")
    new = build_tokenizer("char", "abcd")
    shape = ModelConfig(vocab_size=2, d_model=2, num_heads=1, num_blocks=1, ngram_order=3)
    larger = shape.changed(vocab_size=4)
    random = np.random.default_rng(0)

    def weights(model: ModelConfig) -> list[np.ndarray]:
        return [random.normal(size=s).astype("float32") for s in model.weight_shapes().values()]

    content = ModelContent(shape, old.to_dict(), weights(shape))
    found = initial_weights(content, new, larger, weights(larger))
    paths = [*shape.weight_shapes()]
    index = next(i for i, path in enumerate(paths) if content.arrays[i].shape[0] == 27)
    before, after = content.arrays[index], found[index]
    for words in ("bdb", "ddb"):
        row = sum((old.encode(c)[0] + 1) * 3**p for p, c in enumerate(reversed(words)))
        moved = sum((new.encode(c)[0] + 1) * 5**p for p, c in enumerate(reversed(words)))
        np.testing.assert_array_equal(after[moved], before[row])


def test_a_model_that_is_gone_or_no_file_is_refused_in_a_sentence(taught, tmp_path):
    _, config, _ = taught
    folder = RunFolder(tmp_path / "run")
    folder.create()
    for name in ("gone.keras", "."):
        data = config.data.changed(init_from=str(tmp_path / name))
        with pytest.raises(ConfigError, match=r"^init_from [^\n]+\.$"):
            keep_initial(folder, dataclasses.replace(config, data=data))
    assert not folder.initial_model.exists()


def test_a_run_like_another_takes_the_original_while_it_is_the_same(started, straight, tmp_path):
    folder, *_ = started
    assert file_like(folder, str(straight.model_file)) == str(straight.model_file)
    other = tmp_path / "other.keras"
    for init_from in (str(other), str(tmp_path / "none.keras")):
        other.write_bytes(b"another model")
        assert file_like(folder, init_from) == str(folder.initial_model)


def test_a_task_cannot_go_on_with_a_model():
    with pytest.raises(ConfigError, match="init_from must be used with a text, but got the task"):
        DataConfig("task:copy", init_from="model.keras")


@pytest.mark.parametrize("kind", ["char", "gpt2", "bpe"])
def test_tokenizers_are_extended_by_what_a_text_has(kind, tmp_path):
    old = build_tokenizer(kind, "The man and the hat. " * 3)
    (tmp_path / "text.txt").write_text("A wörm|eats the hat. " * 9)
    data = DataConfig(str(tmp_path / "text.txt"), tokenizer=kind, separator="|")
    corpus = prepare(data, 3, known=old)
    text = corpus.tokenizer.decode([*corpus.train, *corpus.validation])
    assert text == (tmp_path / "text.txt").read_text()
    assert corpus.tokenizer.stop == corpus.tokenizer.vocab_size - 1
    rows = rows_within(corpus.tokenizer, old)
    assert [corpus.tokenizer.token_bytes(row) for row in rows] == [
        old.token_bytes(row) for row in range(old.vocab_size)
    ]
    assert (corpus.tokenizer.vocab_size == old.vocab_size + 1) == (kind == "bpe")
