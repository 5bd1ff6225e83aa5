"""A run to which something happens: a crash, numbers that grow, a full disk, another text."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from keras_lm.generation.bundle import load
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder
from keras_lm.training import checkpoint, loop
from keras_lm.training.progress import Progress
from keras_lm.training.train_step import CompiledSteps
from tests.training.small_run import PLAIN, events_of, train

pytestmark = pytest.mark.xla


def poison(monkeypatch, when):
    """Makes a weight infinite before every compiled call at which `when(training)` is true."""
    real_steps = CompiledSteps.train_steps

    def poisoned(self, offsets):
        if when(self):
            self.model.output_layer.kernel.assign(self.model.output_layer.kernel * np.inf)
        return real_steps(self, offsets)

    monkeypatch.setattr(CompiledSteps, "train_steps", poisoned)


def test_a_run_begun_again_after_a_crash_repeats_from_its_checkpoint(
    tmp_path, corpus, monkeypatch, quick_samples
):
    straight = train(tmp_path / "straight", corpus, monkeypatch)
    crashing = RunFolder(tmp_path / "crashing")

    def crash(line: str) -> None:
        if line.startswith("step 8/"):
            raise SystemExit  # nothing is saved on the way out

    with pytest.raises(SystemExit):
        train(crashing.path, corpus, monkeypatch, report=crash)
    assert [p.name for p in crashing.checkpoints.iterdir()] == ["step-00000005"]
    train(crashing.path, corpus, monkeypatch)
    assert events_of(crashing) == events_of(straight)


def test_a_run_that_diverges_goes_back_once_with_a_lower_rate_and_then_fails_with_advice(
    tmp_path, corpus, monkeypatch, quick
):
    folder = RunFolder(tmp_path)
    poison(monkeypatch, lambda _: folder.model_file.exists())  # from the checkpoint at 5 on
    train(tmp_path, corpus, monkeypatch, PLAIN)
    status = folder.read_status()
    assert (status["state"], status["rate_factor"]) == (run_folder.FAILED, 0.25)
    assert "diverged" in status["message"] and "Lower the learning rate" in status["message"]
    note = events_of(folder)[-1]
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
    events = events_of(folder)
    assert "went back to step 0" in events[0]["message"]
    pairs = zip(
        [event for event in events if event["kind"] == "metrics"],
        [event for event in events_of(straight) if event["kind"] == "metrics"],
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
    real = CompiledSteps.gradients

    def infinite(self, windows):
        found = real(self, windows)
        return found._replace(gradients=[gradient * np.inf for gradient in found.gradients])

    monkeypatch.setattr(CompiledSteps, "gradients", infinite)
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
    rates = [event["learning_rate"] for event in events_of(folder) if event["kind"] == "metrics"]
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
    assert events_of(folder) == events_of(straight)


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
    notes = [event for event in events_of(folder) if event["kind"] == "note"]
    assert [(note["step"], note["message"]) for note in notes] == [
        (10, "The checkpoint of step 13 is damaged: went on from step 10.")
    ]
    assert [event for event in events_of(folder) if event not in notes] == events_of(straight)


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


def test_a_checkpoint_that_does_not_fit_costs_the_run_no_file(tmp_path, corpus, monkeypatch):
    short = dataclasses.replace(PLAIN, training=PLAIN.training.changed(steps=1))
    folder = train(tmp_path, corpus, monkeypatch, short)
    kept = [folder.config_file, folder.tokenizer_file, folder.events_file, folder.model_file]
    before = [path.read_bytes() for path in kept]
    wider = dataclasses.replace(short, model=short.model.changed(ffn_dim=6))
    train(tmp_path, corpus, monkeypatch, wider)
    status = folder.read_status()
    assert (
        status["state"] == "failed" and "belongs to a model of another shape" in status["message"]
    )
    assert [path.read_bytes() for path in kept] == before


def test_an_overflow_that_no_event_holds_yet_stays_in_the_checkpoint():
    progress = Progress(started=0.0, step=5)
    progress.pending["grad_norm"] += [1.5, np.inf, np.nan]
    position = json.loads(json.dumps(progress.position(), allow_nan=False))
    progress.go_to(checkpoint.Checkpoint(5, [], position))
    assert progress.pending["grad_norm"] == [1.5, np.inf, np.inf]
