"""A run inside its process: events, samples, validation, stopping, and going on to the bit."""

import dataclasses
import itertools
import shutil
import time

import numpy as np
import pytest

from keras_lm.generation.bundle import load
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system import machine
from keras_lm.training import checkpoint
from keras_lm.training import run as trainer
from keras_lm.training.progress import Progress, Requests, Run
from tests.training.small_run import CONFIG, PLAIN, events_of, train

pytestmark = pytest.mark.xla


@pytest.mark.parametrize("request_", run_folder.MOVES)
def test_a_request_to_move_in_the_queue_that_comes_late_changes_nothing(tmp_path, request_):
    folder = RunFolder(tmp_path)
    requests = Requests(folder)
    for asked in ("stop", request_):
        folder.request(asked)
        requests.listen()
    assert requests.latest == "stop" and folder.take_request() is None


@pytest.mark.slow
def test_loss_falls_and_sizes_are_shown(tmp_path, corpus, monkeypatch):
    training = dataclasses.replace(CONFIG.training, steps=150, log_every=50, learning_rate=0.02)
    folder = train(tmp_path, corpus, monkeypatch, dataclasses.replace(CONFIG, training=training))
    losses = [e["loss"] for e in events_of(folder) if e["kind"] == "metrics"]
    assert losses == sorted(losses, reverse=True) and losses[-1] < corpus.unigram_entropy + 0.1
    status = folder.read_status()
    assert status["parameters"] == load(folder.model_file).config.parameter_count()
    assert status["precision"] == "float32"
    assert status["versions"] == machine.versions()
    assert status["machine"] == machine.describe_machine()
    last = [event for event in events_of(folder) if event["kind"] == "metrics"][-1]
    assert last["bits_per_byte"] == pytest.approx(last["loss"] / np.log(2), rel=0.02)
    assert last["perplexity"] == pytest.approx(np.exp(last["loss"]))


@pytest.mark.parametrize(
    ("set_prompt", "prompt", "unknown"), [("", "Alice was beginning", None), ("Ωme", "Ωme", ["Ω"])]
)
def test_samples_continue_the_text_s_own_words_unless_set(
    set_prompt, prompt, unknown, corpus, tmp_path, monkeypatch, quick
):
    settings = dataclasses.replace(CONFIG.training, steps=2, sample_prompt=set_prompt)
    config = dataclasses.replace(CONFIG, training=settings)
    folder = train(tmp_path / "run", corpus, monkeypatch, config)
    metrics, sample, _ = events_of(folder)[-3:]
    assert (sample["prompt"], sample.get("unknown")) == (prompt, unknown)
    assert folder.read_status()["loss"] == metrics["val_loss"]


@pytest.mark.parametrize("checkpoint_every", [0, 1])
def test_validation_comes_at_its_own_steps_and_means_cover_every_update_once(
    tmp_path, corpus, monkeypatch, checkpoint_every, quick
):
    """However many steps a call has, and with points of the curve at other steps."""

    def events(**changes):
        training = dataclasses.replace(PLAIN.training, checkpoint_every=checkpoint_every, **changes)
        config = dataclasses.replace(PLAIN, training=training)
        folder = train(tmp_path / f"run-{changes['log_every']}", corpus, monkeypatch, config)
        return {event["step"]: event for event in events_of(folder) if event["kind"] == "metrics"}

    found, every = events(log_every=4, eval_every=5), events(log_every=1)
    steps = PLAIN.training.steps
    assert list(found) == sorted({*range(4, steps, 4), *range(5, steps, 5), steps})
    assert [step for step in found if "val_loss" in found[step]] == [*range(5, steps, 5), steps]
    for previous, step in itertools.pairwise([0, *found]):
        mean = np.mean([every[each]["loss"] for each in range(previous + 1, step + 1)])
        assert found[step]["loss"] == pytest.approx(mean, rel=1e-6)


def test_stop_keeps_the_model_of_the_present_step(tmp_path, corpus, monkeypatch, quick):
    folder = RunFolder(tmp_path)
    train(tmp_path, corpus, monkeypatch, report=lambda _: folder.request("stop"))
    status = folder.read_status()
    assert (status["state"], status["step"]) == (run_folder.STOPPED, 4)
    assert load(folder.model_file).config.vocab_size == corpus.tokenizer.vocab_size


@pytest.mark.slow
def test_a_paused_and_resumed_run_equals_the_straight_one_to_the_bit(
    tmp_path, corpus, monkeypatch, quick
):
    training = dataclasses.replace(CONFIG.training, optimizer="muon")
    config = dataclasses.replace(CONFIG, training=training)
    straight = train(tmp_path / "straight", corpus, monkeypatch, config)
    assert straight.read_status()["state"] == run_folder.FINISHED

    halting = RunFolder(tmp_path / "halting")
    for expected_step in (4, 8):  # pauses at points of the curve, which come every 4 steps
        train(halting.path, corpus, monkeypatch, config, lambda _: halting.request("pause"))
        assert halting.read_status()["state"] == run_folder.PAUSED
        assert halting.read_status()["step"] == expected_step
    train(halting.path, corpus, monkeypatch, config)
    assert halting.read_status()["state"] == run_folder.FINISHED

    assert events_of(halting) == events_of(straight)
    ours, theirs = (load(f.model_file).model.get_weights() for f in (halting, straight))
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_goes_on_to_the_bit_from_every_one_of_its_steps(
    tmp_path, corpus, monkeypatch, quick, optimizer
):
    """Thirteen points: after the first update, after the last, and all between."""
    monkeypatch.setattr(checkpoint, "KEPT_CHECKPOINTS", 100)
    training = dataclasses.replace(
        CONFIG.training, optimizer=optimizer, checkpoint_every=1, eval_every=4
    )
    config = dataclasses.replace(CONFIG, training=training)
    straight = train(tmp_path / "straight", corpus, monkeypatch, config)
    steps = training.steps
    points = [f"step-{step:08d}" for step in range(1, steps + 1)]
    assert [path.name for path in sorted(straight.checkpoints.iterdir())] == points

    again = RunFolder(tmp_path / "again")
    again.create()
    config = dataclasses.replace(
        config.with_vocab_size(corpus.tokenizer.vocab_size),
        training=dataclasses.replace(training, checkpoint_every=0),
    )
    progress, requests = Progress(time.time()), Requests(again)
    training_loop = trainer.prepare(
        Run(again, config, corpus, progress, requests, lambda line: None)
    )
    final = None
    for point in [None, *points]:
        for variable in training_loop.variables:  # whatever was there before
            variable.assign(np.full(variable.shape, 3, variable.dtype))
        if point is None:
            shutil.copytree(straight.checkpoints / points[-1], again.checkpoints / points[-1])
        else:
            shutil.rmtree(again.checkpoints)
            shutil.copytree(straight.checkpoints / point, again.checkpoints / point)
        shutil.copy(straight.events_file, again.events_file)
        progress.pending, progress.val_loss = {}, None
        training_loop.go_to(checkpoint.latest_checkpoint(again.checkpoints)[0])
        assert training_loop.train() == run_folder.FINISHED
        assert events_of(again) == events_of(straight)
        found = [np.asarray(variable) for variable in training_loop.variables]
        final = final or found
        assert all(np.array_equal(a, b) for a, b in zip(found, final, strict=True))
    ours, theirs = (load(f.model_file).model.get_weights() for f in (again, straight))
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
