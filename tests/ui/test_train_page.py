"""The Train page in use: a run in one view where nothing moves, a form that forgets nothing."""

import contextlib
import re
import subprocess
import sys

import psutil
import pytest
from playwright.sync_api import expect

from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import MANIFEST_FILE, RunFolder
from tests.ui.browsing import (
    MOVED,
    SECOND,
    choose,
    fill,
    fill_steps,
    no_traceback,
    open_form,
    open_group,
    settle,
    start,
)


def put_ended_run(runs_folder, run_id: str, loss: float = 2.0) -> RunFolder:
    folder = RunFolder(runs_folder / run_id)
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    times = {"seconds": 75.0, "train_seconds": 70.0, "perplexity": 22480.4}
    for step, val_loss in ((10, loss), (20, loss + 0.1)):
        times["tokens"] = 9 * step
        event = {"kind": "metrics", "step": step, "loss": loss, "val_loss": val_loss, **times}
        folder.append_event(event)
    folder.log_file.write_text("".join(f"line {n} of the log\n" for n in range(900)))
    status = {"state": "finished", "step": 20, "steps": 20, "message": "", "loss": loss}
    folder.write_status(**status, vocab_size=78, unigram_entropy=3.0)
    return folder


def test_a_run_is_seen_as_a_whole_and_nothing_moves(new_page, address):
    for viewport in ({"width": 390, "height": 844}, {"width": 1280, "height": 720}):
        page = new_page(viewport=viewport)
        page.add_init_script(MOVED)
        open_form(page, address)
        assert page.evaluate("moved") < 0.05
    expect(page.locator("[data-testid=stSidebar]").get_by_text("Advanced")).to_be_visible()
    start(page, 200)
    expect(page.locator(".st-key-numbers")).to_be_visible()
    settle(page)
    page.wait_for_timeout(SECOND / 2)  # what follows the click itself
    page.evaluate("window.moved = 0")
    expect(page.get_by_text("after step 10", exact=True)).to_be_visible()
    parts = [page.get_by_role("progressbar"), page.locator(".st-key-numbers")]
    parts += [page.locator(".st-key-curve .stVegaLiteChart"), page.locator(".sample.newest")]
    for part in parts:
        box = part.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 720
    expect(page.locator(".stMarkdownBadge")).to_contain_text("Finished", timeout=90 * SECOND)
    settle(page)
    assert page.evaluate("moved") == 0
    no_traceback(page)


