"""The Inspect page in a browser: a token that is chosen in any way changes every panel."""

import keras
import pytest
from playwright.sync_api import expect

import keras_lm
from keras_lm.data.tokenizers import CharTokenizer
from keras_lm.export.keras_archive import save_model
from keras_lm.generation.inspection import inspect
from keras_lm.settings.config import ModelConfig
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import RunFolder
from keras_lm.ui.parts.beginnings import to_look_into
from tests.ui.browsing import no_traceback, settle

TEXT = 'The <b>fox</b> & a <img src=x onerror="document.title=1"> ate **it**.\n'
STANDARD, LINEAR = "20260104-000000-abcdef", "20260105-000000-abcdef"
SLOTS = {"attention": "linear", "chunk_length": 32, "num_slots": 3}  # of no use: 2 * 32 = 64


@pytest.fixture(scope="module")
def model_files(runs_folder):
    """By run, the file of a model that is sure of its guesses; they differ from token to token."""
    tokenizer = CharTokenizer.from_text(TEXT)
    files = {}
    for run_id, changes in {STANDARD: {}, LINEAR: SLOTS}.items():
        config = ModelConfig(
            tokenizer.vocab_size, 64, d_model=12, num_heads=2, num_blocks=2, ffn_dim=5, **changes
        )
        folder = RunFolder(runs_folder / run_id)
        folder.create()
        folder.write_config(QUICK_START.to_dict())
        folder.write_status(state="finished", step=1, steps=1, message="")
        keras.utils.set_random_seed(3)
        model = keras_lm.build_model(config)
        model.output_layer.kernel.assign(50.0 * model.output_layer.kernel)
        save_model(folder.model_file, model, tokenizer.to_dict())
        files[run_id] = folder.model_file
    return files


@pytest.fixture
def inspected(new_page, address, model_files):
    """Opens the page with a model and a text."""

    def open_page(run_id, text, **options):
        page = new_page(**options)
        page.goto(f"{address}/inspect?model={run_id}")
        settle(page)
        write(page, text)
        expect(page.locator(".text span")).to_have_count(len(text) + 1)
        settle(page)
        return page

    return open_page


def write(page, text):
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_label("Text", exact=True).press("Control+Enter")


def expect_all_about(page, result):
    """Every panel is about the chosen token: what `inspect` says of it is what stands there."""
    token, row = result["token"], result["token"] - 1
    expect(page.locator(".text .chosen")).to_have_text(
        result["tokens"][token].replace("\n", "↵\n"), use_inner_text=False
    )
    expect(page.locator(".strip")).to_have_attribute("aria-valuenow", str(token))
    expect(page.get_by_text(f"best guesses for token {token},")).to_be_visible()
    guesses = page.get_by_role("region", name="Guesses for the chosen token").locator("code")
    for index, text in enumerate(result["alternatives"][-1][row]):
        expect(guesses.nth(index)).to_have_text(repr(text))
    blocks = page.get_by_role("region", name="Top guesses after each block").locator("code")
    shown = [text for layer in result["alternatives"] for text in layer[row]]
    for index, text in enumerate(shown):
        expect(blocks.nth(index)).to_have_text(repr(text))
    chosen = page.get_by_role("region", name="Probability of each token").locator(".chosen")
    expect(chosen).to_have_text(repr(result["tokens"][token]))
    expect(page.get_by_text(f"Token {row} {result['tokens'][row]!r} looks most at")).to_be_visible()


