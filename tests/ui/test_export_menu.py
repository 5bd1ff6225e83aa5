"""The menu of formats on a run's page, without a browser."""

from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from keras_lm.runs.exports import Exports, Progress
from keras_lm.settings.formats import FORMATS
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.paths import RUNS_VARIABLE

RUN = "20260101-000000-abcdef"


def dialog(run_id: str) -> None:
    """The dialog alone."""
    from keras_lm.ui.parts.exports import choose_format

    choose_format(run_id)


@pytest.fixture
def page(tmp_path, monkeypatch) -> AppTest:
    """The open dialog of a run with a model."""
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    st.cache_resource.clear()
    folder = RunFolder(tmp_path / RUN)
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    folder.model_file.write_bytes(b"a model")
    yield AppTest.from_function(dialog, args=(RUN,), default_timeout=60)
    st.cache_resource.clear()


def test_every_format_is_offered_and_made_on_demand(page, monkeypatch):
    started = []
    monkeypatch.setattr(Exports, "start", lambda self, folder, name: started.append(name))
    page.run()
    [box] = page.selectbox
    assert box.options == [entry.label for name, entry in FORMATS.items() if name != "keras"]
    box.select("onnx").run()
    assert any("ONNX Runtime" in text.value for text in page.markdown)
    page.button(key="export-start").click().run()
    assert started == ["onnx"]


@pytest.mark.parametrize(
    ("progress", "kinds"),
    [
        (Progress(part=0.5, message="The model is written."), {"progress"}),
        (Progress(message="It cannot be."), {"alert", "button"}),
        (Progress(file=Path(__file__)), {"download_button"}),
    ],
)
def test_progress_failure_and_the_file_are_shown(page, monkeypatch, progress, kinds):
    monkeypatch.setattr(Exports, "progress", lambda self, folder, name: progress)
    page.run()
    assert not page.exception
    found = {"progress": page.get("progress"), "alert": page.error}
    found |= {"button": page.button, "download_button": page.get("download_button")}
    assert {kind for kind, elements in found.items() if elements} == kinds


def test_what_a_format_costs_is_said_above_its_file(page, monkeypatch):
    made = Progress(file=Path(__file__), message="The 8-bit weights cost 0.1 bits per byte.")
    monkeypatch.setattr(Exports, "progress", lambda self, folder, name: made)
    page.run()
    page.selectbox[0].select("keras-int8").run()
    [caption] = page.caption
    assert "cost 0.1 bits" in caption.value.replace("\\", "") and not page.error
    assert len(page.get("download_button")) == 1
