"""The Runs page: its rows; and in a browser: search, choose, compare, delete."""

import dataclasses

from playwright.sync_api import expect

from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import RunFolder
from keras_lm.ui.pages import runs as runs_page
from keras_lm.ui.pages.runs import known_rows, read_slowly
from tests.ui.browsing import no_traceback, settle

ROW = 35  # pixels, of Streamlit's table


def put_run(root, number: int) -> RunFolder:
    folder = RunFolder(root / f"2026010{number}-000000-abcdef")
    folder.create()
    training = dataclasses.replace(QUICK_START.training, seed=number)
    folder.write_config(dataclasses.replace(QUICK_START, training=training).to_dict())
    for step in (10, 20):
        event = {"kind": "metrics", "step": step, "tokens": step, "seconds": 1.0, "loss": 2.0}
        event |= {"train_seconds": 1.0, "val_loss": 2.0, "val_bits_per_byte": 3.0 - step / 100}
        folder.append_event(event)
    folder.write_status(state="finished", step=20, steps=20, message="")
    return folder


def choose_row(page, position: int) -> None:
    canvas = page.locator("[data-testid=stDataFrame] .dvn-scroller")
    canvas.click(position={"x": 20, "y": ROW * (position + 1.5)})
    settle(page)


def test_only_runs_that_changed_are_read_again(tmp_path, monkeypatch):
    folders = [put_run(tmp_path, number) for number in (1, 2, 3)]
    runs, cache, read = Supervisor(tmp_path), {}, []
    thinned = RunFolder.read_thinned
    monkeypatch.setattr(
        RunFolder, "read_thinned", lambda self, n: [read.append(self.run_id), *thinned(self, n)][1:]
    )
    rows = known_rows(runs, cache)
    assert [row["run"] for row in rows] == read == [folder.run_id for folder in folders[::-1]]
    assert known_rows(runs, cache) == rows and len(read) == len(folders)
    event = {"kind": "metrics", "step": 30, "tokens": 30, "seconds": 2.0, "loss": 1.0}
    folders[1].append_event(event | {"train_seconds": 2.0})
    changed = known_rows(runs, cache)
    assert read[3:] == [folders[1].run_id] and changed[1]["seconds"] == 2.0
    assert [changed[0], changed[2]] == [rows[0], rows[2]]
    folders[0].status_file.write_text('{"state": "finished", "steps": "x"}')
    assert known_rows(runs, cache)[2]["state"] == "damaged"
    assert known_rows(runs, cache)[2]["state"] == "damaged" and len(read) == 5


def test_reading_ahead_leaves_half_of_the_time_to_the_pages(tmp_path, monkeypatch):
    folders = [put_run(tmp_path, number) for number in (1, 2, 3)]
    now, took = [0.0], [4.0, 0.5, 2.0]  # seconds, a run each
    slept, cache = [], {}
    thinned = RunFolder.read_thinned

    def slow(self, about):
        now[0] += took[len(cache)]
        return thinned(self, about)

    monkeypatch.setattr(RunFolder, "read_thinned", slow)
    monkeypatch.setattr(runs_page.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(runs_page.time, "sleep", slept.append)
    read_slowly(Supervisor(tmp_path), cache)
    assert slept == took and len(cache) == len(folders)


def test_chosen_runs_are_compared_and_deleted(new_page, address, runs_folder):
    page = new_page()
    page.goto(f"{address}/runs")
    expect(page.get_by_text("There is no run yet")).to_be_visible()
    folders = [put_run(runs_folder, number) for number in (1, 2, 3)]
    page.reload()
    expect(page.locator("[data-testid=stDataFrame] canvas").first).to_be_visible()
    settle(page)
    choose_row(page, 0)
    choose_row(page, 1)
    expect(page.get_by_role("heading", name="2 chosen runs")).to_be_visible()
    expect(page.locator("[data-testid=stVegaLiteChart]")).to_be_visible()
    table = page.locator("[data-testid=stTable]")
    expect(table).to_contain_text("training.seed")  # the only setting that differs
    assert table.locator("tbody tr").count() == 1
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete them").click()
    expect(page.get_by_role("heading", name="2 chosen runs")).to_have_count(0)
    assert [folder.path.exists() for folder in folders] == [True, False, False]
    page.get_by_role("textbox", name="Search").fill("nothing like it")
    page.get_by_role("textbox", name="Search").press("Enter")
    settle(page)
    no_traceback(page)
