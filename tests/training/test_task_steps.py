"""The step and the validation of a task: only answers count, and only whole ones are right."""

import dataclasses
import math
import time

import numpy as np
import pytest

from keras_lm.data.task_corpus import TaskCorpus
from keras_lm.model.backend import keras, tf
from keras_lm.model.language_model import build_model
from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder
from keras_lm.training import loop
from keras_lm.training import run as trainer
from keras_lm.training.optimizers import create_optimizer
from keras_lm.training.task_steps import TaskSteps

CONFIG = RunConfig(
    ModelConfig(d_model=6, num_heads=1, num_blocks=1, ffn_dim=5),
    DataConfig("task:copy", task_length=3),
    TrainingConfig(
        steps=7,
        batch_size=4,
        gradient_accumulation=2,
        log_every=2,
        eval_every=4,
        sample_every=0,
        checkpoint_every=3,
        warmup_steps=1,
    ),
)


@pytest.fixture(scope="module")
def corpus():
    return TaskCorpus.of(CONFIG.data)


def make_steps(corpus, **changes) -> TaskSteps:
    keras.utils.set_random_seed(3)
    model = build_model(CONFIG.model.changed(vocab_size=corpus.tokenizer.vocab_size))
    settings = dataclasses.replace(CONFIG.training, **changes)
    return TaskSteps(
        model,
        create_optimizer(settings, model),
        corpus.batch(1, 0, 8),
        settings.gradient_accumulation,
        jit_compile=False,
    )


def test_the_loss_is_the_mean_over_the_answers_alone(corpus):
    steps = make_steps(corpus)
    batch = corpus.batch(1, 0, 8)
    rows = np.where(batch < 0, ~batch, batch)
    log_p = tf.nn.log_softmax(steps.model(rows[:, :-1])).numpy()
    losses = -np.take_along_axis(log_p, rows[:, 1:, None], 2)[..., 0][batch[:, 1:] >= 0]
    assert len(losses) == 8 * 4  # three letters and the new line
    values = steps.train_steps(batch[None])
    assert values["loss"][0] == pytest.approx(losses.mean(), rel=1e-5)


def test_many_updates_in_a_call_equal_calls_of_one(corpus):
    batches = np.stack([corpus.batch(1, step, 8) for step in range(5)])
    together, apart = make_steps(corpus), make_steps(corpus)
    losses = together.train_steps(batches)["loss"]
    singles = [apart.train_steps(batch[None])["loss"][0] for batch in batches]
    np.testing.assert_array_equal(losses, singles)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 31])
def test_exact_answers_are_counted_one_by_one(corpus, count):
    steps = make_steps(corpus)
    rows = corpus.held_out[:count].copy()
    inputs = np.where(rows < 0, ~rows, rows)
    likeliest = steps.model(inputs[:, :-1]).numpy().argmax(-1)
    rows[::2, 1:] = np.where(rows[::2, 1:] >= 0, likeliest[::2], rows[::2, 1:])
    inputs = np.where(rows < 0, ~rows, rows)  # what is fed has changed with the answers
    likeliest = steps.model(inputs[:, :-1]).numpy().argmax(-1)
    is_answer, is_right = rows[:, 1:] >= 0, likeliest == inputs[:, 1:]
    found = steps.validate(rows, batch_size=8)
    assert found.accuracy == pytest.approx(is_right[is_answer].mean())
    assert found.exact == pytest.approx((is_right | ~is_answer).all(1).mean())
    assert found.loss > 0


def test_a_model_that_knows_nothing_answers_nothing(corpus):
    found = make_steps(corpus).validate(corpus.held_out, batch_size=64)
    assert found.exact == 0.0
    assert found.loss == pytest.approx(math.log(corpus.tokenizer.vocab_size), rel=0.1)


def train(path, corpus) -> RunFolder:
    folder = RunFolder(path)
    folder.create()
    trainer.train(folder, CONFIG, corpus, time.time())
    return folder


def test_a_run_of_a_task_is_measured_and_resumed_to_the_bit(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "report_progress", lambda line: None)
    monkeypatch.setattr(loop, "TaskSteps", lambda *values: TaskSteps(*values, jit_compile=False))
    straight = train(tmp_path / "straight", corpus)
    events, _ = straight.read_events()
    points = [event for event in events if event["kind"] == "metrics"]
    assert points[-1]["step"] == 7 and points[-1]["tokens"] == 7 * 8 * 7
    assert 0 <= points[-1]["task_accuracy"] <= 1
    assert [e["step"] for e in points if "task_accuracy" in e] == [4, 7]
    (tmp_path / "again").mkdir()
    again = RunFolder(tmp_path / "again")
    again.create()
    for path in straight.checkpoints.glob("*6"):
        target = again.checkpoints / path.name
        target.mkdir(parents=True)
        for file in path.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
    trainer.train(again, CONFIG, corpus, time.time())
    last = [e for e in again.read_events()[0] if e["kind"] == "metrics"][-1]
    same = ("loss", "val_loss", "task_accuracy", "grad_norm")
    assert {k: last[k] for k in same} == {k: points[-1][k] for k in same}
    other = dataclasses.replace(corpus, validation=corpus.validation[:-1])
    trainer.train(again, CONFIG, other, time.time())
    status = again.read_status()
    assert status["state"] == run_folder.FAILED and "task was made" in status["message"]
