"""How long a run is, and which of its weights are kept: with a clock and losses made for it."""

import dataclasses
import shutil
import time
import types

import numpy as np
import pytest

from keras_lm.data import corpus as corpus_module
from keras_lm.data.corpus import prepare
from keras_lm.export.keras_archive import save_model
from keras_lm.generation.bundle import load
from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.settings.longer import Longer
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder
from keras_lm.training import keeping, loop, pace, planner, progress
from keras_lm.training import run as trainer
from keras_lm.training.plan import Stage
from keras_lm.training.train_step import METRICS, MeanLoss

CONFIG = RunConfig(
    ModelConfig(context_length=7, d_model=6, num_heads=1, num_blocks=1, ffn_dim=5),
    DataConfig("alice", max_text_mb=1),
    TrainingConfig(
        steps=40,
        batch_size=3,
        learning_rate=1.0,
        min_learning_rate=0.1,
        log_every=5,
        eval_every=10,
        sample_every=0,
        checkpoint_every=0,
        warmup_steps=4,
    ),
)
START, VALIDATION, SAVING = 6.0, 2.0, 1.5  # seconds


class World:
    """A clock, and steps that take as long and learn as much as a test wants.

    Attributes:
        now: seconds.
        pace: seconds of the step after so many others.
        losses: of validation, by step; 3.0 elsewhere.
        rates: the learning rate of every step that was made, in order.
        diverges_at: the first step whose loss is no number, once; 0: none.
        validated: the shape of what each validation was given, and how many batches it measured.
    """

    def __init__(self):
        self.now, self.losses, self.rates = time.time(), {}, []
        self.pace = lambda step: 0.1
        self.diverges_at, self.validated = 0, []

    def steps(self, model, optimizer, *_):
        """What stands for CompiledSteps: the first weight becomes the number of steps made."""
        weight = model.weights[0]

        def train_steps(offsets):
            for _ in offsets:
                step = int(optimizer.iterations)
                self.rates.append(float(optimizer._learning_rate(step)))
                self.now += self.pace(step)
                optimizer.iterations.assign_add(1)
                weight.assign(np.full(weight.shape, step + 1, "float32"))
            found = {name: np.ones(len(offsets)) for name in METRICS}
            if 0 < self.diverges_at <= int(optimizer.iterations):
                self.diverges_at, found["loss"] = 0, np.full(len(offsets), np.nan)
            return found

        def validate(tokens, batch, most_batches=None):
            self.validated.append((tokens.shape, most_batches))
            part = batch * CONFIG.model.context_length if most_batches else tokens.size
            self.now += VALIDATION * min(part, tokens.size) / len(CORPUS.validation)
            return MeanLoss(self.losses.get(int(optimizer.iterations), 3.0), 0.5)

        def compile(_):
            self.now += START

        made = types.SimpleNamespace(train_steps=train_steps, validate=validate, compile=compile)
        made.window_length = CONFIG.model.context_length + 1
        return made


CORPUS = prepare(CONFIG.data, CONFIG.model.context_length)


@pytest.fixture
def world(monkeypatch) -> World:
    made = World()
    clock = types.SimpleNamespace(time=lambda: made.now, perf_counter=lambda: made.now)
    for module in (loop, pace, planner, progress, trainer):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(loop, "CompiledSteps", made.steps)
    real = keeping.save_checkpoint

    def save_checkpoint(*arguments):
        made.now += SAVING
        return real(*arguments)

    def save_model(path, model, tokenizer, weights=None):
        first = model.get_weights()[0] if weights is None else weights[0]
        path.write_text(f"{first.flat[0]:.0f}")

    monkeypatch.setattr(keeping, "save_checkpoint", save_checkpoint)
    monkeypatch.setattr(keeping, "save_model", save_model)
    return made


def train(path, world, monkeypatch, report=lambda line: None, longer=None, **changes) -> RunFolder:
    monkeypatch.setattr(trainer, "report_progress", report)
    folder = RunFolder(path)
    folder.create()
    config = dataclasses.replace(CONFIG, training=CONFIG.training.changed(**changes))
    trainer.train(folder, config, CORPUS, world.now, longer)
    return folder


def killed_at(step: int):
    """A report that ends the process like a kill: nothing is saved on the way out."""

    def report(line: str) -> None:
        if line.startswith(f"step {step}"):
            raise SystemExit

    return report


def metrics(folder: RunFolder) -> list[dict]:
    return [event for event in folder.read_events()[0] if event["kind"] == "metrics"]


