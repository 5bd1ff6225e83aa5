"""The exported web page in a browser, from a plain static server."""

import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.export.models import VARIANTS, make, put_export

PROBE = """async (folder) => {
    const { Model, readSafetensors } = await import(`${folder}/model.js`);
    const { Tokens } = await import(`${folder}/tokens.js`);
    const { continueIds } = await import(`${folder}/generation.js`);
    const read = async (name) => await fetch(`${folder}/${name}`);
    const [config, stored, expected] = await Promise.all(
        ["config", "tokenizer", "expected"].map(async (n) => (await read(`${n}.json`)).json()));
    const weights = readSafetensors(await (await read("model.safetensors")).arrayBuffer());
    const [model, tokens] = [new Model(config, weights), new Tokens(stored, config)];
    const greedy = { temperature: 0, topK: 0, topP: 1, count: 50, seed: 1 };
    const drawn = { temperature: 1.5, topK: 7, topP: 0.9, count: 30, seed: 5 };
    const text = (ids) => new TextDecoder().decode(
        Uint8Array.from(ids.flatMap((id) => [...tokens.bytes(id)])));
    const made = (settings) => [...continueIds(model, tokens, expected.prompt, settings)];
    return {
        continuation: made(greedy),
        ids: expected.texts.map((text) => tokens.encode(text)),
        decoded: expected.ids.map(text),
        logits: (model.reset(), expected.sequence.map((id) => [...model.step(id)])),
        drawn: [made(drawn), made(drawn), made({ ...drawn, seed: 6 })],
        long: made({ ...greedy, count: 90 }).length,
        begun: [...continueIds(model, tokens, [], { ...greedy, count: 4 })],
    };
}"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, format, *args):
        """Says nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a static server with an export of each variant, and its address."""
    folder = tmp_path_factory.mktemp("site")
    for name in VARIANTS:
        path = put_export(make(name), "web", folder / name)
        expected = json.loads((path / "expected.json").read_text())
        expected["sequence"] = np.load(path / "expected.npz")["ids5"][0].tolist()
        (path / "expected.json").write_text(json.dumps(expected))
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_every_model_computes_encodes_and_writes_what_it_did_here(new_page, site):
    folder, address = site
    page = new_page()
    page.goto(f"{address}/plain/")
    for name in VARIANTS:
        expected = json.loads((folder / name / "expected.json").read_text())
        got = page.evaluate(PROBE, f"{address}/{name}")
        logits = np.load(folder / name / "expected.npz")["logits5"][0]
        assert np.abs(np.array(got["logits"]) - logits).max() < 1e-4, name
        assert got["continuation"] == expected["continuation"], name
        assert got["ids"] == expected["ids"] and got["decoded"] == expected["decoded"], name
        first, again, other = got["drawn"]
        assert first == again != other, name
        assert got["long"] == 90, name  # beyond the context of 64
        config = json.loads((folder / name / "config.json").read_text())
        if config["stop"] is None:  # a text without a prompt begins with a token that is shown
            first, end = config["firsts"]
            assert len(got["begun"]) == 4 and first <= got["begun"][0] < end, name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_writes_stops_and_fits_a_telephone(new_page, site, scheme):
    _, address = site
    page = new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.goto(f"{address}/flash/")
    status, text = page.get_by_role("status"), page.locator("#text")
    expect(status).to_contain_text("Ready: ")
    page.get_by_label("Beginning of the text").fill("the hat")
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Tokens").fill("20")
    page.get_by_role("button", name="Generate").click()
    expect(status).to_contain_text("Made 20 tokens")
    written = text.inner_text()
    assert written.startswith("the hat") and len(written) > len("the hat")
    page.get_by_label("Tokens").fill("100000")
    page.get_by_role("button", name="Generate").click()
    page.get_by_role("button", name="Stop").click()
    expect(status).to_contain_text("Stopped after")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_without_a_server_the_page_says_so(browser, site):
    quiet = browser()
    page = quiet.context.new_page()
    page.goto((site[0] / "plain" / "index.html").as_uri())
    expect(page.get_by_role("status")).to_contain_text("through a web server")
    assert all("file://" in complaint for complaint in quiet.end())


def test_without_a_number_nothing_is_written(new_page, site):
    page = new_page()
    page.goto(f"{site[1]}/plain/")
    status = page.get_by_role("status")
    expect(status).to_contain_text("Ready: ")
    for name in ("Temperature", "Top-k", "Top-p", "Tokens", "Seed"):
        value = page.get_by_label(name).input_value()
        page.get_by_label(name).fill("")
        page.get_by_role("button", name="Generate").click()
        expect(page.locator("input:invalid")).to_have_count(1)
        page.get_by_label(name).fill(value)
    expect(status).to_contain_text("Ready: ")
