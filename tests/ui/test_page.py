"""The whole job in a real browser: train, reload, generate, download, load."""

import math
import os
import re
import time
from urllib.parse import quote

import numpy as np
import pytest
from playwright.sync_api import expect

import keras_lm
from keras_lm.data.corpus import prepare
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import RunFolder
from tests.ui.browsing import (
    SECOND,
    SMALL,
    TEXT,
    choose,
    fill,
    fill_steps,
    no_traceback,
    open_group,
    settle,
    start,
)

pytestmark = pytest.mark.slow


def point(loss: float) -> dict:
    """An event of metrics at step 10."""
    times = {"seconds": 2.0, "train_seconds": 1.0}
    return {
        "kind": "metrics",
        "step": 10,
        "tokens": 90,
        "loss": loss,
        "perplexity": math.exp(loss),
        **times,
    }


def test_train_reload_generate_download_load(new_page, small_page, address, runs_folder, tmp_path):
    page = small_page
    vocab_size = prepare(QUICK_START.data, 1).tokenizer.vocab_size
    weights = QUICK_START.model.changed(**SMALL, vocab_size=vocab_size).parameter_count()
    expect(page.get_by_text(f"{weights:,}")).to_be_visible()
    run_id = start(page, 900)
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.get_by_text("being compiled")).to_be_visible()
    expect(page.get_by_text(re.compile("Step [1-9][0-9]* of"))).to_be_visible()
    expect(page.get_by_text(re.compile(r"\d s left"))).to_be_visible()
    expect(page.locator("[data-testid=stVegaLiteChart]").first).to_be_visible()

    page.reload()  # while it trains
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    second_tab = new_page()
    second_tab.goto(address)  # finds the run by itself
    expect(second_tab.get_by_role("button", name="Stop")).to_be_visible(timeout=30 * SECOND)
    second_tab.close()

    newest = page.get_by_text(re.compile("after step (750|900)"))  # the last steps are soon done
    expect(newest).to_be_visible(timeout=120 * SECOND)
    expect(page.locator(".stMarkdownBadge")).to_contain_text("Finished", timeout=120 * SECOND)
    expect(page.get_by_text("after step 900")).to_be_visible()
    no_traceback(page)
    folder = RunFolder(runs_folder / run_id)
    events, _ = folder.read_events()
    final = [event for event in events if "val_loss" in event][-1]
    assert final["step"] == 900 and final["val_loss"] < folder.read_status()["unigram_entropy"] / 2

    with page.expect_download() as download:
        page.get_by_role("button", name="Download .keras").click()
    path = tmp_path / "downloaded.keras"
    download.value.save_as(path)

    page.get_by_role("button", name="Try this model").click()
    page.get_by_text("Fixed seed").click()
    settle(page)
    page.get_by_label("Prompt", exact=True).fill("7 green")
    page.get_by_label("Prompt", exact=True).press("Control+Enter")
    expect(page.get_by_text(re.compile(r"\d+ characters in \d"))).to_be_visible()
    shown = page.locator(".st-key-generated-0-0").inner_text()
    no_traceback(page)

    bundle = keras_lm.load(path)
    text = keras_lm.generate(bundle, "7 green", max_new_tokens=100, seed=1)
    assert "".join(shown.split()) == "".join(("7 green" + text).split())
    assert "bottles" in text
    expect(page.get_by_text("Copied from the training text: at most")).to_be_visible()
    ids = np.array([bundle.tokenizer.encode("7 green bottles")], "int32")
    stored = keras_lm.load(folder.offered_model)
    assert np.array_equal(bundle.model(ids), stored.model(ids))

    choose(page, "Model", "Upload a .keras file")
    page.locator("input[type=file]").set_input_files(path)
    expect(page.get_by_role("combobox", name="Model")).to_have_value("downloaded.keras")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_text(re.compile(r"\d+ characters in \d"))).to_have_count(2)
    assert page.locator(".st-key-generated-1-0").inner_text() == shown


