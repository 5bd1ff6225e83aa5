"""The buttons of a run, on a disk that refuses."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Block

from keras_lm.runs import supervisor
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.paths import RUNS_VARIABLE
from keras_lm.ui.reach import STYLED

PAGE = Path(__file__).parents[2] / "streamlit_app.py"
RUN = "20260101-000000-abcdef"


def refuse(*_) -> None:
    raise PermissionError(13, "Permission denied", "/here")


def blocks(block: Block) -> Iterator[Block]:
    """The block and all below it."""
    yield block
    for child in block.children.values():
        if isinstance(child, Block):
            yield from blocks(child)


@pytest.mark.parametrize(
    ("key", "state"),
    [
        ("stop", run_folder.TRAINING),
        ("resume", run_folder.STOPPED),
        ("duplicate", run_folder.FINISHED),
    ],
)
def test_what_the_disk_refuses_is_said_where_a_sentence_has_room(tmp_path, monkeypatch, key, state):
    text = tmp_path / "text.txt"
    text.write_text("She said that it was a fine day. " * 40)
    folder = RunFolder(tmp_path / RUN)
    folder.create()
    data = replace(QUICK_START.data, data=str(text))
    folder.write_config(replace(QUICK_START, data=data).to_dict())
    folder.write_status(state=state, step=20, steps=40, message="")
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(supervisor, "is_alive", lambda _: True)
    monkeypatch.setattr(RunFolder, "request", refuse)
    monkeypatch.setattr(RunFolder, "take_request", refuse)
    (tmp_path / supervisor.UPLOADS).write_text("in the way")
    st.cache_resource.clear()
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state[STYLED] = True
    page.query_params["run"] = RUN
    page.run()
    page.button(key=key).click().run()
    st.cache_resource.clear()
    assert not page.exception
    (error,) = page.error
    assert "The disk refused at " in error.value.replace("\\", "")
    rows = [b for b in blocks(page.main) if any(c.key == key for c in b.children.values())]
    assert len(rows) == 1 and not rows[0].get("error")  # it is as high as a button


def test_a_run_of_several_workers_is_resumed_by_command_and_duplicated_for_one_process(
    tmp_path, monkeypatch
):
    folder = RunFolder(tmp_path / RUN)
    training = QUICK_START.training.changed(strategy="multi-worker")
    folder.create()
    folder.write_config(replace(QUICK_START, training=training).to_dict())
    folder.write_status(state=run_folder.INTERRUPTED, step=20, steps=40, message="")
    (folder.checkpoints / "step-00000020").mkdir(parents=True)
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    st.cache_resource.clear()
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state[STYLED] = True
    page.query_params["run"] = RUN
    page.run()
    assert not page.exception
    resume = page.button(key="resume")
    assert resume.disabled and "command resume on each" in resume.help
    assert "longer" not in [button.key for button in page.button]
    page.button(key="duplicate").click().run()
    st.cache_resource.clear()
    assert not page.exception
    assert page.session_state["draft"].values["training.strategy"] == "none"
