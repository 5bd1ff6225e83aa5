"""A run inside its process: events, samples, pausing, resuming, failing."""

import dataclasses
import functools
import itertools
import shutil
import time

import numpy as np
import pytest

from keras_lm.data.corpus import prepare
from keras_lm.generation.bundle import load
from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system import machine
from keras_lm.training import checkpoint, loop
from keras_lm.training import run as trainer
from keras_lm.training.progress import Progress, Requests, Run
from keras_lm.training.train_step import CompiledSteps

pytestmark = pytest.mark.xla

CONFIG = RunConfig(
    ModelConfig(context_length=7, d_model=6, num_heads=1, num_blocks=1, ffn_dim=5, dropout=0.2),
    DataConfig("alice", max_text_mb=1),
    TrainingConfig(
        steps=13,
        batch_size=3,
        gradient_accumulation=2,
        log_every=4,
        eval_every=0,
        sample_every=6,
        sample_tokens=5,
        checkpoint_every=5,
        warmup_steps=3,
    ),
)


WITHOUT_XLA = functools.partial(CompiledSteps, jit_compile=False)
PLAIN = dataclasses.replace(  # without samples
    CONFIG, training=dataclasses.replace(CONFIG.training, sample_every=0)
)


@pytest.fixture(scope="module")
def corpus():
    prepared = prepare(CONFIG.data, CONFIG.model.context_length)
    return dataclasses.replace(prepared, validation=prepared.validation[:100])


