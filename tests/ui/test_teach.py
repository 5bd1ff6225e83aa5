"""Going on with a run's model on another text, on the page, without a browser."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from keras_lm.data.corpus import prepare
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.presets import ORIGINAL
from keras_lm.storage import run_folder
from keras_lm.storage.files import write_atomically
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.paths import RUNS_VARIABLE
from keras_lm.ui.reach import STYLED

PAGE = Path(__file__).parents[2] / "streamlit_app.py"
RUN = "20260101-000000-abcdef"


@pytest.fixture
def finished(tmp_path, monkeypatch) -> Iterator[RunFolder]:
    """A finished run with a model of some bytes; the page launches nothing."""
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(Supervisor, "_launch", lambda *_: None)
    st.cache_resource.clear()
    folder = RunFolder(tmp_path / RUN)
    folder.create()
    data = ORIGINAL.data.changed(tokenizer="char", cleaning="none", data="alice")
    tokenizer = prepare(data, 8).tokenizer
    config = type(ORIGINAL)(ORIGINAL.model, data, ORIGINAL.training)
    folder.write_config(config.with_vocab_size(tokenizer.vocab_size).to_dict())
    folder.write_status(state=run_folder.FINISHED, step=20, steps=20, message="")
    (folder.checkpoints / "step-00000020").mkdir(parents=True)
    write_atomically(folder.model_file, b"a model")
    write_atomically(folder.tokenizer_file, json.dumps(tokenizer.to_dict()).encode())
    yield folder
    st.cache_resource.clear()


def dialog(run_id: str, steps: int) -> None:
    """The dialog alone."""
    from keras_lm.ui.parts.run_buttons import ask_how_long

    ask_how_long(run_id, steps)


def test_teach_it_more_opens_a_form_that_names_the_run(finished):
    page = AppTest.from_function(dialog, args=(RUN, 30), default_timeout=60).run()
    page.button(key="longer.teach").click().run()
    assert not page.exception
    draft = page.session_state["draft"]
    assert draft.initial == RUN and draft.text != "alice"
    assert RUN in page.query_params["init_from"]


def test_the_form_starts_a_run_with_a_copy_of_the_model_and_can_drop_it(finished, tmp_path):
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state[STYLED] = True
    page.query_params.update(
        {"run": "new", "preset": "original", "init_from": RUN, "data.tokenizer": "char"}
    )
    page.run()
    assert not page.exception and not page.error
    assert any("Goes on with the model of:" in caption.value for caption in page.caption)
    page.number_input(key="training.lora_rank").set_value(4).run()
    assert [card.label for card in page.metric][0] == "Trained weights"
    page.button(key="start").click().run()
    (made,) = (path for path in tmp_path.glob("2*") if path.name != RUN)
    folder = RunFolder(made)
    assert folder.initial_model.read_bytes() == b"a model"
    assert folder.read_config()["data"]["init_from"] == str(finished.model_file)
    assert folder.read_config()["training"]["lora_rank"] == 4

    page.query_params["run"] = "new"
    page.run()
    page.button(key="initial.drop").click().run()
    assert not any("Goes on with the model of:" in caption.value for caption in page.caption)
    assert "init_from" not in page.query_params
    assert "training.lora_rank" not in page.query_params and not page.button(key="start").disabled
    assert "training.lora_rank" not in {field.key for field in page.number_input}


def test_another_preset_leaves_the_model_its_shape_and_no_task_is_offered(finished):
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state[STYLED] = True
    page.query_params.update(
        {"run": "new", "preset": "original", "init_from": RUN, "data.tokenizer": "char"}
    )
    page.run()
    for preset in ("Five minutes", "Task"):
        page.pills(key="preset").set_value(preset).run()
        assert not page.exception and not page.error
        assert page.session_state["draft"].values["model.num_blocks"] == 6
        assert page.session_state["draft"].text == "sense-and-sensibility"
    assert not any("Task" in title for title in page.selectbox(key="data.data").options)
    page.pills(key="size").set_value("Small").run()
    assert page.button(key="start").disabled
    (back,) = (button for button in page.button if button.label == "Back to Task")
    back.click().run()
    assert page.session_state["draft"].values["model.num_blocks"] == 6 and not page.error


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ({"model.num_blocks": "3"}, "as in the model of init"),
        ({"data.tokenizer": "gpt2"}, "must be char, the model's own"),
        ({"init_from": "20260101-000000-000000"}, "The model to go on with is gone"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_can_start(finished, address, words):
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state[STYLED] = True
    given = {"run": "new", "preset": "original", "init_from": RUN, "data.tokenizer": "char"}
    page.query_params.update(given | address)
    page.run()
    assert not page.exception and page.button(key="start").disabled
    (error,) = page.error
    assert words in error.value.replace("\\", "")


def to_folder(folder: RunFolder) -> None:
    folder.model_file.unlink()
    folder.model_file.mkdir()


def damage_config(folder: RunFolder) -> None:
    folder.lock_file.touch()  # by which it still is a run of ours
    folder.config_file.write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: folder.model_file.unlink(), "cannot be used: there is no file"),
        (to_folder, "cannot be used: there is no file"),
        (damage_config, "cannot be used: config.json"),
        (lambda folder: folder.tokenizer_file.unlink(), "tokenizer.json is not there."),
        (lambda folder: folder.tokenizer_file.write_text("{"), "tokenizer.json must be JSON"),
    ],
    ids=["no model", "a folder", "damaged config", "no tokenizer", "damaged tokenizer"],
)
def test_a_model_that_cannot_be_gone_on_with_has_its_own_reason(finished, spoil, words):
    spoil(finished)
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state[STYLED] = True
    given = {"run": "new", "preset": "original", "init_from": RUN, "data.tokenizer": "char"}
    page.query_params.update(given)
    page.run()
    assert not page.exception and page.button(key="start").disabled
    (error,) = page.error
    assert words in error.value.replace("\\", "") and "is gone" not in error.value
