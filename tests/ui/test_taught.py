"""The pages of a run that taught a model: the curve of what it forgets, old and new beside."""

from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from keras_lm.presentation.charts import FORGETTING_TITLE
from keras_lm.runs.supervisor import Supervisor
from keras_lm.runs.workers import Reply
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.paths import RUNS_VARIABLE
from keras_lm.ui.parts import models
from keras_lm.ui.reach import STYLED

RUN = "20260301-000000-abcdef"
PAGE = str(Path(__file__).parents[2] / "streamlit_app.py")


@pytest.fixture
def taught(tmp_path, monkeypatch):
    """A finished run with a model and the one that it went on with, each of some bytes."""
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(Supervisor, "_launch", lambda *_: None)
    st.cache_resource.clear()
    folder = RunFolder(tmp_path / RUN)
    folder.create()
    config = QUICK_START.to_dict()
    config["data"] |= {"init_from": "gone.keras", "data": "alice"}
    folder.write_config(config)
    folder.write_status(state="finished", step=20, steps=20, message="", first_bits=2.0)
    for step, first in ((10, 2.2), (20, 2.5)):
        event = {"kind": "metrics", "step": step, "tokens": step, "loss": 2.0, "val_loss": 2.0}
        event |= {"seconds": 1.0, "train_seconds": 1.0, "val_bits_per_byte": 3.0}
        folder.append_event(event | {"first_val_bits_per_byte": first})
    folder.model_file.write_bytes(b"new")
    folder.initial_model.write_bytes(b"old")
    yield folder
    st.cache_resource.clear()


class Worker:
    """Answers at once, as a worker does."""

    def __init__(self, model_file: Path):
        self.model_file = model_file
        self.loading = Reply(0)
        self.loading.finish()

    def prepare(self, count: int) -> None:
        """Nothing to do."""

    def generate(self, prompts: list[str], settings: dict) -> Reply:
        """The name of its file after each prompt."""
        reply = Reply(1, [f" by {self.model_file.stem} {settings['seed']}" for _ in prompts])
        reply.result = {"seconds": 1.0, "unknown": [], "tokens_cut": 0}
        reply.finish()
        return reply


def opened(tab: str) -> AppTest:
    """The run's page with one of its curves."""
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state[STYLED] = True
    page.session_state["curves"] = tab
    page.query_params["run"] = RUN
    return page.run()


def test_a_taught_run_has_a_tab_with_what_it_forgets(taught):
    page = opened("Forgetting")
    assert not page.exception
    assert [tab.label for tab in page.tabs][-1] == "Forgetting"
    assert any(FORGETTING_TITLE in str(chart.proto) for chart in page.get("vega_lite_chart"))
    words = " ".join(caption.value.replace("\\", "") for caption in page.caption)
    assert "it forgets: from 2.00 bits per byte before to 2.50 now" in words
    config = taught.read_config()
    config["data"]["init_from"] = ""
    taught.write_config(config)
    page = opened("Loss")
    assert "Forgetting" not in [tab.label for tab in page.tabs]


def test_old_and_new_stand_beside_each_other_on_one_prompt(taught, monkeypatch):
    from keras_lm.ui.pages import generate

    monkeypatch.setattr(generate, "find_worker", Worker)

    def script() -> None:
        from keras_lm.ui.pages import generate

        generate.page()

    page = AppTest.from_function(script, default_timeout=60)
    page.query_params["model"] = RUN
    page.run()
    assert page.toggle(key="beside").value is True
    page.text_area(key="prompt").set_value("The man").run()
    page.button(key="generate.go").click().run()
    assert not page.exception
    (generated,) = page.session_state["texts"]
    seed = generated.settings["seed"]
    assert generated.reply.texts == [f" by model {seed}"]
    assert generated.before.reply.texts == [f" by initial-model {seed}"]
    assert generated.before.prompt == generated.prompt == "The man"
    labels = [caption.value for caption in page.caption]
    assert any("before it was taught" in label for label in labels)

    page.toggle(key="beside").set_value(False).run()
    page.button(key="generate.go").click().run()
    assert page.session_state["texts"][0].before is None


def test_the_model_before_has_a_name_of_its_own(taught):
    name = models.name_of(taught.initial_model)
    assert name == f"before-{RUN}" and models.find_model_file(name) == taught.initial_model
    assert models.name_of(taught.model_file) == RUN
    assert models.model_before(taught.model_file) == taught.initial_model
    assert models.model_before(taught.initial_model) is None
    taught.initial_model.unlink()
    assert models.find_model_file(name) is None and models.model_before(taught.model_file) is None
    assert models.find_model_file("before-../..") is None
