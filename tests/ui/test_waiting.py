"""The queue on the page: what waits, moving, taking out."""

import subprocess
from pathlib import Path

import psutil
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from keras_lm.runs import ray_queue
from keras_lm.runs.slots import SLOTS_VARIABLE
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import QUEUED, TRAINING, RunFolder
from keras_lm.system.paths import RUNS_VARIABLE
from keras_lm.ui import app
from keras_lm.ui.parts import waiting
from keras_lm.ui.reach import STYLED

PAGE = Path(__file__).parents[2] / "streamlit_app.py"


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Makes runs of a living process; the later ones wait longer."""
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(waiting, "ANSWER_SECONDS", 0.0)  # nobody answers here
    st.cache_resource.clear()
    child = subprocess.Popen(["sleep", "300"])
    identity = {"pid": child.pid, "pid_started": psutil.Process(child.pid).create_time()}

    def put(number: int, state: str, **status) -> RunFolder:
        folder = RunFolder(tmp_path / f"20260101-000000-00000{number}")
        folder.create()
        folder.write_config(QUICK_START.to_dict())
        status = {"queued_at": float(number), "step": 0, "steps": 100, **identity} | status
        folder.write_status(state=state, **status)
        return folder

    yield put
    child.kill()
    child.wait()
    st.cache_resource.clear()


def show(**address: str) -> AppTest:
    test = AppTest.from_file(PAGE, default_timeout=60)
    test.session_state[STYLED] = True
    for key, value in address.items():
        test.query_params[key] = value
    test.run()
    assert not test.exception
    return test


def queue_page() -> AppTest:
    """The Runs page's queue alone: AppTest knows no pages that are functions."""

    def script():
        from keras_lm.ui.parts.waiting import queue_of_runs

        queue_of_runs()

    test = AppTest.from_function(script, default_timeout=60)
    test.run()
    assert not test.exception
    return test


def test_the_queue_is_in_its_order_with_the_time_until_each_begins(put):
    put(1, TRAINING, step=50, vocab_size=80, validation_tokens=1_000)
    put(2, QUEUED, turn=2.0)
    put(3, QUEUED, turn=1.0)
    (queue,) = queue_page().selectbox
    assert queue.label == "Queue: 2 runs wait"
    assert [option[:2] for option in queue.options] == ["1.", "2."]
    assert ["000002" in option for option in queue.options] == [False, True]
    assert all(", in about " in option for option in queue.options)


def test_without_a_run_that_waits_there_is_no_queue(put):
    put(1, TRAINING)
    assert not queue_page().selectbox


@pytest.mark.parametrize("request_", waiting.BUTTONS)
def test_the_chosen_run_is_asked(put, request_):
    put(1, TRAINING)
    first, second = put(2, QUEUED), put(3, QUEUED)
    page = queue_page()
    page.selectbox[0].select(second.run_id).run()
    page.button(key=f"queue.{request_}").click().run()
    assert not page.exception
    assert second.take_request() == request_ and first.take_request() is None


def test_only_a_run_that_can_pass_another_is_offered_the_front(put):
    training, first, second = put(1, TRAINING), put(2, QUEUED), put(3, QUEUED)
    for folder, is_offered in ((training, False), (first, False), (second, True)):
        page = show(run=folder.run_id)
        assert is_offered == any(button.key == "front" for button in page.button)
    page.button(key="front").click().run()
    assert second.take_request() == "front"


def test_with_two_slots_a_run_waits_for_the_first_of_two_to_end(put, monkeypatch):
    monkeypatch.setenv(SLOTS_VARIABLE, "2")
    put(1, TRAINING)
    assert not any("ahead of this one" in info.value for info in show(run="new").info)
    put(2, TRAINING)
    third = put(3, QUEUED)
    (progress,) = show(run=third.run_id).get("progress")
    assert progress.proto.text.startswith("Position 2 in the queue · starts by itself after 1 ")
    assert any("2 runs are ahead of this one" in info.value for info in show(run="new").info)


def test_a_number_of_slots_that_is_none_is_said_on_the_page(put, monkeypatch):
    monkeypatch.setenv(SLOTS_VARIABLE, "many")
    page = show(run="new")
    assert [error.value.replace("\\", "") for error in page.error] == [
        "KERAS_LM_SLOTS must be a whole number from 1, but got 'many': correct it or unset it."
    ]


def test_on_a_cluster_a_run_waits_for_those_that_wait(put, monkeypatch):
    monkeypatch.setenv(ray_queue.RAY_VARIABLE, "auto")
    monkeypatch.setattr(app, "check_ray", lambda: None)
    put(1, TRAINING)
    folders = [put(number, QUEUED, message=ray_queue.WAITS) for number in (2, 3)]
    shown = [show(run=folder.run_id).get("progress")[0].proto.text for folder in folders]
    assert shown[0].replace("\\", "") == ray_queue.WAITS
    assert shown[1] == "Position 2 in the queue · starts by itself after 1 earlier run"
