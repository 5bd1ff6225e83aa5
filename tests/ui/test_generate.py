"""The Generate page, and that all pages use the model that the address names."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

import keras_lm
from keras_lm.data.tokenizers import CharTokenizer
from keras_lm.export.keras_archive import save_model
from keras_lm.settings.config import ModelConfig
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import RunFolder
from tests.ui.browsing import TEXT, choose, fill, no_traceback, settle

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


def generate(page, count: int = 1) -> None:
    """Presses the button; `count` texts are there afterwards."""
    page.locator(".st-key-generate-go button").click()
    finished(page, count)


def finished(page, count: int = 1) -> None:
    expect(page.get_by_text(re.compile(r"characters in \d"))).to_have_count(count)
    settle(page)


def shown(page, number: int = 0, row: int = 0) -> str:
    """Prompt and text as they stand there."""
    return page.locator(f".st-key-generated-{number}-{row} p").text_content()


def prompt_of(page):
    return page.get_by_label("Prompt", exact=True)


def address_of(page) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).query).items()}


def model_of(page) -> str:
    return page.get_by_role("combobox", name="Model").first.input_value()


def test_inspect_opens_the_model_and_the_text_below_which_it_was_pressed(page):
    generate(page)
    text = shown(page)
    page.get_by_role("button", name="Inspect").click()
    expect(page.get_by_role("heading", name="Inspect")).to_be_visible()
    expect(page.locator(".text span").first).to_be_visible()
    for _ in range(2):  # again after a reload
        settle(page)
        expect(page.get_by_label("Text", exact=True)).to_have_value(text)
        assert "bottles 12" in model_of(page)
        assert address_of(page)["model"] == OLDER
        page.reload()
    settle(page)
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
    expect(page.locator(".text span").first).to_be_visible()
    assert model_of(page) == "model.keras"
    page.reload()
    expect(page.locator(".text span").first).to_be_visible()
    assert model_of(page).startswith("Uploaded model ")
    no_traceback(page)


def test_try_this_model_opens_the_run_that_is_shown(page, address):
    page.goto(f"{address}/?run={OLDER}")
    page.locator(".st-key-try button").click()
    expect(page).to_have_url(re.compile(f"generate.*model={OLDER}"))
    settle(page)
    assert "bottles 12" in model_of(page)


def test_an_address_with_a_model_that_is_gone_says_so(page, address):
    for where in (
        "generate?model=20250101-000000-cccccc",
        "generate?model=upload-../x",
        "generate?model=upload-0123456789abcdef",
        "inspect?model=../../etc",
    ):
        page.goto(f"{address}/{where}")
        expect(page.get_by_text(f"There is no model '{where.partition('=')[2]}'")).to_be_visible()
        no_traceback(page)
    choose(page, "Model", "bottles 16")
    assert address_of(page)["model"] == NEWER
    expect(page.get_by_text("There is no model")).to_have_count(0)


def test_control_enter_generates_and_every_text_has_its_own_seed(page):
    expect(prompt_of(page)).to_have_value("0 green bottles, hanging")  # the text's own beginning
    prompt_of(page).fill("7 green")
    prompt_of(page).press("Control+Enter")
    finished(page)
    generate(page, 2)
    texts = [shown(page, number) for number in range(2)]
    assert all(text.startswith("7 green") for text in texts) and texts[0] != texts[1]
    seed = re.search(r"seed (\d+)", page.locator(".st-key-text-0").inner_text())[1]

    page.get_by_text("Fixed seed").click()
    settle(page)
    fill(page, "Seed", seed)
    generate(page, 3)
    assert shown(page, 2) == texts[0]
    page.locator(".st-key-text-2").get_by_role("button", name="Another one").click()
    finished(page, 4)
    assert shown(page, 3) != texts[0]
    assert address_of(page)["seed"] == str(int(seed) + 1)
    heading = page.get_by_role("heading", name="Earlier texts").bounding_box()["y"]
    tops = [page.locator(f".st-key-text-{n}").bounding_box()["y"] for n in (3, 2, 1, 0)]
    assert tops[0] < heading < tops[1] < tops[2] < tops[3]
    no_traceback(page)


def test_settings_and_prompt_survive_a_reload_and_other_pages(page):
    prompt_of(page).fill("8 green\nbottles & <b>")
    page.get_by_role("slider", name="Temperature").press("ArrowRight")
    page.get_by_role("slider", name="Continuations").press("ArrowRight")
    settle(page)
    for go in (page.reload, lambda: visit(page, "Inspect", "Generate")):
        go()
        settle(page)
        expect(prompt_of(page)).to_have_value("8 green\nbottles & <b>")
        assert page.get_by_role("slider", name="Temperature").get_attribute("value") == "0.85"
        assert address_of(page)["temperature"] == "0.85" and address_of(page)["count"] == "2"
    generate(page)
    assert shown(page, row=0) != shown(page, row=1)
    no_traceback(page)


def visit(page, *names: str) -> None:
    for name in names:
        page.get_by_role("link", name=name).click()
        expect(page.get_by_role("heading", name=name)).to_be_visible()
        settle(page)


@pytest.mark.parametrize(
    "settings",
    [
        "temperature=99&top_k=-1&top_p=nan&min_p=inf&max_new_tokens=0&repetition_penalty=x",
        "seed=-1&fixed_seed=true&count=1e9&prompt=",
        "seed=99999999999999999999&fixed_seed=maybe&count=&prompt=a&prompt=b&text=%FF",
    ],
)
def test_an_address_with_settings_out_of_range_still_generates(page, address, settings):
    page.goto(f"{address}/generate?model={OLDER}&{settings}")
    settle(page)
    no_traceback(page)
    generate(page)
    no_traceback(page)


def test_a_long_prompt_is_kept_out_of_the_address(page):
    long = "7 green bottles. " * 6_000  # a reload with it would be refused by the server
    prompt_of(page).fill(long)
    prompt_of(page).press("Control+Enter")
    finished(page)
    expect(page.get_by_text("tokens are ignored")).to_be_visible()
    assert "prompt" not in address_of(page)
    page.get_by_role("button", name="Inspect").click()
    expect(page.locator(".text span").first).to_be_visible()
    assert page.get_by_label("Text", exact=True).input_value().startswith(long)
    assert len(page.url) < 20_000
    page.reload()
    expect(page.get_by_role("heading", name="Inspect")).to_be_visible()
    no_traceback(page)


def test_a_text_can_be_continued_copied_and_begun_from_its_training_text(page):
    page.context.grant_permissions(["clipboard-read"])
    examples = page.locator(".st-key-example button")
    example = examples.nth(1).inner_text()
    examples.nth(1).click()
    settle(page)
    assert example in TEXT
    expect(prompt_of(page)).to_have_value(example)
    generate(page)
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == shown(page)
    page.get_by_role("button", name="Continue").click()
    finished(page, 2)
    expect(prompt_of(page)).to_have_value(shown(page, 0))
    assert shown(page, 1).startswith(shown(page, 0))
    no_traceback(page)


def test_a_text_whose_run_was_deleted_stays(page, models, tmp_path):
    generate(page)
    models.model_file.rename(tmp_path / "model.keras")
    try:
        page.get_by_role("slider", name="Temperature").press("ArrowRight")
        expect(page.get_by_text("There is no model")).to_be_visible()
        expect(page.locator(".st-key-generated-0-0")).to_be_visible()
        expect(page.get_by_role("button", name="Continue")).to_have_count(0)
        no_traceback(page)
    finally:
        (tmp_path / "model.keras").rename(models.model_file)


def test_on_a_telephone_the_prompt_and_the_button_come_first(new_page, address, models):
    page = new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto(f"{address}/generate?model={OLDER}")
    settle(page)
    button = page.locator(".st-key-generate-go button").bounding_box()
    assert prompt_of(page).bounding_box()["y"] < button["y"] < 844 - button["height"]
    page.locator(".st-key-generate-go button").tap()
    finished(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
