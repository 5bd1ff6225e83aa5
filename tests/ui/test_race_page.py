"""The Race page: from the form to the verdict, in a browser."""

import json
import re

from playwright.sync_api import expect

from keras_lm.runs.race import RACES, Race
from keras_lm.runs.race_config import RaceConfig
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.presets import QUICK_START
from tests.ui.browsing import MOVED, SECOND, no_traceback, settle

POINT = {"kind": "metrics", "step": 10, "tokens": 99, "seconds": 9.0, "train_seconds": 3.0}
POINT |= {"loss": 1.4, "val_loss": 1.4, "bits_per_byte": 2.0, "val_bits_per_byte": 2.0}
TINY = "model.context_length=16&model.d_model=16&model.num_blocks=1&model.ffn_dim=16"


def test_a_race_is_run_in_the_page_to_its_sentence(new_page, address, runs_folder):
    page = new_page(viewport={"width": 1280, "height": 720})
    page.goto(f"{address}/race?{TINY}")
    settle(page)
    page.get_by_role("radio", name="Norms").click()
    settle(page)
    page.get_by_label("Steps of each run", exact=True).fill("10")
    page.get_by_label("Steps of each run", exact=True).press("Enter")
    settle(page)
    for _ in range(2):
        page.get_by_role("slider", name="Seeds").press("ArrowLeft")
        settle(page)
    expect(page.get_by_text("2 runs, one after the other")).to_be_visible()
    page.get_by_role("button", name="Start the race").click()
    expect(page).to_have_url(re.compile(r"race=\d{8}-\d{6}"))
    expect(page.get_by_text(re.compile("of 2 runs finished")).first).to_be_visible()
    page.reload()
    expect(page.get_by_text("2 of 2 runs finished").first).to_be_visible(timeout=240 * SECOND)
    expect(page.get_by_role("button", name="One more seed")).to_be_visible()
    expect(page.locator("[data-testid=stVegaLiteChart]")).to_be_visible()
    (folder,) = (runs_folder / "races").iterdir()
    result = json.loads((folder / "result.json").read_text())
    expect(page.get_by_role("heading", name=result["summary"])).to_be_visible()
    assert [entry["runs"] for entry in result["entries"]] == [1, 1]
    no_traceback(page)


def test_what_cannot_be_raced_is_a_sentence_and_start_waits(new_page, address):
    page = new_page()
    page.goto(f"{address}/race?race={'x' * 300}")
    expect(page.get_by_text("There is no race")).to_be_visible()
    page.goto(f"{address}/race?race=new")
    settle(page)
    page.get_by_role("radio", name="Learning rates").click()
    settle(page)
    values = page.get_by_label("Values, separated by commas")
    for words, sentence in (
        ("1e-3, x", "The values of learning_rate must be numbers"),
        ("1e-3", "A race needs 2 to 6 different values"),
        ("1e-3, 99", "must be between"),
    ):
        values.fill(words)
        values.press("Enter")
        expect(page.get_by_text(sentence)).to_be_visible()
        expect(page.get_by_role("button", name="Start the race")).to_be_disabled()
    values.fill("1e-3, 3e-3")
    values.press("Enter")
    expect(page.get_by_role("button", name="Start the race")).to_be_enabled()
    no_traceback(page)


def test_on_a_telephone_an_ended_race_says_what_is_missing_and_nothing_moves(
    new_page, address, runs_folder, monkeypatch
):
    monkeypatch.setattr(Supervisor, "_launch", lambda *_: None)
    race = Race(runs_folder / RACES / "20260101-000000", Supervisor(runs_folder))
    race.create(RaceConfig(QUICK_START, "norm", ("rmsnorm", "layernorm"), (1, 2)))
    race.go_on()
    ends = {"finished": "", "paused": "It is full. Make room.", "failed": "*nan*", "stopped": ""}
    for run, (state, message) in zip(race.runs(), ends.items(), strict=True):
        folder = race.supervisor.folder(run.run_id)
        folder.append_event(POINT)
        folder.write_status(state=state, step=10, steps=20, message=message)
    page = new_page(viewport={"width": 390, "height": 844})
    page.add_init_script(MOVED)
    page.goto(f"{address}/race?race=20260101-000000")
    settle(page)
    reasons = page.get_by_role("alert")
    expect(reasons).to_contain_text("norm=layernorm, seed 1: It is full.")
    expect(reasons).to_contain_text("norm=rmsnorm, seed 2: *nan*")
    expect(reasons).to_contain_text("norm=layernorm, seed 2: stopped")
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    expect(page.locator("[data-testid=stVegaLiteChart]")).to_be_visible()
    assert page.evaluate("moved") < 0.05
    no_traceback(page)
