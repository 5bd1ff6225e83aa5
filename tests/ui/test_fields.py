"""The form's fields: every setting is offered, or says why not; errors are in the form's words."""

import subprocess
import sys
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from keras_lm.settings.checks import ConfigError
from keras_lm.settings.config import GenerationConfig, ModelConfig, TrainingConfig
from keras_lm.settings.data_config import TASK
from keras_lm.system.paths import RUNS_VARIABLE
from keras_lm.ui.parts.draft import LORA
from keras_lm.ui.parts.fields import all_specs, explain, groups, label_of
from keras_lm.ui.reach import STYLED

PAGE = Path(__file__).parents[2] / "streamlit_app.py"


def keys_of(page: AppTest) -> set[str]:
    """The keys of all widgets in which something is entered."""
    kinds = ("selectbox", "number_input", "text_input", "toggle", "select_slider", "slider")
    return {widget.key for kind in kinds for widget in page.get(kind) if widget.key}


def test_every_setting_of_a_run_is_offered_or_says_why_not(tmp_path, monkeypatch):
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    st.cache_resource.clear()
    offered = set()
    for group in groups():
        page = AppTest.from_file(PAGE, default_timeout=60)
        page.session_state[STYLED] = True
        page.session_state["advanced"] = group if group != "Length" else None
        page.query_params["run"] = "new"
        if group == "Length":  # else seconds stand there
            page.query_params["training.max_seconds"] = "0"
        if group == TASK:
            page.query_params["data.data"] = "task:recall"
        page.run()
        assert not page.exception
        offered |= keys_of(page)
    st.cache_resource.clear()
    for key, spec in all_specs().items():
        reason = spec.metadata["hidden"]
        # The form's own field for the text has this setting's key.
        assert (key in offered) == (not reason or key == "data.data"), key
        # The form of a run that goes on with a model has one more.
        assert bool(spec.metadata["label"]) == (not reason or key == LORA), key
        assert not reason or reason.endswith("."), key


def test_the_preset_of_tasks_brings_a_task_and_another_preset_a_text(tmp_path, monkeypatch):
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    st.cache_resource.clear()
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state[STYLED] = True
    page.query_params["data.data"] = "alice"
    page.run()
    texts = []
    for preset in ("Five minutes", "Task", "Quick start"):
        page.pills(key="preset").set_value(preset).run()
        assert not page.exception
        texts.append(page.session_state["data.data"])
    st.cache_resource.clear()
    assert texts == ["alice", "task:recall", "sense-and-sensibility"]


def test_of_a_task_nothing_is_offered_that_it_ignores(tmp_path, monkeypatch):
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    st.cache_resource.clear()
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state[STYLED] = True
    page.session_state["advanced"] = "Model"
    page.query_params["preset"] = "task"
    page.run()
    st.cache_resource.clear()
    assert not page.exception
    assert "Text" not in page.pills(key="advanced").options
    assert "model.num_blocks" in keys_of(page) and "model.context_length" not in keys_of(page)


def test_every_setting_of_a_text_is_offered():
    def form():
        from keras_lm.ui.pages.generate import settings_form

        settings_form()

    page = AppTest.from_function(form, default_timeout=60)
    page.session_state["fixed_seed"] = True
    page.run()
    assert not page.exception
    assert {spec.name for spec in GenerationConfig.specs()} <= keys_of(page)


def test_a_slider_stays_within_what_the_setting_may_be():
    sliders = [spec for spec in GenerationConfig.specs() if spec.metadata["slider"]]
    for spec in sliders:
        low, high = spec.metadata["slider"]
        assert spec.metadata["low"] <= low <= spec.default <= high <= spec.metadata["high"]
        assert spec.metadata["step"] > 0
    assert {spec.name for spec in GenerationConfig.specs() if spec not in sliders} == {"seed"}


@pytest.mark.parametrize(
    ("make", "field", "sentence"),
    [
        (
            lambda: TrainingConfig(sample_tokens=0),
            "sample_tokens",
            "Tokens per sample must be between 1 and 10,000, but got 0.",
        ),
        (
            lambda: ModelConfig(d_model=90),
            "d_model",
            "Width (d_model) must be a multiple of num_heads, but 90 is not a multiple of 4: "
            "choose for example d_model 88.",
        ),
        (
            lambda: TrainingConfig(learning_rate=1e-4, min_learning_rate=1e-3),
            "min_learning_rate",
            "Final learning rate must not exceed learning_rate, but 0.001 is more than 0.0001: "
            "choose at most 0.0001.",
        ),
        (
            lambda: ModelConfig.from_dict([]),
            "",
            "ModelConfig must be a JSON object, but got [].",
        ),
    ],
)
def test_an_error_knows_its_field_and_the_page_calls_it_by_its_label(make, field, sentence):
    with pytest.raises(ConfigError) as refused:
        make()
    assert refused.value.field == field
    assert explain(refused.value) == sentence
    assert refused.value.problem in str(refused.value)


def test_what_has_no_label_is_called_by_its_name():
    assert label_of("model.d_model") == label_of("d_model") == "Width (d_model)"
    assert label_of("data.title") == "data.title"
    assert explain(ValueError("Something else.")) == "Something else."


def test_several_gpus_are_offered_where_there_are_several():
    """What the page cannot start, processes on several machines, is left to the command line."""
    program = (
        "from keras_lm.system import machine\n"
        "machine.num_gpus = lambda: {count}\n"
        "from keras_lm.ui.parts.fields import all_specs, groups\n"
        "print('training.strategy' in groups()['Training'])\n"
        "print(*all_specs()['training.strategy'].metadata['offered'])"
    )
    for count, offered in ((1, "False"), (2, "True")):
        words = [sys.executable, "-c", program.format(count=count)]
        shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert shown.splitlines() == [offered, "none mirrored"]