def notes(folder: RunFolder) -> list[str]:
    return [e["message"] for e in folder.read_events()[0] if e["kind"] == "note"]


def step_in(path) -> int:
    """The step whose weights a model has that was saved in this world."""
    return int(path.read_text())


@pytest.mark.parametrize(
    ("seconds_of", "count_start"),
    [
        (lambda _: 0.4, False),
        (lambda _: 0.9, True),
        (lambda step: 0.3 if step < 60 else 0.6, True),
        (lambda step: 0.3 if step < 60 else 0.6, False),
    ],
    ids=["fast", "slow", "slower on the way", "slower on the way, without the start"],
)
def test_a_budget_of_seconds_is_met_and_the_rate_falls_to_its_floor(
    tmp_path, world, monkeypatch, count_start, seconds_of
):
    world.pace, begin = seconds_of, world.now
    budget = {"max_seconds": 60.0, "count_start": count_start, "eval_every": 30}
    folder = train(tmp_path, world, monkeypatch, checkpoint_every=40, **budget)
    took = world.now - begin - (0.0 if count_start else START)
    assert took == pytest.approx(60.0, rel=0.05)
    status, rates = folder.read_status(), np.array(world.rates)
    assert (status["state"], status["steps"]) == (run_folder.FINISHED, status["step"])
    assert len(rates) == status["step"] == metrics(folder)[-1]["step"]
    assert "val_loss" in metrics(folder)[-1]
    assert (np.diff(rates[4:]) <= 1e-6).all() and rates[3] == 1.0
    assert rates[-1] == pytest.approx(0.1, abs=0.05)


def test_after_a_divergence_neither_start_counts_where_the_budget_leaves_it_out(
    tmp_path, world, monkeypatch
):
    world.diverges_at = 100
    budget = {"max_seconds": 60.0, "count_start": False, "eval_every": 0, "checkpoint_every": 40}
    world.pace = lambda step: 0.3
    folder = train(tmp_path, world, monkeypatch, **budget)
    assert any("went back to step" in note for note in notes(folder))
    assert metrics(folder)[-1]["seconds"] == pytest.approx(60.0 + 2 * START, rel=0.05)


@pytest.mark.parametrize("is_long", [False, True])
def test_the_pace_of_validation_is_measured_on_one_batch_of_the_same_tokens(
    tmp_path, world, monkeypatch, is_long
):
    """Of others another program would be compiled."""
    if is_long:
        monkeypatch.setattr(corpus_module, "MEASURED_TOKENS", 1_000)
    corpus = dataclasses.replace(CORPUS)  # which has not looked what it measures yet
    monkeypatch.setattr(trainer, "report_progress", lambda line: None)
    folder = RunFolder(tmp_path)
    folder.create()
    training = CONFIG.training.changed(max_seconds=60.0, eval_every=0)
    trainer.train(folder, dataclasses.replace(CONFIG, training=training), corpus, world.now)
    assert corpus.measured.ndim == 1 + is_long
    assert world.validated[:2] == [(corpus.measured.shape, 1)] * 2
    assert {*world.validated[2:]} == {(corpus.measured.shape, None)}


def test_what_the_end_takes_is_measured_also_after_a_kill(tmp_path, world, monkeypatch):
    changes = {"max_seconds": 60.0, "checkpoint_every": 0, "eval_every": 0}
    world.pace = lambda step: 0.3
    with pytest.raises(SystemExit):
        train(tmp_path, world, monkeypatch, killed_at(75), **changes)
    folder = train(tmp_path, world, monkeypatch, **changes)
    assert metrics(folder)[-1]["seconds"] == pytest.approx(60.0, abs=2.0)


def test_a_budget_that_the_start_uses_up_trains_a_little_and_says_so(tmp_path, world, monkeypatch):
    folder = train(tmp_path, world, monkeypatch, max_seconds=5.0)
    assert folder.read_status()["state"] == run_folder.FINISHED and folder.has_model
    assert 1 <= folder.read_status()["step"] < 20 and "used up" in notes(folder)[0]


@pytest.mark.parametrize(("tokens", "steps"), [(1, 1), (21 * 9 - 1, 8), (21 * 9, 9)])
def test_a_budget_of_tokens_gives_its_steps_exactly(tmp_path, world, monkeypatch, tokens, steps):
    folder = train(tmp_path, world, monkeypatch, max_tokens=tokens)
    assert metrics(folder)[-1]["tokens"] == steps * 21
    assert folder.read_status()["steps"] == steps