def test_stop_keeps_the_model_and_a_closed_page_ends_nothing(small_page, address, runs_folder):
    page = small_page
    run_id = start(page, 100_000)
    folder = RunFolder(runs_folder / run_id)
    expect(page.get_by_text(re.compile("Step [1-9][0-9]* of"))).to_be_visible()
    page.goto("about:blank")
    before, end = folder.read_status()["step"], time.monotonic() + 60
    while folder.read_status()["step"] == before and time.monotonic() < end:
        time.sleep(0.2)  # the first sample compiles
    assert folder.read_status()["step"] > before

    page.goto(f"{address}/?run={run_id}")
    spoken = page.get_by_role("status").filter(has_text="Training")
    # The first point, or where it has been validated by now, the first validation.
    first = r"^Training\. Step (10: training loss|250: validation) \d\.\d\d[.,] "
    expect(spoken).to_have_text(re.compile(first))
    page.get_by_role("button", name="Stop").press("Enter")
    expect(page.locator(".stMarkdownBadge")).to_contain_text("Stopped")
    expect(page.get_by_role("status").filter(has_text="Stopped.")).to_have_count(1)
    expect(page.locator("h1:focus")).to_have_count(1)  # the button that had the focus is gone
    expect(page.get_by_role("button", name="Download .keras")).to_be_visible()
    assert folder.model_file.exists()
    no_traceback(page)


