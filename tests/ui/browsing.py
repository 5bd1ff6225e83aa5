"""How the page's tests drive a browser, and what no page may ever do."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, expect

BROWSER_VARIABLE = "KERAS_LM_BROWSER"  # the path of another Chromium or Chrome
USUAL_BROWSERS = (
    "chromium",
    "google-chrome",
    "google-chrome-stable",
    "chromium-browser",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
FLAGS = (
    "--headless --no-sandbox --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PROBE = re.compile(r"/\w+/_stcore/(health|host-config)$")
SECOND = 1000  # Playwright counts milliseconds
TEXT = "\n".join(f"{n} green bottles, hanging on the wall, and one falls." for n in range(400))
expect.set_options(timeout=60 * SECOND)
# The sum of what moved by itself: https://web.dev/cls, but over the whole time.
MOVED = """
    window.moved = 0;
    const add = (entry) => { if (!entry.hadRecentInput) window.moved += entry.value; };
    new PerformanceObserver((list) => list.getEntries().forEach(add))
        .observe({type: "layout-shift", buffered: true});
"""


def find_browser() -> str | None:
    """The path of the browser that an environment variable names, or of the first usual one."""
    if chosen := os.environ.get(BROWSER_VARIABLE):
        return chosen
    return next(filter(None, map(shutil.which, USUAL_BROWSERS)), None)


class Complaints:
    """What a browser complains about while a test uses it, and requests that leave the machine.

    Requests to other hosts are refused, as they are where there is no network.

    Args:
        context: the browser's context; every page of it is heard.
    """

    def __init__(self, context: BrowserContext):
        self.heard: list[str] = []
        context.on("weberror", lambda error: self.heard.append(f"page error: {error.error}"))
        context.on("console", self._hear)
        context.route(lambda url: urlsplit(url).hostname not in (None, "127.0.0.1"), self._refuse)

    def _hear(self, message: ConsoleMessage) -> None:
        # On any page but the first, Streamlit looks for its server below the page's path, too.
        looks_around = PROBE.search(message.location["url"]) and "404" in message.text
        if message.type in ("error", "warning") and not looks_around:
            self.heard.append(f"console {message.type}: {message.text} ({message.location['url']})")

    def _refuse(self, route: Route) -> None:
        self.heard.append(f"request to another host: {route.request.url}")
        route.abort()


@contextlib.contextmanager
def quiet_pages(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Gives what makes pages, each in a context of its own; in the end none may have complained."""
    opened = []

    def make(**options) -> Page:
        """`options` are Playwright's for a context, such as `color_scheme`."""
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 1000}, **options})
        context.set_default_timeout(60 * SECOND)
        opened.append((context, Complaints(context)))
        return context.new_page()

    yield make
    for context, _ in opened:
        context.close()
    heard = [complaint for _, complaints in opened for complaint in complaints.heard]
    assert not heard, "\n".join(heard)


def start(page: Page, steps: int) -> str:
    """Pastes a small text, sets the length, presses Start; returns the run's id."""
    choose(page, "Text", "Paste a text")
    page.get_by_label("Your text").fill(TEXT)
    page.get_by_label("Your text").press("Control+Enter")
    settle(page)
    fill_steps(page, steps)
    expect(page.get_by_text("Differs from Quick start")).to_be_visible()
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page).to_have_url(re.compile(r"run=\d"))
    return re.search(r"run=([\w-]+)", page.url)[1]


def settle(page: Page) -> None:
    """Waits until the page has answered the last action."""
    page.locator(".st-key-pages").wait_for(state="attached")  # drawn once the browser has the style
    page.wait_for_timeout(200)
    page.locator("[data-test-script-state=notRunning]").wait_for()


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label).first.click()
    page.get_by_role("option", name=option).click()
    settle(page)


def open_group(page: Page, title: str) -> None:
    """Opens one of the groups of advanced settings."""
    page.get_by_role("radio", name=title, exact=True).click()
    settle(page)


def fill(page: Page, label: str, value: object) -> None:
    field = page.get_by_label(label, exact=True)
    field.fill(str(value))
    field.press("Enter")
    settle(page)


def fill_steps(page: Page, steps: int) -> None:
    """Sets the length of a new run in steps."""
    open_group(page, "Steps")
    fill(page, "Steps", steps)


def no_traceback(page: Page) -> None:
    expect(page.get_by_text("Traceback")).to_have_count(0)
    expect(page.locator("[data-testid=stException]")).to_have_count(0)
