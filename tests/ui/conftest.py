"""A server of the page, and browsers whose every complaint fails the test."""

import contextlib
import functools
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from keras_lm.runs.process import is_alive
from keras_lm.storage.run_names import list_runs
from tests.page_server import free_port, page_server
from tests.ui.browsing import (
    BROWSER_VARIABLE,
    FLAGS,
    HOST,
    LARGE,
    SMALL,
    QuietContext,
    find_browser,
    open_form,
)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Marks the tests that drive a browser."""
    for item in items:
        if "browser" in item.fixturenames:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory):
    """The folder of the server's runs, empty at first."""
    return tmp_path_factory.mktemp("page") / "runs"


@pytest.fixture(scope="session")
def port() -> int:
    """Of all servers in turn, so that what a browser kept of one fits the next.

    It is below those that a system hands out by itself.
    """
    return free_port(random.sample(range(15_000, 30_000), 100))


@pytest.fixture(scope="module")
def address(runs_folder, port) -> Iterator[str]:
    """A server of its own."""
    try:
        with page_server(runs_folder, port=port):
            yield f"http://{HOST}:{port}"
    finally:
        for folder in list_runs(runs_folder):
            status = folder.read_status()
            if "pid" in status and is_alive(folder):
                os.kill(status["pid"], signal.SIGKILL)


@pytest.fixture(scope="session")
def profile(tmp_path_factory) -> Path:
    """Where a browser keeps scripts as it compiled them, else half of the work of a page."""
    return tmp_path_factory.mktemp("profile")


@pytest.fixture(scope="module")
def browser(profile) -> Iterator[Callable[..., QuietContext]]:
    """Starts Chromium or Chrome, with Playwright's options for a context; the usual one only once.

    Without one the tests are skipped, but fail where CI is set.
    """
    path = find_browser()
    if path is None:
        report = pytest.fail if os.environ.get("CI") else pytest.skip
        report(f"Expected Chromium or Chrome; install one, or name its path in {BROWSER_VARIABLE}.")
    with sync_playwright() as playwright, contextlib.ExitStack() as contexts:

        @functools.cache
        def usual() -> QuietContext:
            return start(str(profile))

        def start(folder: str = "", **options) -> QuietContext:
            launch = playwright.chromium.launch_persistent_context
            context = launch(folder, executable_path=path, args=FLAGS, **options)
            contexts.callback(context.close)
            return QuietContext(context)

        yield lambda **options: start(**options) if options else usual()


@pytest.fixture
def new_page(browser) -> Iterator[Callable[..., Page]]:
    """Makes pages, of which none may complain; `options` are Playwright's for a context."""
    contexts = []

    def make(viewport=LARGE, color_scheme="light", **options) -> Page:
        quiet = browser(**options)
        contexts.append(quiet)
        page = quiet.context.new_page()
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=color_scheme)
        return page

    yield make
    heard = [complaint for quiet in contexts for complaint in quiet.end()]
    assert not heard, "\n".join(heard)


@pytest.fixture
def page(new_page, address) -> Page:
    """The form of a new run."""
    return open_form(new_page(), address)


@pytest.fixture
def small_page(new_page, address) -> Page:
    """The form of a new run of a small model."""
    return open_form(new_page(), address, SMALL)
