"""How the page's tests drive a browser, and what no page may ever do."""

import os
import re
import shutil
from collections.abc import Mapping
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Route, expect

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
HOST = "127.0.0.1"
LARGE = {"width": 1400, "height": 1000}
PROBE = re.compile(r"/\w+/_stcore/(health|host-config)$")
SECOND = 1000  # Playwright counts milliseconds
TEXT = "\n".join(f"{n} green bottles, hanging on the wall, and one falls." for n in range(400))
SMALL = {"d_model": 64, "num_heads": 2, "num_blocks": 1, "ffn_dim": 96}  # soon compiled
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


class QuietContext:
    """What the pages of a browser's context complain about, and requests that leave the machine.

    Requests to other hosts are refused, as they are where there is no network.

    Args:
        context: whose pages are heard.
    """

    def __init__(self, context: BrowserContext):
        context.set_default_timeout(60 * SECOND)
        self.context, self.heard = context, []
        context.on("weberror", lambda error: self.heard.append(f"page error: {error.error}"))
        context.on("console", self._hear)
        context.route(lambda url: urlsplit(url).hostname not in (None, HOST), self._refuse)

    def _hear(self, message: ConsoleMessage) -> None:
        # On any page but the first, Streamlit looks for its server below the page's path, too.
        looks_around = PROBE.search(message.location["url"]) and "404" in message.text
        if message.type in ("error", "warning") and not looks_around:
            self.heard.append(f"console {message.type}: {message.text} ({message.location['url']})")

    def _refuse(self, route: Route) -> None:
        self.heard.append(f"request to another host: {route.request.url}")
        route.abort()

    def end(self) -> list[str]:
        """Closes all pages but the browser's own first; gives and forgets what they left."""
        for page in self.context.pages[1:]:
            if HOST in page.url:
                page.evaluate("localStorage.clear()")
            page.close()
        self.context.clear_cookies()
        self.context.clear_permissions()
        heard, self.heard = self.heard, []
        return heard


def open_form(page: Page, address: str, model: Mapping[str, int] | None = None) -> Page:
    """Opens the form of a new run, of which `model` may have settings."""
    settings = "".join(f"&model.{name}={value}" for name, value in (model or {}).items())
    page.goto(f"{address}/?run=new{settings}")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    settle(page)
    return page


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
