"""Training longer and a race's budget on the page, without a browser."""

from dataclasses import replace
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from keras_lm.runs.race import Race
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.paths import RUNS_VARIABLE
from keras_lm.ui.reach import STYLED

PAGE = Path(__file__).parents[2] / "streamlit_app.py"
RUN = "20260101-000000-abcdef"


@pytest.fixture
def launched(tmp_path, monkeypatch) -> list[tuple[str, ...]]:
    """What the page has launched, of which nothing begins."""
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    words = []
    monkeypatch.setattr(Supervisor, "_launch", lambda self, folder, *rest: words.append(rest))
    st.cache_resource.clear()
    yield words
    st.cache_resource.clear()


def put_ended(root: Path, state: str, has_checkpoint: bool) -> RunFolder:
    folder = RunFolder(root / RUN)
    folder.create()
    training = QUICK_START.training.changed(steps=1_750)
    folder.write_config(replace(QUICK_START, training=training).to_dict())
    if has_checkpoint:
        (folder.checkpoints / "step-00000020").mkdir(parents=True)
    folder.write_status(state=state, step=20, steps=20, message="")
    return folder


@pytest.mark.parametrize(
    ("state", "has_checkpoint"),
    [
        (run_folder.FINISHED, True),
        (run_folder.STOPPED, True),
        (run_folder.INTERRUPTED, True),
        (run_folder.FINISHED, False),
    ],
)
def test_a_run_that_has_ended_with_a_checkpoint_can_be_trained_longer(
    tmp_path, launched, state, has_checkpoint
):
    put_ended(tmp_path, state, has_checkpoint)
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state[STYLED] = True
    page.query_params["run"] = RUN
    page.run()
    assert ("longer" in {button.key for button in page.button}) == has_checkpoint
    if has_checkpoint:
        page.button(key="longer").click().run()
        assert page.number_input(key="longer.Steps").value == 10  # half of what was made
    assert not page.exception and not launched


def test_settings_and_lists_show_the_steps_that_a_run_has_since_it_was_trained_longer(
    tmp_path, launched
):
    folder = put_ended(tmp_path, run_folder.FINISHED, has_checkpoint=True)
    steps = QUICK_START.training.steps
    folder.append_event({"kind": "plan", "step": steps, "begin": steps, "steps": steps + 250})
    folder.write_status(state=run_folder.FINISHED, steps=steps + 250, longer_from=steps)
    page = AppTest.from_file(PAGE, default_timeout=60)
    page.session_state[STYLED] = True
    page.query_params["run"] = RUN
    page.run()
    assert any("steps: 2000\n" in text.value for text in page.sidebar.get("text"))
    assert "Trained longer after step 1,750." in [each.value for each in page.sidebar.caption]
    assert "steps 2,000" in page.title[0].value.replace("\\", "")
    assert "steps 2,000" in page.selectbox[0].options[1]
    page.button("duplicate").click().run()
    assert page.number_input("training.steps").value == steps + 250


def dialog(run_id: str, steps: int) -> None:
    """The dialog alone: a whole page that runs again would close it."""
    from keras_lm.ui.parts.run_buttons import ask_how_long

    ask_how_long(run_id, steps)


@pytest.mark.parametrize(("steps", "offered"), [(1, 10), (30, 15), (2_000, 1_000), (9_000, 1_000)])
def test_half_of_the_steps_is_offered_within_bounds(launched, steps, offered):
    page = AppTest.from_function(dialog, args=(RUN, steps), default_timeout=60).run()
    assert page.number_input(key="longer.Steps").value == offered


@pytest.mark.parametrize(
    ("unit", "more", "flags"),
    [("Steps", 7, ("--steps", "7")), ("Seconds", 90, ("--max-seconds", "90"))],
)
def test_what_is_asked_for_is_queued(tmp_path, launched, unit, more, flags):
    folder = put_ended(tmp_path, run_folder.FINISHED, True)
    page = AppTest.from_function(dialog, args=(RUN, 30), default_timeout=60).run()
    page.pills(key="longer.unit").set_value(unit).run()
    page.number_input(key=f"longer.{unit}").set_value(more).run()
    page.button(key="longer.train").click().run()
    assert not page.exception
    assert launched == [("resume", "--wait-turn", *flags)]
    assert folder.read_status()["state"] == run_folder.QUEUED


def race() -> None:
    """The Race page alone."""
    from keras_lm.ui.pages.race import page

    page()


@pytest.mark.parametrize(
    ("budget", "most", "kept"),
    [
        ("Steps", 200, {"steps": 200, "max_tokens": 0, "max_seconds": 0.0}),
        ("Tokens", 5_000, {"max_tokens": 5_000, "max_seconds": 0.0}),
        ("Seconds", 20, {"max_tokens": 0, "max_seconds": 20.0, "count_start": False}),
    ],
)
def test_a_race_is_made_with_the_budget_that_was_chosen(tmp_path, launched, budget, most, kept):
    page = AppTest.from_function(race, default_timeout=60).run()
    page.pills(key="race.budget").set_value(budget).run()
    page.number_input(key=f"race.{budget.lower()}").set_value(most).run()
    assert page.number_input(key=f"race.{budget.lower()}").label == f"{budget} of each run"
    page.button(key="race.start").click().run()
    assert not page.exception
    (file,) = tmp_path.glob("races/*/race.json")
    training = Race(file.parent, Supervisor(tmp_path)).read().base.training
    assert {name: getattr(training, name) for name in kept} == kept
    assert training.sample_every == training.patience == 0 < training.eval_every
    assert any(f"{budget}: {most:,}" in text.value for text in page.markdown)
