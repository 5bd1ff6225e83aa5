"""The Train page's words for what is waited for and warned of, without a browser."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from keras_lm.runs.supervisor import RunSummary
from keras_lm.settings.presets import PRESETS, QUICK_START
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.paths import RUNS_VARIABLE
from keras_lm.ui.parts import run_course
from keras_lm.ui.parts.draft import Draft
from keras_lm.ui.reach import STYLED

FINDING = "It ended after only 20 updates, while the loss was still falling. Set Steps to 1,000."
PAGE = Path(__file__).parents[2] / "streamlit_app.py"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The folder of the page's runs."""
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    st.cache_resource.clear()
    yield tmp_path
    st.cache_resource.clear()


@pytest.fixture
def put_active(runs):
    """Makes runs of a living process, queued one after the other."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    identity = {"pid": child.pid, "pid_started": psutil.Process(child.pid).create_time()}

    def put(number: int, state: str) -> str:
        folder = RunFolder(runs / f"20260101-000000-00000{number}")
        folder.create()
        folder.write_config(QUICK_START.to_dict())
        folder.write_status(state=state, queued_at=float(number), step=0, steps=100, **identity)
        return folder.run_id

    yield put
    child.kill()
    child.wait()


def show(**address: str) -> AppTest:
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state[STYLED] = True
    for key, value in address.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    return page


def test_a_waiting_run_says_its_position_and_a_new_one_what_is_ahead(put_active):
    put_active(1, run_folder.TRAINING)
    second, third = (put_active(number, run_folder.QUEUED) for number in (2, 3))
    for run_id, position, earlier in ((second, 2, "1 earlier run"), (third, 3, "2 earlier runs")):
        (progress,) = show(run=run_id).get("progress")
        assert progress.proto.text == (
            f"Position {position} in the queue · starts by itself after {earlier}"
        )
    assert any("3 runs are ahead of this one" in info.value for info in show(run="new").info)


def test_the_first_in_the_queue_is_being_started(put_active):
    (progress,) = show(run=put_active(1, run_folder.QUEUED)).get("progress")
    assert progress.proto.text == "Starting a process of its own for this run."
    assert any("1 run is ahead of this one" in info.value for info in show(run="new").info)


def test_a_run_that_reads_a_large_text_says_how_far_it_is(put_active, runs):
    run_id = put_active(1, run_folder.PREPARING)
    (progress,) = show(run=run_id).get("progress")
    assert "being compiled" in progress.proto.text
    RunFolder(runs / run_id).write_status(reading="Tokenizing the text: 58%, about 5 min left.")
    (progress,) = show(run=run_id).get("progress")
    said = progress.proto.text.replace("\\", "")
    assert said == "Tokenizing the text: 58%, about 5 min left."


def test_settings_that_do_not_do_what_they_seem_to_are_warned_of(runs):
    warmup = QUICK_START.training.warmup_steps
    for steps, is_warned in ((warmup, True), (warmup + 1, False)):
        page = show(run="new", **{"training.steps": str(steps)})
        assert any("does not end before the run" in w.value for w in page.warning) == is_warned
        assert not page.button(key="start").disabled
        assert not any("ahead of this one" in info.value for info in page.info)


def test_of_a_task_instances_are_counted_and_nothing_is_learned_by_heart(runs):
    cards, warnings, captions = {}, {}, {}
    for preset in ("task", "original"):
        page = show(run="new", preset=preset)
        cards[preset] = {card.label: card.value for card in page.metric}
        warnings[preset] = [w.value for w in page.warning if "by heart" in w.value]
        captions[preset] = " ".join(caption.value for caption in page.caption)
    training = PRESETS["task"].training
    assert cards["task"]["Instances"] == f"{training.steps * training.batch_size:,}"
    assert "Reads the text" in cards["original"] and "Reads the text" not in cards["task"]
    assert not warnings["task"] and "learns from 48,000 instances" in captions["task"]
    assert "500 others measure the model" in captions["task"]
    assert "to train on" in captions["original"] and "to train on" not in captions["task"]


@pytest.mark.parametrize(
    ("preset", "words"),
    [("original", "the same model again"), ("quick-start", "the time decides the steps")],
)
def test_a_duplicate_says_what_it_gives_unchanged(runs, preset, words):
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state[STYLED] = True
    page.session_state["duplicated"] = Draft(preset)
    page.query_params.update({"run": "new", "preset": preset})
    page.run()
    assert not page.exception
    assert any(words in info.value for info in page.info)


@pytest.fixture
def put_course(runs):
    """Makes a run of a novel with some validation losses, ten steps between each two of them."""

    def put(state: str, *losses: float) -> RunFolder:
        folder = RunFolder(runs / "20260101-000000-00000a")
        folder.create()
        training = QUICK_START.training.changed(steps=100)
        folder.write_config(dataclasses.replace(QUICK_START, training=training).to_dict())
        for step, loss in zip(range(10, 1000, 10), losses, strict=False):
            event = {"kind": "metrics", "step": step, "tokens": 9 * step, "loss": loss}
            event |= {"val_loss": loss, "seconds": step / 10, "train_seconds": step / 10}
            folder.append_event(event)
        status = {"unigram_entropy": 3.09, "vocab_size": 78, "train_tokens": 600_000}
        folder.write_status(state=state, step=10 * len(losses), steps=100, **status)
        return folder

    return put


def test_of_a_task_the_part_of_exact_answers_is_shown(put_course):
    folder = put_course(run_folder.FINISHED, 3.0, 2.5)
    values = [metric.value for metric in show(run=folder.run_id).metric if metric.label == "Exact"]
    assert values == []
    event = {"kind": "metrics", "step": 30, "tokens": 270, "loss": 0.1, "val_loss": 0.1}
    folder.append_event(event | {"seconds": 3.0, "train_seconds": 3.0, "task_accuracy": 0.975})
    values = [metric.value for metric in show(run=folder.run_id).metric if metric.label == "Exact"]
    assert values == ["97.5%"]


def test_an_ended_run_says_how_it_went_and_what_to_do(put_course):
    page = show(run=put_course(run_folder.FINISHED, 3.0, 2.5).run_id)
    words = [shown.value.replace("\\", "") for shown in (*page.caption, *page.markdown)]
    course = "Step 20: validation 2.50, best so far, still falling. As unsure as choosing among "
    assert f"{course}12.2 tokens; it began with 78." in words
    assert f":orange[:material/lightbulb:] :small[{FINDING}]" in words


def test_a_reader_hears_of_a_training_run_ten_times_and_of_a_finding_once(put_course):
    losses = [2.5, 2.0, *(2.0 + 0.1 * n for n in range(1, 7))]
    folder = put_course(run_folder.TRAINING, *losses)
    events = [e | {"loss": 1.0} for e in folder.read_events()[0]]
    status = folder.read_status()
    summary = RunSummary(folder.run_id, run_folder.TRAINING, QUICK_START, status)
    said = [run_course.spoken("Training", summary, events[:n]) for n in range(len(events) + 1)]
    assert said[0] == "Training." and said[1].startswith("Training. Step 10: validation 2.50.")
    heard = [sentence.count("learns its text by heart") for sentence in said]
    assert heard == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    many = [event | {"step": 2 * step} for event in events[:1] for step in range(1, 50)]
    said = [run_course.spoken("Training", summary, many[:n]) for n in range(len(many) + 1)]
    assert len(set(said)) == 11
    summary = dataclasses.replace(summary, state=run_folder.FINISHED)
    assert "learns its text by heart" in run_course.spoken("Finished", summary, events)
