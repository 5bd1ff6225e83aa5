"""The page's pace in Chromium: how long a person waits for it.

    python -m benchmarks.page

Starts a server with an empty folder of runs and an empty cache, and presses what a person would
press. Nothing else may run on the machine meanwhile.
"""

import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from keras_lm.storage.run_names import list_runs
from tests.page_server import page_server
from tests.ui.browsing import FLAGS, SECOND, find_browser, settle

TOKENS = 1_024
TEXT = ("The man was at her sister's, and she thought of him as of a friend. " * 20)[:TOKENS]
NUMBERS = re.compile(r"Loss\s+\d")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Prints how long the body takes."""
    begin = time.monotonic()
    yield
    print(f"{what:<68} {time.monotonic() - begin:5.1f} s", flush=True)


def start(page: Page, what: str) -> None:
    """Presses Start; the first point has come when the loss has a number."""
    button = page.get_by_role("button", name="Start", exact=True)
    expect(button).to_be_enabled()
    with timed(what):
        button.click()
        expect(page.locator(".st-key-numbers")).to_have_text(NUMBERS, use_inner_text=True)


def end_runs(root: Path) -> None:
    """Ends whatever trains, at once."""
    for folder in list_runs(root):
        status = folder.read_status()
        if status.get("state") == "training":
            with suppress(ProcessLookupError):  # it ended before it could say so
                os.kill(status["pid"], signal.SIGKILL)


def measure(page: Page, address: str, root: Path) -> None:
    """All figures, in the order in which a person would meet them."""
    for visit in ("first", "second", "third"):
        with timed(f"Start usable after a load, {visit} visit"):
            page.goto(f"{address}/?run=new")
            expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    start(page, "first point after the click on Start, nothing compiled yet")
    expect(page.locator(".stMarkdownBadge")).to_contain_text("Finished", timeout=300 * SECOND)
    page.goto(f"{address}/?run=new")
    start(page, "first point after the click on Start, later")
    page.wait_for_timeout(3 * SECOND)
    with timed("while a run trains: switch to Generate"):
        page.get_by_role("link", name="Generate").first.click()
        expect(page.locator(".st-key-generate-go button")).to_be_visible()
    with timed("while a run trains: the first text after a click at once"):
        page.locator(".st-key-generate-go button").click()
        expect(page.get_by_text(re.compile(r"characters in \d"))).to_be_visible()
    with timed("while a run trains: switch to Inspect, until its text is there"):
        page.get_by_role("link", name="Inspect").first.click()
        expect(page.locator(".text span").first).to_be_visible()
    with timed("while a run trains: switch to Train"):
        page.get_by_role("link", name="Train").first.click()
        expect(page.locator(".st-key-numbers")).to_have_text(NUMBERS, use_inner_text=True)
    end_runs(root)
    page.get_by_role("link", name="Inspect").first.click()
    expect(page.locator(".text span").first).to_be_visible()
    for turn in ("first", "second"):
        text = page.get_by_label("Text", exact=True)
        text.fill(TEXT if turn == "first" else TEXT[::-1])
        with timed(f"Inspect of {TOKENS:,} tokens, {turn} text"):
            text.press("Control+Enter")
            expect(page.locator(".text span")).to_have_count(TOKENS + 1)
            settle(page)
        with timed(f"Inspect of {TOKENS:,} tokens, another token of the {turn} text"):
            page.locator(".text span").nth(100).click()
            expect(page.locator(".strip")).to_have_attribute("aria-valuenow", "100")
            settle(page)


def main() -> None:
    """Prints a line for each figure."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        os.environ["KERAS_LM_CACHE"] = str(Path(folder, "cache"))
        root = Path(folder, "runs")
        with page_server(root) as (port, _):
            browser = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
            try:
                page = browser.new_page(viewport={"width": 1280, "height": 720})
                page.set_default_timeout(60 * SECOND)
                measure(page, f"http://127.0.0.1:{port}", root)
            finally:
                browser.close()
                end_runs(root)


if __name__ == "__main__":
    main()