def test_steps_made_again_after_a_kill_have_the_rates_they_had(tmp_path, world, monkeypatch):
    changes = {"max_seconds": 60.0, "checkpoint_every": 40, "eval_every": 0}
    world.pace = lambda step: 0.3 if step < 50 else 0.5
    with pytest.raises(SystemExit):
        train(tmp_path, world, monkeypatch, killed_at(75), **changes)
    before, world.rates = world.rates, []
    world.pace = lambda step: 0.2  # what the clock says now is for later steps
    folder = train(tmp_path, world, monkeypatch, **changes)
    assert world.rates[:35] == before[40:75]
    assert folder.read_status()["state"] == run_folder.FINISHED
    taken = [e for e in folder.read_events()[0] if e["kind"] == "plan"]
    assert [e["step"] for e in taken] == sorted(e["step"] for e in taken)


def test_early_stopping_ends_with_a_sentence_and_everything_a_last_step_has(
    tmp_path, world, monkeypatch
):
    monkeypatch.setattr(keeping, "save_model", save_model)  # the real one
    world.losses = {10: 2.5, 20: 2.0, 30: 2.0, 40: 2.1, 50: 1.0}
    folder = train(tmp_path, world, monkeypatch, steps=100, patience=2)
    status = folder.read_status()
    assert (status["state"], status["step"], status["steps"]) == (run_folder.FINISHED, 40, 40)
    (note,) = notes(folder)
    assert note.startswith("Stopped early: 2 validations in a row were not better than") and (
        "step 20 (2.000)" in note
    )
    steps = [
        load(path).model.weights[0].numpy().flat[0]
        for path in (folder.model_file, folder.offered_model)
    ]
    assert steps == [40, 20]


def test_patience_counts_anew_in_longer_training(tmp_path, world, monkeypatch):
    world.losses = {10: 2.5, 20: 2.0}
    train(tmp_path, world, monkeypatch, steps=100, patience=2)
    longer = Longer(steps=100)
    folder = train(tmp_path, world, monkeypatch, longer=longer, steps=100, patience=2)
    assert folder.read_status()["step"] == 60 and folder.best_model == 20
    assert notes(folder)[-1].startswith("Stopped early: 2 validations")


def test_added_seconds_that_the_start_uses_up_are_said(tmp_path, world, monkeypatch):
    train(tmp_path, world, monkeypatch)
    folder = train(tmp_path, world, monkeypatch, longer=Longer(seconds=1.0))
    assert folder.read_status()["state"] == run_folder.FINISHED
    assert notes(folder)[-1] == planner.ADDED_TOO_SHORT


def test_patience_ends_nothing_while_the_loss_falls_now_and_then(tmp_path, world, monkeypatch):
    world.losses = {10: 2.5, 20: 2.0, 30: 2.0, 40: 1.9, 50: 2.0}
    improving = train(tmp_path / "improving", world, monkeypatch, steps=60, patience=2)
    assert improving.read_status()["step"] == 60


BEST = {  # losses of the validations at 10, 20, 30, 40: the best one's step, 0 for the last
    "last": ((4.0, 3.0, 2.0, 1.0), 0),
    "first": ((1.0, 2.0, 3.0, 4.0), 10),
    "equal": ((4.0, 2.0, 2.0, 2.0), 20),
    "last again": ((2.0, 3.0, 3.0, 1.0), 0),
    "never a number": ((np.nan,) * 4, 0),
}


@pytest.mark.parametrize(
    ("name", "checkpoint_every"),
    [
        ("last", 0),
        ("first", 0),
        ("first", 15),
        ("equal", 10),
        ("last again", 15),
        ("never a number", 0),
    ],
)
def test_the_best_model_is_offered_where_it_is_better(
    tmp_path, world, monkeypatch, name, checkpoint_every
):
    losses, best = BEST[name]
    world.losses = dict(zip((10, 20, 30, 40), losses, strict=True))
    folder = train(tmp_path, world, monkeypatch, checkpoint_every=checkpoint_every)
    assert folder.best_model == best and folder.other_names() == []
    assert step_in(folder.offered_model) == (best or 40) and step_in(folder.model_file) == 40
    kept = {path.name for path in tmp_path.glob("best-*")}
    assert kept == ({folder.best_file(best).name} if best else set())