@pytest.fixture
def living():
    """The identity of a process that lives as long as the test, as a run's status has it."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield {"pid": child.pid, "pid_started": psutil.Process(child.pid).create_time()}
    child.kill()
    child.wait()


def add_sample(folder: RunFolder, step: int) -> None:
    event = {"kind": "sample", "step": step, "prompt": "<b>", "text": f" text {step}\n" * 30}
    folder.append_event(event)
    likely = {"kind": "probabilities", "step": step, "of_next": [step / 100, 0.5]}
    folder.append_event(likely)


def test_samples_play_to_the_end_and_the_newest_comes_unless_another_is_chosen(
    new_page, address, runs_folder, living
):
    folder = RunFolder(runs_folder / "20260112-000000-abcdef")
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    folder.append_event({"kind": "window", "step": 0, "tokens": ["T", "<i>", "\n"]})
    event = {"kind": "metrics", "step": 10, "tokens": 90, "loss": 3.0}
    event |= {"seconds": 9.0, "train_seconds": 1.0}
    folder.append_event(event)
    for step in (10, 20, 30):
        add_sample(folder, step)
    folder.write_status(state="training", step=30, steps=900, **living)
    folder.request("sample")  # which nobody serves: the page looks every second
    page = new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    page.add_init_script(MOVED)
    page.goto(f"{address}/?run={folder.run_id}")
    play, slider = page.get_by_role("button", name="Play the samples"), page.get_by_role("slider")
    shown, window = page.locator(".step"), page.locator(".window")
    expect(shown).to_have_text("after step 30")
    page.wait_for_timeout(SECOND / 2)
    page.evaluate("window.moved = 0")

    play.tap()
    for step in (10, 20, 30):
        expect(shown).to_have_text(f"after step {step}")
        expect(page.locator(".sample")).to_contain_text(f"<b> text {step}")
        expect(window).to_have_attribute("aria-label", re.compile(f"{step}.0%.* It is: T<i>\n"))
    expect(play).to_be_visible()  # it ended by itself
    add_sample(folder, 40)
    expect(shown).to_have_text("after step 40")

    slider.press("Home")
    expect(shown).to_have_text("after step 10")
    expect(slider).to_have_attribute("aria-valuetext", "after step 10, 1 of 4")
    add_sample(folder, 50)
    expect(slider).to_have_attribute("max", "4")
    expect(shown).to_have_text("after step 10")
    slider.press("End")
    play.press("Enter")
    page.get_by_role("button", name="Pause").press("Enter")
    expect(play).to_be_visible()
    assert page.evaluate("moved") == 0
    no_traceback(page)


@contextlib.contextmanager
def holding(page, key: str):
    """While a key is pressed."""
    page.keyboard.down(key)
    yield
    page.keyboard.up(key)


def test_a_wheel_scrolls_with_ctrl_it_zooms_and_the_zoom_stays_when_points_come(
    new_page, address, runs_folder, living
):
    folder = RunFolder(runs_folder / "20260113-000000-abcdef")
    folder.create()
    folder.write_config(QUICK_START.to_dict())

    def add_point(step: int) -> None:
        event = {"kind": "metrics", "step": step, "loss": 300 / step}
        folder.append_event(event | {"tokens": step, "seconds": 9.0, "train_seconds": 1.0})

    for step in range(100, 300, 10):
        add_point(step)
    folder.write_status(state="training", step=290, steps=900, **living)
    folder.request("sample")  # which nobody serves: the page looks every second
    page = new_page(viewport={"width": 1280, "height": 720})
    page.goto(f"{address}/?run={folder.run_id}")
    chart, words = page.locator(".st-key-curve svg.marks"), page.locator(".st-key-curve p")
    numbers = chart.locator(".role-axis-label text")
    far = numbers.filter(
        has_text=re.compile("^(250|260|300)$")
    )  # of the whole axis, not when zoomed
    expect(far.first).to_be_visible()
    expect(words).to_contain_text("train: from 3 at step 100 to 1.034 at step 290")
    chart.hover()
    whole = numbers.all_text_contents()
    page.mouse.wheel(0, 200)  # scrolls the page
    page.wait_for_function("document.querySelector('[data-testid=stMain]').scrollTop > 0")
    page.wait_for_timeout(SECOND / 2)
    assert numbers.all_text_contents() == whole
    chart.hover()
    with holding(page, "Control"):
        page.mouse.wheel(0, -900)
    expect(far).to_have_count(0)
    page.wait_for_timeout(SECOND / 2)
    zoomed = numbers.all_text_contents()
    for step in (300, 310, 320):
        add_point(step)
        expect(words).to_contain_text(f"at step {step}")
        page.wait_for_timeout(SECOND / 4)
        assert numbers.all_text_contents() == zoomed
    chart.dblclick()
    expect(far.first).to_be_visible()
    no_traceback(page)


def test_an_ended_run_says_when_how_long_and_how_well(new_page, address, runs_folder):
    folder = put_ended_run(runs_folder, "20260107-000000-abcdef")
    for number in range(9):
        folder.append_event({"kind": "note", "step": 9, "message": f"{number} {'note ' * 40}."})
    put_ended_run(runs_folder, "20260108-000000-abcdef", loss=8.08)
    page = new_page(viewport={"width": 390, "height": 844})
    page.goto(f"{address}/?run=20260107-000000-abcdef")
    course = r"best validation loss 2\.000 at step 10 · took 1 min 15 s · 20\d\d-\d\d-\d\d"
    expect(page.get_by_text(re.compile(course))).to_be_visible()
    expect(page.get_by_text("22,480", exact=True)).to_be_visible()
    chart = page.locator(".st-key-curve .stVegaLiteChart")
    expect(chart).to_be_visible()
    assert chart.bounding_box()["y"] < 1.5 * 844
    last_note = page.get_by_text(re.compile("^8 note")).bounding_box()
    title = page.get_by_text("Log", exact=True)
    assert last_note["y"] + last_note["height"] <= title.bounding_box()["y"]  # nothing is cut off
    title.click()
    log = page.locator(".log")
    log.scroll_into_view_if_needed()
    assert log.evaluate("(box) => box.scrollTop") == 0  # counted from its end
    bottoms = "(box) => [box, box.firstChild].map((e) => e.getBoundingClientRect().bottom)"
    outer, inner = log.evaluate(bottoms)
    assert inner == pytest.approx(outer, 0.01)  # its end is in view
    assert re.match(r"line \d+ of the log\n", log.inner_text())
    assert log.inner_text().rstrip().endswith("line 899 of the log")
    page.goto(f"{address}/?run=20260108-000000-abcdef")
    runs = page.get_by_role("combobox", name="Run")
    expect(runs).to_have_value(re.compile("2026-01-08 00:00 · failed to learn"))
    expect(page.locator(".stMarkdownBadge")).to_contain_text("Failed to learn")
    no_traceback(page)


def test_all_buttons_of_a_run_fit_into_one_row_on_a_laptop(new_page, address, runs_folder):
    folder = put_ended_run(runs_folder, "20260111-000000-abcdef")
    folder.write_status(state="interrupted", message="The machine was restarted.")
    folder.model_file.write_bytes(b"a model")
    checkpoint = folder.checkpoints / "step-00000020"
    checkpoint.mkdir(parents=True)
    (checkpoint / MANIFEST_FILE).write_text("{}")
    page = new_page(viewport={"width": 1280, "height": 720})
    page.goto(f"{address}/?run={folder.run_id}")
    with page.expect_download() as download:
        page.get_by_role("button", name="Report").click()
    assert "<svg" in download.value.path().read_text()
    row = page.locator(".st-key-run-buttons")
    expect(row.get_by_role("button")).to_have_count(7)
    bottom = row.bounding_box()["y"] + row.bounding_box()["height"]
    for button in row.get_by_role("button").all():
        box = button.bounding_box()
        assert box["y"] + box["height"] <= bottom, button.inner_text()


@pytest.mark.parametrize("way", ["another run", "another page"])
def test_the_form_keeps_what_was_set(way, page, runs_folder):
    put_ended_run(runs_folder, "20260109-000000-abcdef")
    fill_steps(page, 777)
    open_group(page, "Training")
    fill(page, "Seed", 5)
    if way == "another run":
        page.reload()
        settle(page)
        choose(page, "Run", "2026-01-09")
        expect(page.get_by_text("Step 20 of 20")).to_be_visible()
        page.get_by_role("button", name="New run").click()
    else:
        page.get_by_role("link", name="Inspect").first.click()
        settle(page)
        page.get_by_role("link", name="Train").first.click()
    expect(page.get_by_label("Steps", exact=True)).to_have_value("777")
    expect(page.get_by_text("Seed: 5")).to_be_visible()


def test_a_duplicate_waits_in_the_form_and_marks_what_differs(page, address, runs_folder):
    folder = put_ended_run(runs_folder, "20260110-000000-abcdef")
    config = QUICK_START.to_dict()
    config["training"] |= {"seed": 9}
    config["model"] |= {"num_heads": 16, "context_length": 100}  # no mark of their sliders
    folder.write_config(config)
    page.goto(f"{address}/?run={folder.run_id}")
    page.get_by_role("button", name="Duplicate").click()
    expect(page.get_by_text("Unchanged, they give one like it")).to_be_visible()
    for text in ("Seed: 9", "Heads: 16", "Context length: 100"):
        expect(page.get_by_text(text)).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    open_group(page, "Model")
    expect(page.get_by_role("slider", name="Heads")).to_be_visible()
    fill_steps(page, 500_000)
    expect(page.get_by_text("it mostly learns the text by heart")).to_be_visible()
    no_traceback(page)


def test_an_empty_paste_box_asks_for_a_text(page, tmp_path):
    (tmp_path / "mine.txt").write_text("The fox ate the man at her sister's. " * 200)
    choose(page, "Text", "Upload a file")
    page.locator("input[type=file]").set_input_files(tmp_path / "mine.txt")
    expect(page.get_by_text("In use: mine.txt")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    choose(page, "Text", "Paste a text")
    expect(page.get_by_text("Upload or paste your text")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    choose(page, "Text", "Upload a file")
    expect(page.get_by_text("In use: mine.txt")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