def train(path, corpus, monkeypatch, config=CONFIG, report=lambda line: None) -> RunFolder:
    monkeypatch.setattr(trainer, "report_progress", report)
    folder = RunFolder(path)
    folder.create()
    trainer.train(folder, config, corpus, time.time())
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Leaves XLA's compilation out, where a test is about something else."""
    monkeypatch.setattr(loop, "CompiledSteps", WITHOUT_XLA)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, corpus):
    """A whole run of PLAIN without XLA."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(loop, "CompiledSteps", WITHOUT_XLA)
        return train(tmp_path_factory.mktemp("straight"), corpus, monkeypatch, PLAIN)


def told(folder: RunFolder) -> list[dict]:
    """The events without what depends on the clock and on the process."""
    clock = {"seconds", "train_seconds", "tokens_per_second", "memory_mb"}
    events, _ = folder.read_events()
    return [{k: v for k, v in event.items() if k not in clock} for event in events]


@pytest.mark.parametrize(
    ("set_prompt", "prompt", "unknown"), [("", "Alice was beginning", None), ("Ωme", "Ωme", ["Ω"])]
)
def test_samples_continue_the_text_s_own_words_unless_set(
    set_prompt, prompt, unknown, corpus, tmp_path, monkeypatch, quick
):
    settings = dataclasses.replace(CONFIG.training, steps=2, sample_prompt=set_prompt)
    config = dataclasses.replace(CONFIG, training=settings)
    folder = train(tmp_path / "run", corpus, monkeypatch, config)
    metrics, sample, _ = told(folder)[-3:]
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
        return {event["step"]: event for event in told(folder) if event["kind"] == "metrics"}

    found, every = events(log_every=4, eval_every=5), events(log_every=1)
    steps = PLAIN.training.steps
    assert list(found) == sorted({*range(4, steps, 4), *range(5, steps, 5), steps})
    assert [step for step in found if "val_loss" in found[step]] == [*range(5, steps, 5), steps]
    for previous, step in itertools.pairwise([0, *found]):
        mean = np.mean([every[each]["loss"] for each in range(previous + 1, step + 1)])
        assert found[step]["loss"] == pytest.approx(mean, rel=1e-6)


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

    assert told(halting) == told(straight)
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
        assert told(again) == told(straight)
        found = [np.asarray(variable) for variable in training_loop.variables]
        final = final or found
        assert all(np.array_equal(a, b) for a, b in zip(found, final, strict=True))
    ours, theirs = (load(f.model_file).model.get_weights() for f in (again, straight))
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_run_begun_again_after_a_crash_repeats_from_its_checkpoint(tmp_path, corpus, monkeypatch):
    straight = train(tmp_path / "straight", corpus, monkeypatch)
    crashing = RunFolder(tmp_path / "crashing")

    def crash(line: str) -> None:
        if line.startswith("step 8/"):
            raise SystemExit  # nothing is saved on the way out

    with pytest.raises(SystemExit):
        train(crashing.path, corpus, monkeypatch, report=crash)
    assert [p.name for p in crashing.checkpoints.iterdir()] == ["step-00000005"]
    train(crashing.path, corpus, monkeypatch)
    assert told(crashing) == told(straight)


def test_stop_keeps_the_model_of_the_present_step(tmp_path, corpus, monkeypatch):
    folder = RunFolder(tmp_path)
    train(tmp_path, corpus, monkeypatch, report=lambda _: folder.request("stop"))
    status = folder.read_status()
    assert (status["state"], status["step"]) == (run_folder.STOPPED, 4)
    assert load(folder.model_file).config.vocab_size == corpus.tokenizer.vocab_size


def poison(monkeypatch, when):
    """Makes a weight infinite before every compiled call at which `when(training)` is true."""
    real_steps = CompiledSteps.train_steps

    def poisoned(self, offsets):
        if when(self):
            self.model.output_layer.kernel.assign(self.model.output_layer.kernel * np.inf)
        return real_steps(self, offsets)

    monkeypatch.setattr(CompiledSteps, "train_steps", poisoned)


def test_a_run_that_diverges_goes_back_once_with_a_lower_rate_and_then_fails_with_advice(
    tmp_path, corpus, monkeypatch, quick
):
    folder = RunFolder(tmp_path)
    poison(monkeypatch, lambda _: folder.model_file.exists())  # from the checkpoint at 5 on
    train(tmp_path, corpus, monkeypatch, PLAIN)
    status = folder.read_status()
    assert (status["state"], status["rate_factor"]) == (run_folder.FAILED, 0.25)
    assert "diverged" in status["message"] and "Lower the learning rate" in status["message"]
    note = told(folder)[-1]
    assert (note["kind"], note["step"]) == ("note", 5)
    assert "went back to step 5" in note["message"] and "quarter" in note["message"]
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000005"]
    assert all(np.isfinite(w).all() for w in load(folder.model_file).model.get_weights())


def test_a_run_that_diverged_once_finishes_at_the_lower_rate(
    tmp_path, corpus, monkeypatch, quick, straight
):
    folder, calls = RunFolder(tmp_path), []
    poison(monkeypatch, lambda _: len(calls) < 2 and calls.append(1) is None)  # compiled, then 1
    train(tmp_path, corpus, monkeypatch, PLAIN)
    assert folder.read_status()["state"] == run_folder.FINISHED
    events = told(folder)
    assert "went back to step 0" in events[0]["message"]
    pairs = zip(
        [event for event in events if event["kind"] == "metrics"],
        [event for event in told(straight) if event["kind"] == "metrics"],
        strict=True,
    )
    for lower, usual in pairs:
        assert lower["learning_rate"] == pytest.approx(usual["learning_rate"] / 4)


def in_float16(**settings):
    settings = {"precision": "mixed_float16", "checkpoint_every": 0, "log_every": 1} | settings
    return dataclasses.replace(PLAIN, training=dataclasses.replace(PLAIN.training, **settings))


def test_a_float16_run_that_can_make_no_update_fails_with_advice(
    tmp_path, corpus, monkeypatch, quick
):
    real = CompiledSteps._gradients

    def infinite(self, windows):
        found = real(self, windows)
        return found._replace(gradients=[gradient * np.inf for gradient in found.gradients])

    monkeypatch.setattr(CompiledSteps, "_gradients", infinite)
    folder = train(tmp_path, corpus, monkeypatch, in_float16(steps=31))
    status = folder.read_status()
    assert status["state"] == run_folder.FAILED
    assert "too large for float16" in status["message"]
    assert "Lower the learning rate" in status["message"] and not folder.model_file.exists()


def test_the_learning_rate_told_is_that_of_the_updates_made(tmp_path, corpus, monkeypatch, quick):
    real, updates, schedules = CompiledSteps.train_steps, [], []

    def watched(self, offsets):
        if not updates:
            self.optimizer.dynamic_scale.assign(2.0**64)  # too large for the first updates
        values, optimizer = real(self, offsets), self.optimizer.inner_optimizer
        schedules.append(optimizer._learning_rate)
        updates.extend([int(optimizer.iterations)] * len(offsets))
        return values

    monkeypatch.setattr(CompiledSteps, "train_steps", watched)
    folder = train(tmp_path, corpus, monkeypatch, in_float16(steps=101))
    assert folder.read_status()["state"] == run_folder.FINISHED
    assert updates[0] == 0 and 3 < updates[-1] < 90  # past the warm-up, and many were left out
    rates = [event["learning_rate"] for event in told(folder) if event["kind"] == "metrics"]
    assert rates == [float(schedules[-1](max(0, done - 1))) for done in updates]


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_neither_loss_nor_gradient_may_be_anything_but_a_number(name, value):
    values = np.array([1.0, value, 2.0])
    with pytest.raises(loop.Diverged, match=f"The {name} became {value} at step 12"):
        loop.check_finite(name, values, range(10, 13))
    loop.check_finite(name, values[::2], range(10, 12))


def test_weights_that_are_no_numbers_are_never_kept(tmp_path, corpus, monkeypatch, quick):
    """The last update before a checkpoint spoils a weight, which no loss has seen yet."""
    folder = RunFolder(tmp_path)
    real_steps = CompiledSteps.train_steps

    def spoiled(self, offsets):
        values = real_steps(self, offsets)
        if int(self.optimizer.iterations) >= 5:
            self.model.output_layer.kernel.assign(self.model.output_layer.kernel * np.nan)
        return values

    monkeypatch.setattr(CompiledSteps, "train_steps", spoiled)
    train(tmp_path, corpus, monkeypatch, PLAIN)
    assert folder.read_status()["state"] == run_folder.FAILED
    assert "weight" in folder.read_status()["message"]
    assert not folder.checkpoints.exists() and not folder.model_file.exists()


def test_a_disk_that_refuses_pauses_the_run_which_then_goes_on(
    tmp_path, corpus, monkeypatch, quick, straight
):
    folder, real_write = RunFolder(tmp_path / "full"), checkpoint.write_atomically

    def refuse(path, content):
        if folder.checkpoints.exists() and (folder.checkpoints / "step-00000005").exists():
            raise OSError(28, "No space left on device")
        real_write(path, content)

    monkeypatch.setattr(checkpoint, "write_atomically", refuse)
    train(folder.path, corpus, monkeypatch, PLAIN)
    status = folder.read_status()
    assert (status["state"], status["step"]) == (run_folder.PAUSED, 10)
    assert "No space left on device" in status["message"] and "intact" in status["message"]
    assert [path.name for path in folder.checkpoints.iterdir()] == ["step-00000005"]

    monkeypatch.setattr(checkpoint, "write_atomically", real_write)
    train(folder.path, corpus, monkeypatch, PLAIN)
    assert folder.read_status()["state"] == run_folder.FINISHED
    assert told(folder) == told(straight)


def test_a_damaged_checkpoint_is_told_and_the_run_goes_on_from_the_one_before(
    tmp_path, corpus, monkeypatch, quick, straight
):
    folder = RunFolder(tmp_path / "damaged")
    shutil.copytree(straight.path, folder.path)
    state = folder.checkpoints / "step-00000013" / checkpoint.STATE_FILE
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    train(folder.path, corpus, monkeypatch, PLAIN)
    notes = [event for event in told(folder) if event["kind"] == "note"]
    assert [(note["step"], note["message"]) for note in notes] == [
        (10, "The checkpoint of step 13 is damaged: went on from step 10.")
    ]
    assert [event for event in told(folder) if event not in notes] == told(straight)


def test_another_text_or_tokenizer_is_refused_and_harms_nothing(
    tmp_path, corpus, monkeypatch, quick
):
    folder = RunFolder(tmp_path)
    train(tmp_path, corpus, monkeypatch, PLAIN, report=lambda _: folder.request("pause"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    changed = corpus.train.copy()
    changed[-1] = (changed[-1] + 1) % corpus.tokenizer.vocab_size
    shorter = type(corpus.tokenizer)(corpus.tokenizer.to_dict()["characters"][:-1])
    for other in ({"train": changed}, {"tokenizer": shorter}):
        train(tmp_path, dataclasses.replace(corpus, **other), monkeypatch, PLAIN)
        status = folder.read_status()
        assert status["state"] == run_folder.FAILED
        assert "not the one" in status["message"] and "--like" in status["message"]
        after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert {p: c for p, c in after.items() if p != folder.status_file} == {
            p: c for p, c in before.items() if p != folder.status_file
        }
    train(tmp_path, corpus, monkeypatch, PLAIN)
    assert folder.read_status()["state"] == run_folder.FINISHED


def test_a_fault_is_one_sentence_in_the_status_and_a_traceback_in_the_log(
    tmp_path, corpus, monkeypatch, capsys
):
    monkeypatch.setattr(loop, "create_optimizer", lambda *_: 1 / 0)
    folder = train(tmp_path, corpus, monkeypatch)
    assert folder.read_status()["state"] == run_folder.FAILED
    assert "ZeroDivisionError" in folder.read_status()["message"]
    assert "Traceback" in folder.log_tail() and "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
def test_loss_falls_and_sizes_are_told(tmp_path, corpus, monkeypatch):
    training = dataclasses.replace(CONFIG.training, steps=150, log_every=50, learning_rate=0.02)
    folder = train(tmp_path, corpus, monkeypatch, dataclasses.replace(CONFIG, training=training))
    losses = [e["loss"] for e in told(folder) if e["kind"] == "metrics"]
    assert losses == sorted(losses, reverse=True) and losses[-1] < corpus.unigram_entropy + 0.1
    status = folder.read_status()
    assert status["parameters"] == load(folder.model_file).config.parameter_count()
    assert status["precision"] == "float32"
    assert status["versions"] == machine.versions()
    assert status["machine"] == machine.describe_machine()
    last = [event for event in told(folder) if event["kind"] == "metrics"][-1]
    assert last["bits_per_byte"] == pytest.approx(last["loss"] / np.log(2), rel=0.02)
    assert last["perplexity"] == pytest.approx(np.exp(last["loss"]))