@pytest.mark.parametrize("killed", [25, 35])
def test_the_best_model_survives_a_kill_and_a_stop(tmp_path, world, monkeypatch, killed):
    world.losses = {10: 2.0, 20: 1.0, 30: 2.5, 40: 2.0}
    changes = {"checkpoint_every": 10}
    with pytest.raises(SystemExit):
        train(tmp_path, world, monkeypatch, killed_at(killed), **changes)
    folder = RunFolder(tmp_path)

    def stop(line: str) -> None:
        folder.request("stop")

    train(tmp_path, world, monkeypatch, stop, **changes)
    assert folder.read_status()["state"] == run_folder.STOPPED
    folder.take_request()
    train(tmp_path, world, monkeypatch, **changes)
    assert folder.best_model == 20 and step_in(folder.offered_model) == 20
    assert folder.read_status()["best_loss"] == 1.0 and folder.read_status()["last_loss"] == 2.0
    folder.offered_model.unlink()
    assert folder.offered_model == folder.model_file  # what is gone is not offered


@pytest.mark.parametrize("longer", [Longer(steps=20), Longer(seconds=60.0)], ids=str)
def test_longer_training_begins_again_at_the_last_rate_and_marks_where(
    tmp_path, world, monkeypatch, longer
):
    world.pace = lambda step: 0.4
    changes = {"min_learning_rate": 0.25, "eval_every": 40}
    train(tmp_path, world, monkeypatch, **changes)
    begin, first, world.rates = world.now, world.rates, []
    folder = train(tmp_path, world, monkeypatch, longer=longer, **changes)
    (mark,) = [e for e in folder.read_events()[0] if e["kind"] == "plan" and e["begin"]][:1]
    assert (mark["step"], mark["begin"], mark["rate"]) == (40, 40, first[-1])
    assert notes(folder)[-1].startswith(f"Trained longer, {longer} more")
    assert first[-1] == 0.25 < world.rates[0] <= max(world.rates) == 1.0
    assert world.rates[-1] == pytest.approx(0.25, abs=0.05)
    assert len(world.rates) == folder.read_status()["step"] - 40
    if longer.steps:
        assert len(world.rates) == 20
    else:
        assert world.now - begin == pytest.approx(longer.seconds, rel=0.05)


def test_after_a_kill_the_seconds_of_longer_training_are_met_from_the_first_step(
    tmp_path, world, monkeypatch
):
    changes = {"steps": 100, "checkpoint_every": 20, "eval_every": 0, "warmup_steps": 30}
    with pytest.raises(SystemExit):
        train(tmp_path, world, monkeypatch, killed_at(95), **changes)
    world.pace, begin = lambda step: 0.5, world.now
    world.rates.clear()
    train(tmp_path, world, monkeypatch, longer=Longer(seconds=30.0), **changes)
    assert world.now - begin == pytest.approx(30.0, rel=0.05)
    assert max(world.rates) == 1.0 and world.rates[-1] == pytest.approx(0.1, abs=0.05)


def test_a_longer_run_that_is_killed_goes_on_with_its_own_schedule(tmp_path, world, monkeypatch):
    first = train(tmp_path / "straight", world, monkeypatch)
    shutil.copytree(first.path, tmp_path / "killed")
    train(first.path, world, monkeypatch, longer=Longer(steps=30))
    rates, world.rates = world.rates, world.rates[:40]
    with pytest.raises(SystemExit):
        train(tmp_path / "killed", world, monkeypatch, killed_at(55), Longer(steps=30))
    del world.rates[40:]
    folder = train(tmp_path / "killed", world, monkeypatch)
    assert world.rates == rates and folder.read_status()["step"] == 70


def test_a_run_that_was_stopped_while_its_rate_was_high_goes_on_with_it(
    tmp_path, world, monkeypatch
):
    changes = {"schedule": "trapezoid", "steps": 100}
    folder = RunFolder(tmp_path)

    def stop(line: str) -> None:
        folder.request("stop")

    train(tmp_path, world, monkeypatch, stop, **changes)
    folder.take_request()
    step = folder.read_status()["step"]
    train(tmp_path, world, monkeypatch, longer=Longer(steps=60), **changes)
    assert folder.read_status()["step"] == step + 60
    assert set(world.rates[step : step + 30]) == {1.0}


@pytest.mark.parametrize("moved", [30, 60, 99])
def test_a_schedule_whose_end_moves_goes_on_from_where_it_is(moved):
    first = Stage(0, 100, warmup=20)
    for steps in (moved, 150, 100):
        second = first.ending(steps, moved)
        assert second.progress_at(moved) == pytest.approx(first.progress_at(moved))
        assert second.progress_at(steps) == pytest.approx(1.0 if steps > moved else second.progress)