def test_bad_settings_are_told_in_a_sentence_and_start_waits(page):
    open_group(page, "Model")
    fill(page, "Width (d_model)", 90)  # four heads do not divide it
    expect(page.get_by_text("Width (d_model) must be a multiple of num_heads")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    choose(page, "Text", "Paste a text")
    page.get_by_label("Your text").fill("too short")
    page.get_by_label("Your text").press("Control+Enter")
    settle(page)
    fill(page, "Width (d_model)", 64)
    expect(page.get_by_text("The text is too short: it has 9 tokens. Use at")).to_be_visible()
    page.get_by_role("button", name="Back to Quick start").click()
    expect(page.get_by_label("Width (d_model)", exact=True)).to_have_value("128")
    fill_steps(page, 0)
    expect(page.get_by_text("Steps must be between 1 and 10,000,000, but got 0.")).to_be_visible()
    no_traceback(page)


def test_a_run_that_failed_says_why(page, address, runs_folder):
    folder = RunFolder(runs_folder / "20260101-000000-abcdef")
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    folder.write_status(state="failed", message="The loss became nan: lower the learning rate.")
    page.goto(f"{address}/?run={folder.run_id}")
    expect(page.get_by_text("lower the learning rate")).to_be_visible()
    page.goto(f"{address}/?run=../../etc")
    expect(page.get_by_text("There is no run")).to_be_visible()
    no_traceback(page)


def test_an_ended_run_tells_its_settings_and_that_it_learned_nothing(page, address, runs_folder):
    folder = RunFolder(runs_folder / "20260106-000000-abcdef")
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    for step in range(100, 1100, 100):
        measured = {"val_loss": 4.0} if step % 500 == 0 else {}
        folder.append_event(point(loss=4.0) | {"step": step} | measured)
    known = {"unigram_entropy": 3.0, "vocab_size": 78, "train_tokens": 600_000}
    folder.write_status(state="stopped", step=1000, steps=2000, message="", **known)
    page.goto(f"{address}/?run={folder.run_id}")
    expect(page.get_by_text("The loss of 4.000 is").first).to_be_visible()
    rate = f"learning_rate: {QUICK_START.training.learning_rate}"
    expect(page.locator("[data-testid=stSidebar]").get_by_text(rate)).to_be_visible()
    no_traceback(page)


def test_a_file_that_is_no_model_is_refused_in_words(page, address, tmp_path):
    page.goto(f"{address}/generate")
    path = tmp_path / "bad.keras"
    path.write_bytes(b"nothing of the kind")
    os.truncate(path, 51_000_000)  # a model may be larger than a text
    choose(page, "Model", "Upload a .keras file")
    page.locator("input[type=file]").set_input_files(path)
    expect(page.get_by_text("not a keras_lm model, or it is damaged")).to_be_visible()
    no_traceback(page)


def test_another_upload_leaves_the_settings_as_they_are(page, tmp_path):
    open_group(page, "Model")
    choose(page, "Text", "Upload a file")
    expect(page.get_by_text("Upload or paste your text")).to_be_visible()
    expect(page.get_by_label("Width (d_model)", exact=True)).to_have_value("128")
    for name in ("first.txt", "second.txt", "third.txt"):
        (tmp_path / name).write_text(f"{name}\n{TEXT}")
        page.locator("input[type=file]").set_input_files(tmp_path / name)
        expect(page.get_by_text(name).first).to_be_visible()
        settle(page)
        expect(page.get_by_label("Width (d_model)", exact=True)).to_have_value("128")
        expect(page.get_by_label("Seconds", exact=True)).to_have_value("60")
        expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    no_traceback(page)


def test_a_reload_keeps_settings_and_text_and_a_title_is_text_only(page, tmp_path, runs_folder):
    page.get_by_role("radio", name="Original").click()
    settle(page)
    open_group(page, "Text")
    choose(page, "Tokenizer", "char")
    choose(page, "Text", "Upload a file")
    expect(page.get_by_text("Upload or paste your text")).to_be_visible()  # all is drawn
    open_group(page, "Model")
    fill(page, "Blocks", 1)
    fill(page, "Steps", 1)
    name = "![my](http:__127.0.0.1) *book*.txt"
    (tmp_path / name).write_text(TEXT)
    page.locator("input[type=file]").set_input_files(tmp_path / name)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    page.reload()
    settle(page)
    expect(page.get_by_role("radio", name="Original")).to_be_checked()
    expect(page.get_by_text(f"In use: {name}")).to_be_visible()
    open_group(page, "Model")
    for label, value in {"Blocks": 1, "Steps": 1, "Width (d_model)": 128}.items():
        expect(page.get_by_label(label, exact=True)).to_have_value(str(value))
    expect(page.get_by_role("combobox", name="Attention").first).to_have_value("Linear")
    open_group(page, "Training")
    expect(page.get_by_label("Epsilon", exact=True)).to_have_value("1e-6")

    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
    expect(page.locator("[data-testid=stMain] img")).to_have_count(0)
    # After one step.
    expect(page.locator(".stMarkdownBadge")).to_contain_text("Failed to learn", timeout=90 * SECOND)
    no_traceback(page)


def test_a_tab_keeps_its_run_and_hears_that_it_was_deleted(new_page, page, address, runs_folder):
    """Two runs alike but for their ids, as after two clicks within a second."""
    folders = [RunFolder(runs_folder / f"20260102-000000-{mark * 6}") for mark in "ab"]
    for folder in folders:
        folder.create()
        folder.write_config(QUICK_START.to_dict())
        folder.append_event(point(loss=3.0))
        folder.write_status(state="stopped", step=10, steps=1000, message="")
    page.goto(f"{address}/?run={folders[1].run_id}")
    settle(page)
    choose(page, "Run", "aaaaaa")
    expect(page).to_have_url(re.compile(folders[0].run_id))
    expect(page.get_by_text("Step 10 of 1,000")).to_be_visible()
    page.get_by_role("link", name="Generate").click()
    expect(page.get_by_role("heading", name="Generate")).to_be_visible()
    page.get_by_role("link", name="Train").click()
    expect(page.get_by_text("Step 10 of 1,000")).to_be_visible()
    expect(page).to_have_url(re.compile(f"/\\?.*{folders[0].run_id}"))

    other = new_page()
    other.goto(page.url)
    other.get_by_role("button", name="Delete").click()
    other.get_by_role("button", name="Delete it").click()
    expect(other.get_by_role("button", name="Start", exact=True)).to_be_visible()
    other.close()
    page.get_by_role("tab", name="Perplexity").click()
    expect(page.get_by_text("There is no run")).to_be_visible()
    no_traceback(page)


def test_markup_in_names_errors_and_samples_is_text(page, address, runs_folder):
    markup = (
        "![x](http://127.0.0.1:1/loaded.png) <img src=http://127.0.0.1:1/loaded.png>"
        " <img src=x onerror=alert(1)> <script>alert(2)</script> [go](javascript:alert(3)) $x$"
    )
    asked, dialogs = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    folder = RunFolder(runs_folder / "20260103-000000-abcdef")
    folder.create()
    config = QUICK_START.to_dict()
    config["data"] |= {"data": f"/nowhere/{markup}.txt", "title": markup}
    folder.write_config(config)
    folder.append_event(point(loss=3.0))
    folder.append_event({"kind": "note", "step": 10, "message": f"A note: {markup}"})
    folder.append_event({"kind": "sample", "step": 10, "prompt": markup, "text": markup})
    folder.log_file.write_text(markup)
    folder.write_status(state="failed", step=10, steps=1000, message=f"A reason: {markup}")
    shown = {folder.run_id: "<script>alert(2)</script>", quote(markup): "There is no run"}
    for run_id, text in shown.items():
        page.goto(f"{address}/?run={run_id}")
        settle(page)
        expect(page.get_by_text(text).first).to_be_visible()
        assert page.locator("img[src*='loaded']").count() == 0
        assert page.locator("a[href*='javascript']").count() == 0
    page.goto(f"{address}/?run=new")
    settle(page)
    choose(page, "Text", "Paste a text")
    page.get_by_label("Your text").fill(markup * 20)
    page.get_by_label("Your text").press("Control+Enter")
    settle(page)
    assert not dialogs and not [url for url in asked if "loaded" in url.partition("?")[0]]
    no_traceback(page)
