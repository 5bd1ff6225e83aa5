"""Names, notes and stars of runs: given on the Runs page, shown wherever runs are listed."""

from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from keras_lm.presentation.formatting import label_runs
from keras_lm.runs.supervisor import RunSummary
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.paths import RUNS_VARIABLE
from keras_lm.ui.pages.runs import TABLE
from keras_lm.ui.reach import STYLED

PAGE = Path(__file__).parents[2] / "streamlit_app.py"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The folder of the page's runs."""
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    st.cache_resource.clear()
    yield tmp_path
    st.cache_resource.clear()


def put_run(root: Path, number: int, *prompts: str) -> RunFolder:
    """A finished run with a sample of each prompt."""
    folder = RunFolder(root / f"2026010{number}-000000-abcdef")
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    event = {"kind": "metrics", "step": 10, "loss": 2.0, "val_loss": 1.5}
    folder.append_event(event | {"seconds": 1.0, "train_seconds": 1.0, "tokens": 10})
    for step, prompt in enumerate(prompts):
        event = {"kind": "sample", "step": step, "prompt": prompt, "text": f" {number}.{step}"}
        folder.append_event(event)
    folder.write_status(state="finished", step=10, steps=10, message="", best_loss=1.5)
    return folder


def draw(page: str) -> AppTest:
    """A page, or a part of one, by its module and function."""
    module, _, function = page.rpartition(".")
    program = f"from keras_lm.ui.{module} import {function}\n{function}()"
    shown = AppTest.from_string(program, default_timeout=60).run()
    assert not shown.exception
    return shown


def choose(page: AppTest, *rows: int) -> None:
    page.session_state[TABLE] = {"selection": {"rows": [*rows]}}
    page.run()
    assert not page.exception


def summary(state: str, run_id: str = "20260101-000000-abcdef", **status) -> RunSummary:
    return RunSummary(run_id, state, QUICK_START, status)


def test_labels_say_how_a_run_ended_but_never_change_while_it_is_active():
    active = [
        label_runs([summary(state, best_loss=loss)])
        for state in run_folder.ACTIVE_STATES
        for loss in (None, 1.0)
    ]
    assert all(labels == active[0] for labels in active)
    (label,) = label_runs([summary("stopped", best_loss=1.2345)]).values()
    assert label.endswith("2026-01-01 00:00 · stopped, best loss 1.234 · Quick start")
    (label,) = label_runs([summary("finished", loss=3.0, unigram_entropy=3.0)]).values()
    assert label.endswith("00:00 · failed to learn · Quick start")


def test_labels_have_name_and_star_and_no_two_are_alike():
    twins = [summary("finished", f"20260101-000000-00000{n}") for n in (1, 2)]
    twins = [RunSummary(s.run_id, s.state, s.config, {}, "", {"name": "My\nown"}) for s in twins]
    first, second = label_runs(twins).values()
    same = [summary("finished", f"20260101-000000-00000{n}") for n in (1, 2)]
    assert len({*label_runs(same).values()}) == 2
    assert first.startswith("My own · 2026") and first != second
    starred = RunSummary("20260101-000000-abcdef", "finished", None, {}, "", {"starred": True})
    assert next(iter(label_runs([starred]).values())).startswith("★ ")


def test_one_chosen_run_is_named_noted_and_starred_and_stays_chosen(runs):
    put_run(runs, 1)
    folder = put_run(runs, 2)
    page = draw("pages.runs.page")
    assert "Name" not in page.dataframe[0].value
    choose(page, 0)
    page.text_input(key=f"runs.name.{folder.run_id}").input("Wide *one*").run()
    page.checkbox(key=f"runs.starred.{folder.run_id}").check().run()
    page.text_area(key=f"runs.note.{folder.run_id}").input("Twice as wide.").run()
    assert not page.exception and not page.error
    notes = {"name": "Wide *one*", "starred": True, "note": "Twice as wide."}
    assert folder.notes_and_damage() == (notes, "")
    shown = page.dataframe[0].value
    assert shown[["★", "Name", "Note"]].values.tolist()[0] == ["★", "Wide *one*", "Twice as wide."]
    put_run(runs, 3)  # comes above it
    page.run()
    assert page.text_input(key=f"runs.name.{folder.run_id}").value == "Wide *one*"
    page.text_input(key="runs.search").input("wide twice").run()
    assert page.dataframe[0].value["Run"].tolist() == [folder.run_id]
    assert page.session_state[TABLE]["selection"]["rows"] == [0]


def test_samples_stand_side_by_side_for_one_prompt(runs):
    put_run(runs, 1, "The man", "A")
    put_run(runs, 2, "The man", "Old")
    page = draw("pages.runs.page")
    choose(page, 0, 1)
    assert [code.value for code in page.code] == ["The man 2.0", "The man 1.0"]
    assert any("for the prompt" in caption.value for caption in page.caption)
    put_run(runs, 3, "Else")
    page.run()
    choose(page, 0, 2)
    assert [code.value for code in page.code] == ["Else 3.0", "A 1.1"]
    assert any("no prompt in common" in caption.value for caption in page.caption)
    page.button(key="runs.delete").click().run()
    shown = " ".join(markdown.value for markdown in page.markdown)
    assert "2 runs are removed" in shown and shown.count("best loss 1") == 2


def test_a_name_that_the_disk_refuses_is_said(runs):
    folder = put_run(runs, 1)
    page = draw("pages.runs.page")
    choose(page, 0)
    folder.notes_file.mkdir()
    page.text_input(key=f"runs.name.{folder.run_id}").input("Mine").run()
    assert not page.exception and "The disk refused" in page.error[0].value


def test_lists_of_other_pages_show_it_and_what_is_chosen_stays_chosen(runs):
    first, second = put_run(runs, 1), put_run(runs, 2)
    for folder in (first, second):
        folder.model_file.write_bytes(b"")
    first.write_notes(name="Mine", starred=True)
    train = AppTest.from_file(PAGE, default_timeout=60)
    train.session_state[STYLED] = True
    train.query_params["run"] = first.run_id
    for page, key in ((train.run(), "chosen_run"), (draw("parts.models.choose_model"),) * 2):
        key = key if isinstance(key, str) else "model.choice"
        options = page.selectbox(key=key).options
        label = "★ Mine · 2026-01-01 00:00 · finished, best loss 1.500"
        assert label in options
        page.selectbox(key=key).set_value(first.run_id).run()
        first.write_notes(name="Other")
        page.run()
        assert page.selectbox(key=key).value == first.run_id
        assert "★ Other" in " ".join(page.selectbox(key=key).options)
        first.write_notes(name="Mine")
        assert not page.exception