def test_a_token_chosen_in_any_way_changes_every_panel_and_no_text_runs(inspected, model_files):
    page, bundle = inspected(STANDARD, TEXT), keras_lm.load(model_files[STANDARD])
    end = inspect(bundle, TEXT)
    expect(page.get_by_text(f"{end['perplexity']:.2f}", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="Guesses for the next token")).to_be_visible()
    spans = page.locator(".text span")
    assert f"{end['of_next'][-1][0]:.2%}" in spans.nth(1).get_attribute("title")

    ways = {
        4: lambda: spans.nth(4).click(),
        5: lambda: page.get_by_role("listbox").press("ArrowRight"),
        9: lambda: page.locator(".strip [data-token='9']").click(),
        8: lambda: page.get_by_role("slider", name="Token").press("ArrowLeft"),
        1: lambda: page.get_by_role("listbox").press("Home"),
        68: lambda: (page.get_by_role("listbox").press("End"), spans.nth(68).click()),
    }
    for token, choose_it in ways.items():
        choose_it()
        expect_all_about(page, inspect(bundle, TEXT, token))
    spans.nth(0).click(force=True)  # nothing comes before it, so there is no guess to look into
    expect_all_about(page, inspect(bundle, TEXT, 68))

    for markup in ("b", "img", "strong"):
        assert page.locator(f".text {markup}, .inspected {markup}").count() == 0
    assert page.title() != "1"
    no_traceback(page)


def test_it_opens_with_the_training_text_s_first_words_and_keeps_a_person_s(
    new_page, address, model_files
):
    page = new_page()
    page.goto(f"{address}/inspect?model={STANDARD}")
    field = page.get_by_label("Text", exact=True)
    expect(field).to_have_value(to_look_into(QUICK_START.data))
    write(page, "fox fox")
    page.goto(f"{address}/inspect?model={LINEAR}&text=fox+fox")
    expect(field).to_have_value("fox fox")
    no_traceback(page)


def test_by_keyboard_the_text_is_one_stop_and_another_text_begins_at_its_end(inspected):
    page = inspected(STANDARD, TEXT)
    page.locator(".text span").nth(2).click()
    for key in ("Shift+Tab", "Tab"):
        page.keyboard.press(key)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("best guesses for token 3,")).to_be_visible()
    listbox = page.get_by_role("listbox")
    chosen = page.locator(".text [aria-selected=true]")
    expect(chosen).to_have_count(1)
    assert listbox.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    assert page.locator(".text [tabindex], .strip [tabindex]").count() == 0
    assert "token 3: ' '" in page.get_by_role("option", selected=True).get_attribute("aria-label")

    write(page, "fox fox")
    expect(page.locator(".text span")).to_have_count(8)
    expect(page.get_by_role("heading", name="Guesses for the next token")).to_be_visible()
    write(page, "f")
    expect(page.get_by_text("at least two tokens that the model knows, but got 1")).to_be_visible()
    no_traceback(page)


def test_on_a_telephone_a_tap_describes_a_token_of_a_long_text(inspected):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page = inspected(STANDARD, (TEXT * 15)[:1024], color_scheme="dark", **phone)
    cards = page.locator("[data-testid=stMetric]")
    assert cards.nth(0).bounding_box()["y"] == cards.nth(1).bounding_box()["y"]
    page.locator(".text span").nth(500).tap()
    expect(page.locator(".description")).to_contain_text("token 500: ")
    expect(page.get_by_text("best guesses for token 500,")).to_be_visible()
    expect(page.get_by_text("of 1,024 are shown").first).to_be_visible()
    bar = page.locator(".strip [data-token='500']")
    expect(bar).to_be_in_viewport()
    assert bar.bounding_box()["width"] >= 6
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    map_ = page.locator("[data-testid=stVegaLiteChart]")
    expect(map_).to_have_count(1)
    expect(page.get_by_label("Map of attention. Token 499").first).to_be_attached()
    no_traceback(page)


def test_slots_that_can_never_be_used_are_explained_and_blocks_and_heads_chosen(inspected):
    page = inspected(LINEAR, TEXT)
    expect(page.get_by_text("This model can never use its slots")).to_be_visible()
    sentence = page.get_by_text("looks most at")
    before = sentence.inner_text()
    page.get_by_role("slider", name="Head").press("ArrowRight")
    expect(sentence).not_to_have_text(before)
    before = sentence.inner_text()
    page.get_by_role("slider", name="Block").press("ArrowLeft")
    expect(sentence).not_to_have_text(before)
    page = inspected(STANDARD, TEXT)
    expect(page.get_by_text("This model can never use its slots")).to_have_count(0)
    no_traceback(page)
