"""A server of the page, and browsers whose every complaint fails the test."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from keras_lm.runs.process import is_alive
from keras_lm.storage.run_folder import list_runs
from tests.page_server import page_server
from tests.ui.browsing import BROWSER_VARIABLE, FLAGS, find_browser, quiet_pages, settle


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Marks the tests that drive a browser."""
    for item in items:
        if "browser" in item.fixturenames:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory):
    """The folder of the server's runs, empty at first."""
    return tmp_path_factory.mktemp("page") / "runs"


@pytest.fixture(scope="module")
def address(runs_folder) -> Iterator[str]:
    """A server of its own."""
    try:
        with page_server(runs_folder) as (port, _):
            yield f"http://127.0.0.1:{port}"
    finally:
        for folder in list_runs(runs_folder):
            status = folder.read_status()
            if "pid" in status and is_alive(folder):
                os.kill(status["pid"], signal.SIGKILL)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium or Chrome; without one the tests are skipped, but fail where CI is set."""
    path = find_browser()
    if path is None:
        report = pytest.fail if os.environ.get("CI") else pytest.skip
        report(f"Expected Chromium or Chrome; install one, or name its path in {BROWSER_VARIABLE}.")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser) -> Iterator[Callable[..., Page]]:
    """Makes pages, of which none may complain."""
    with quiet_pages(browser) as make:
        yield make


@pytest.fixture
def page(new_page, address) -> Page:
    """The form of a new run."""
    page = new_page()
    page.goto(f"{address}/?run=new")
    settle(page)
    return page
