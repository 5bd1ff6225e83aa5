"""Everybody reaches everything: axe-core, names of tabs, navigation and targets on a telephone."""

import math
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

import keras_lm
from keras_lm.data.tokenizers import CharTokenizer
from keras_lm.export.keras_archive import save_model
from keras_lm.settings.config import ModelConfig
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import RunFolder
from tests.ui.browsing import MOVED, no_traceback, settle

ENDED, FAILED = "20260101-000000-abcdef", "20260102-000000-abcdef"
TEXT = "The fox ate it. The man was at her sister's.\n"
VIEWS = {
    "new run": "?run=new",
    "ended run": f"?run={ENDED}",
    "failed run": f"?run={FAILED}",
    "runs": "runs",
    "race": "race?race=new",
    "generate": f"generate?model={ENDED}",
    "inspect": f"inspect?model={ENDED}",
}
MOST_MOVED = 0.04  # of which 0.0255 is Streamlit's own way from its narrow layout to the wide one
TELEPHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DARK = "rgb(16, 24, 27)"  # backgroundColor of the dark theme in .streamlit/config.toml
SMALLEST = 24  # pixels on either side
# The style sheet comes with the page's first elements, but a browser may read it after them.
STYLED = """() => [...document.querySelectorAll("style")]
    .some((style) => style.textContent.includes(".for-readers"))"""
# Whatever can be pressed on the visible part of the page, with its size; links within a text and
# what only a keyboard reaches are left out.
TARGETS = """() => [...document.querySelectorAll("a, button, summary, [role=tab], [role=slider]")]
    .filter((element) => element.checkVisibility({visibilityProperty: true}))
    .map((element) => [element, element.getBoundingClientRect()])
    .filter(([element, box]) => box.left >= 0 && box.right <= innerWidth && box.width > 1)
    .filter(([element]) => !element.closest("p"))
    .map(([element, box]) => [element.ariaLabel || element.textContent, box.width, box.height])"""


def put_run(folder: RunFolder, state: str, message: str = "") -> None:
    """A run that has ended, with curves, samples, and a model of a few hundred weights."""
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    for step in range(10, 400, 10):
        loss = 0.5 + 3.5 * math.exp(-step / 150)
        event = {"kind": "metrics", "step": step, "tokens": 768 * step, "seconds": step / 10}
        event |= {"train_seconds": step / 10, "loss": loss, "perplexity": math.exp(loss)}
        event |= {"accuracy": 0.3, "grad_norm": 1.0, "bits_per_byte": 2.0, "learning_rate": 1e-3}
        event |= {"tokens_per_second": 20_000.0, "memory_mb": 800.0}
        if step % 100 == 0:
            event |= {"val_loss": loss + 0.1, "val_perplexity": math.exp(loss + 0.1)}
            folder.append_event({"kind": "sample", "step": step, "prompt": "The", "text": TEXT})
        folder.append_event(event)
    folder.log_file.write_text("step 390 of 400\n" * 50)
    known = {"vocab_size": 78, "unigram_entropy": 3.09, "parameters": 348_288}
    folder.write_status(state=state, message=message, step=390, steps=400, **known)
    tokenizer = CharTokenizer.from_text(TEXT)
    config = ModelConfig(tokenizer.vocab_size, 64, d_model=12, num_heads=2, num_blocks=2)
    save_model(folder.model_file, keras_lm.build_model(config), tokenizer.to_dict())


@pytest.fixture(scope="module")
def views(address, runs_folder) -> dict[str, str]:
    """The addresses of all pages in their states."""
    put_run(RunFolder(runs_folder / ENDED), "stopped")
    put_run(RunFolder(runs_folder / FAILED), "failed", "The loss became nan at step 390.")
    return {name: f"{address}/{path}" for name, path in VIEWS.items()}


def visit(page: Page, view: str, address: str) -> None:
    """Opens the view, with something made on the pages that make something."""
    page.add_init_script(MOVED)
    page.goto(address)
    settle(page)
    if view == "generate":
        assert page.evaluate("moved") < MOST_MOVED
        page.locator(".st-key-generate-go button").click()
        expect(page.get_by_text("characters in").first).to_be_visible()
    if view == "inspect":
        expect(page.get_by_text("Bits per byte", exact=True)).to_be_visible()
    if view in ("ended run", "failed run"):
        expect(page.locator("[data-testid=stVegaLiteChart]").first).to_be_visible()
    settle(page)
    page.wait_for_function(STYLED)
    assert page.evaluate("moved") < MOST_MOVED or view == "generate"
    no_traceback(page)


# Whether nothing cuts off a link's upper and lower edge.
IS_WHOLE = """(link) => {
    const box = link.getBoundingClientRect();
    return [box.top + 1, box.bottom - 1].every((y) =>
        link.contains(document.elementFromPoint(box.left + box.width / 2, y)));
}"""


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious_in_light_and_dark(view, new_page, views):
    page = new_page(viewport={"width": 1280, "height": 720}, color_scheme="light")
    visit(page, view, views[view])
    light = serious(page)
    page.emulate_media(color_scheme="dark")
    expect(page.locator(".stApp")).to_have_css("background-color", DARK)
    settle(page)
    assert light + serious(page) == []


def serious(page: Page) -> list[tuple]:
    """What axe-core complains of in earnest."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        (rule["id"], node["html"][:200], node["failureSummary"])
        for rule in found
        for node in rule["nodes"]
        if rule["impact"] in ("serious", "critical") or rule["id"] == "heading-order"
    ]


@pytest.mark.parametrize("view", VIEWS)
def test_a_telephone_has_the_links_of_the_pages_and_targets_for_a_finger(view, new_page, views):
    page = new_page(**TELEPHONE, color_scheme="dark")
    visit(page, view, views[view])
    links = page.locator(".st-key-pages").get_by_role("link")
    expect(links).to_have_text(
        [re.compile(f"{name}$") for name in ("Train", "Runs", "Race", "Generate", "Inspect")]
    )
    for link in links.all():
        link.click(trial=True)
        assert link.evaluate(IS_WHOLE)
    small = [target for target in page.evaluate(TARGETS) if min(target[1:]) < SMALLEST]
    assert small == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("view", ["race", "inspect"])  # what comes late is longest here
@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1920, 1080)])
def test_nothing_jumps_on_larger_screens_either(view, width, height, new_page, views):
    visit(new_page(viewport={"width": width, "height": height}), view, views[view])


def test_each_tab_of_the_browser_has_the_name_of_its_page(new_page, views):
    page = new_page()
    for view, title in {
        "new run": "Train",
        "race": "Race",
        "generate": "Generate",
        "inspect": "Inspect",
    }.items():
        page.goto(views[view])
        settle(page)
        assert page.title() == f"{title} · keras_lm"


def test_by_touch_a_list_opens_wherever_its_field_is_touched(new_page, address):
    page = new_page(**TELEPHONE)
    page.goto(f"{address}/?run=new")
    settle(page)
    page.get_by_test_id("stExpandSidebarButton").tap()
    field = page.get_by_role("combobox", name="Text")
    expect(field).to_be_in_viewport()
    page.wait_for_timeout(500)  # until the sidebar has come
    box = field.bounding_box()
    page.touchscreen.tap(box["x"] + 20, box["y"] + box["height"] / 2)
    page.get_by_role("option", name="Paste a text").tap()
    expect(page.get_by_label("Your text")).to_be_visible()
