"""The Generate page, and that all pages use the model that the address names."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

import keras_lm
from keras_lm.bundle import save_model
from keras_lm.config import ModelConfig
from keras_lm.presets import QUICK_START
from keras_lm.run_folder import RunFolder
from keras_lm.tokenizer import CharTokenizer
from tests.ui.browsing import TEXT, choose, no_traceback, settle

OLDER, NEWER = "20260201-000000-aaaaaa", "20260202-000000-bbbbbb"


@pytest.fixture(scope="module")
def models(runs_folder):
    """Two runs with models that differ; the older one's folder."""
    for run_id, width in ((OLDER, 12), (NEWER, 16)):
        folder = RunFolder(runs_folder / run_id)
        folder.create()
        config = QUICK_START.to_dict()
        text_file = runs_folder / "bottles.txt"
        text_file.write_text(TEXT)
        config["data"] |= {"data": str(text_file), "title": f"bottles {width}"}
        folder.write_config(config)
        folder.write_status(state="finished", step=1, steps=1, message="")
        tokenizer = CharTokenizer.from_text(TEXT)
        shape = ModelConfig(tokenizer.vocab_size, 64, d_model=width, num_heads=2, num_blocks=1)
        save_model(folder.model_file, keras_lm.build_model(shape), tokenizer.to_dict())
    return RunFolder(runs_folder / OLDER)


@pytest.fixture
def page(new_page, address, models):
    """The Generate page with the older model."""
    page = new_page()
    page.goto(f"{address}/generate?model={OLDER}")
    settle(page)
    return page


def generate(page) -> None:
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.get_by_text("characters in")).to_be_visible()
    settle(page)


def address_of(page) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).query).items()}


def model_of(page) -> str:
    return page.get_by_role("combobox", name="Model").first.input_value()


def test_inspect_opens_the_model_and_the_text_below_which_it_was_pressed(page):
    generate(page)
    shown = page.locator(".st-key-generated-0 p").inner_text()
    page.get_by_role("button", name="Inspect").click()
    expect(page.get_by_role("heading", name="Inspect")).to_be_visible()
    expect(page.locator(".shaded span").first).to_be_visible()
    for _ in range(2):  # again after a reload
        settle(page)
        assert "bottles 12" in model_of(page)
        assert address_of(page)["model"] == OLDER
        assert page.get_by_label("Text", exact=True).input_value() == shown
        page.reload()
    page.get_by_role("link", name="Generate").click()
    expect(page.get_by_role("heading", name="Generate")).to_be_visible()
    settle(page)
    assert "bottles 12" in model_of(page)
    no_traceback(page)


def test_an_uploaded_model_is_named_and_survives_a_reload(page, models):
    choose(page, "Model", "Upload a .keras file")
    page.locator("input[type=file]").set_input_files(models.model_file)
    expect(page).to_have_url(re.compile("model=upload-[0-9a-f]{16}"))
    settle(page)
    assert model_of(page) == "model.keras"
    generate(page)
    page.get_by_role("button", name="Inspect").click()
    expect(page.get_by_role("heading", name="Inspect")).to_be_visible()
    expect(page.locator(".shaded span").first).to_be_visible()
    assert model_of(page) == "model.keras"
    page.reload()
    expect(page.locator(".shaded span").first).to_be_visible()
    assert model_of(page).startswith("Uploaded model ")
    no_traceback(page)


def test_try_this_model_opens_the_run_that_is_shown(page, address):
    page.goto(f"{address}/?run={OLDER}")
    page.locator(".st-key-talk button").click()
    expect(page).to_have_url(re.compile(f"generate.*model={OLDER}"))
    settle(page)
    assert "bottles 12" in model_of(page)


@pytest.mark.parametrize(
    "model", ["20250101-000000-cccccc", "upload-0123456789abcdef", "../../etc", "upload-../x", "*"]
)
def test_an_address_with_a_model_that_is_gone_says_so(page, address, model):
    for name in ("generate", "inspect"):
        page.goto(f"{address}/{name}?model={model}")
        expect(page.get_by_text("There is no model")).to_be_visible()
        no_traceback(page)
    choose(page, "Model", "bottles 16")
    assert address_of(page)["model"] == NEWER
    expect(page.get_by_text("There is no model")).to_have_count(0)
