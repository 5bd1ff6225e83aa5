"""Races whose files anybody may have damaged: said on their page, while the others stay."""

import json
import os
import shutil

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from keras_lm.runs.race import RACES, RESULT_FILE, Race
from keras_lm.runs.race_config import RACE_FILE, RaceConfig
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.presets import QUICK_START
from keras_lm.system.paths import RUNS_VARIABLE
from keras_lm.ui.reach import STYLED

SOUND, DAMAGED = "20260101-000000", "20260102-000000"
PROGRAM = "from keras_lm.ui.pages import race\nrace.page()"
POINT = {"kind": "metrics", "step": 3, "tokens": 300, "seconds": 9.0, "train_seconds": 3.0}
POINT |= {"loss": 1.0, "val_loss": 1.4, "bits_per_byte": 2.0, "val_bits_per_byte": 2.0}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder of runs with two races that have ended."""
    root = tmp_path_factory.mktemp("races")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Supervisor, "_launch", lambda *_: None)
        for name in (SOUND, DAMAGED):
            race = Race(root / RACES / name, Supervisor(root))
            race.create(RaceConfig(QUICK_START, "norm", ("rmsnorm", "layernorm"), (1, 2)))
            race.go_on()
            for run in race.runs():
                race.supervisor.folder(run.run_id).append_event(POINT)
                race.supervisor.folder(run.run_id).write_status(state="finished", message="")
    return root


def value(*path, value):
    """Puts another value somewhere into the race's file."""

    def harm(race: Race) -> None:
        content = json.loads((race.path / RACE_FILE).read_text())
        part = content
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        (race.path / RACE_FILE).write_text(json.dumps(content))

    return harm


def content(source: bytes):
    return lambda race: (race.path / RACE_FILE).write_bytes(source)


def instead(make):
    def harm(race: Race) -> None:
        (race.path / RACE_FILE).unlink()
        make(race.path / RACE_FILE)

    return harm


def of_run(harm):
    """Damages the first run."""
    return lambda race: harm(race.supervisor.folder(race.runs()[0].run_id))


HARMS = {
    "no race.json": instead(lambda path: None),
    "a folder": instead(os.mkdir),
    "a pipe": instead(os.mkfifo),
    "a link to itself": instead(lambda path: path.symlink_to(path)),
    "empty": content(b""),
    "null": content(b"null"),
    "a list": content(b"[]"),
    "a number of 5,000 digits": content(b"1" * 5_000),
    "nested": content(b"[" * 100_000),
    "not UTF-8": content(b"\xff\xfe{}"),
    "too large": content(b" " * 2**21),
    "runs null": value("runs", value=None),
    "a run is a list": value("runs", 0, value=[]),
    "a folder is a number": value("runs", 0, "folder", value=1e308),
    "a folder elsewhere": value("runs", 0, "folder", value="../../../etc"),
    "a folder with half a character": value("runs", 0, "folder", value="\ud800"),
    "an entry is a list": value("runs", 0, "entry", value=[]),
    "an unknown entry": value("runs", 0, "entry", value="x" * 5_000),
    "an unknown seed": value("runs", 0, "seed", value=-1),
    "no seeds": value("seeds", value=[]),
    "a seed is a list": value("seeds", 0, value=[[]]),
    "a huge seed": value("seeds", 0, value=10**400),
    "the setting is null": value("vary", "setting", value=None),
    "values are the same": value("vary", "values", value=["rmsnorm", "rmsnorm"]),
    "a value is an object": value("vary", "values", 0, value={}),
    "not a number": value("config", "training", "steps", value=float("nan")),
    "no config": value("config", value={}),
    "the result is a folder": lambda race: (race.path / RESULT_FILE).mkdir(),
    "a run is gone": of_run(lambda folder: shutil.rmtree(folder.path)),
    "a run's events do not fit": of_run(lambda folder: folder.append_event({"kind": "metrics"})),
    "a run's status is no JSON": of_run(lambda folder: folder.status_file.write_text("[")),
    "a run's config is no JSON": of_run(lambda folder: folder.config_file.write_text("{")),
}


@pytest.mark.parametrize("harm", HARMS)
def test_no_damage_of_a_race_takes_its_page_or_another_race_away(
    harm, template, tmp_path, monkeypatch
):
    root = tmp_path / "runs"
    shutil.copytree(template, root)
    monkeypatch.setenv(RUNS_VARIABLE, str(root))
    st.cache_resource.clear()
    HARMS[harm](Race(root / RACES / DAMAGED, Supervisor(root)))
    page = AppTest.from_string(PROGRAM, default_timeout=60)
    page.session_state[STYLED] = True
    page.query_params["race"] = DAMAGED
    page.run()
    st.cache_resource.clear()
    assert not page.exception, page.exception[0].message
    assert page.error or page.subheader  # a sentence, or what is left of the race
    (races,) = page.selectbox
    assert any("01-01 00:00" in option and "norm: rmsnorm" in option for option in races.options)


@pytest.mark.parametrize("state, can_resume", [("interrupted", True), ("stopped", False)])
def test_what_was_killed_can_be_resumed_while_the_other_runs_go_on(
    state, can_resume, tmp_path, monkeypatch
):
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    monkeypatch.setattr(Supervisor, "_launch", lambda *_: None)
    race = Race(tmp_path / RACES / SOUND, Supervisor(tmp_path))
    race.create(RaceConfig(QUICK_START, "norm", ("rmsnorm", "layernorm"), (1,)))
    race.go_on()
    ended, waits = (race.supervisor.folder(run.run_id) for run in race.runs())
    ended.write_status(state=state)
    st.cache_resource.clear()
    page = AppTest.from_string(PROGRAM, default_timeout=60)
    page.session_state[STYLED] = True
    page.query_params["race"] = SOUND
    page.run()
    assert [button.label for button in page.button] == ["Stop", *["Resume"] * can_resume]
    if can_resume:
        page.button(key="race.go").click().run()
        assert ended.read_status()["state"] == waits.read_status()["state"] == "queued"
        assert [button.label for button in page.button] == ["Stop"]
    st.cache_resource.clear()
