"""One variant, one place: variants of the tests' own are all that any other one is."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from keras_lm.presentation.formatting import escape_markdown
from keras_lm.settings import estimates, variants
from keras_lm.settings.config import ConfigError, DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.settings.variants import ATTENTIONS, KINDS, VARIABLE, register
from keras_lm.system.paths import RUNS_VARIABLE
from keras_lm.ui.reach import STYLED
from tests.variants import SLIDING, VARIANTS

ROOT = Path(__file__).parents[1]
EXTENDED = {VARIABLE: "tests.variants.registered", "PYTHONPATH": str(ROOT)}
TINY = "--context-length 24 --d-model 12 --num-heads 2 --num-blocks 1 --ffn-dim 10 --batch-size 3"
OWN = "--attention sliding --window 5 --norm unit --activation silu --positions none"


@pytest.fixture
def registered(monkeypatch):
    """The variants can be chosen in this process and in those that it starts."""
    for name, value in EXTENDED.items():
        monkeypatch.setenv(name, value)
    for variant in VARIANTS:
        register(variant)
    yield
    for variant in VARIANTS:
        del KINDS[type(variant)][variant.name]


def keras_lm(*words: object, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "keras_lm", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
        env=os.environ | environment,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of all these variants, trained from the command line."""
    folder = tmp_path_factory.mktemp("variants") / "run"
    words = ["train", "--run-dir", folder, "--data", "alice", "--steps", 4, "--sample-tokens", 3]
    words += ["--tokenizer", "char"]
    process = keras_lm(*words, *TINY.split(), *OWN.split(), **EXTENDED)
    assert process.returncode == 0, process.stderr
    return folder


def test_it_is_trained_and_its_option_is_a_key_of_the_config(trained):
    config = json.loads((trained / "config.json").read_text())["model"]
    assert (config["attention"], config["window"], config["norm"]) == ("sliding", 5, "unit")
    assert json.loads((trained / "status.json").read_text())["state"] == "finished"


def test_a_fresh_process_generates_with_it_and_one_without_it_refuses_the_file(trained):
    model = trained / "model.keras"
    words = ["generate", "--model", model, "--prompt", "the ", "--max-new-tokens", 40, "--seed", 1]
    first, again = (keras_lm(*words, **EXTENDED) for _ in range(2))
    assert first.returncode == 0 and len(first.stdout) == 40 + 1, first.stderr
    assert again.stdout == first.stdout
    refused = keras_lm("check", model)
    assert refused.returncode == 1 and "has no field 'window'" in refused.stdout


def test_a_loaded_model_generates_what_full_passes_would(registered, trained):
    from keras_lm.generation.bundle import generate, load

    bundle = load(trained / "model.keras")
    prompt = "alice was"
    ids = list(bundle.tokenizer.encode(prompt))
    while len(ids) < bundle.config.context_length:
        ids.append(int(np.argmax(bundle.model(np.int32([ids]))[0, -1])))
    count = len(ids) - len(prompt)
    text = generate(bundle, prompt, temperature=0.0, max_new_tokens=count)
    assert text == bundle.tokenizer.decode(ids[-count:])


@pytest.mark.parametrize(
    ("attention", "options"), [("sliding", {"window": 4}), ("grouped", {"num_kv_heads": 1})]
)
def test_what_is_kept_while_generating_gives_the_logits_of_a_full_pass(
    registered, small_model, small_ids, attention, options
):
    import tensorflow as tf

    model = small_model(attention=attention, norm="unit", activation="silu", options=options)
    ids = small_ids(2, 11)
    state, rows = model.initial_state(2), []
    for t in range(11):
        logits, state = model.decode(ids[:, t : t + 1], state, tf.constant(t))
        rows.append(logits)
    np.testing.assert_allclose(np.stack(rows, 1), model(ids), rtol=0, atol=3e-6)


def test_a_window_hides_what_is_older(registered, small_model, small_ids):
    ids = small_ids(2, 11)
    other = ids.copy()
    other[:, 0] = (ids[:, 0] + 1) % 23
    one_block = small_model(attention="sliding", num_blocks=1, options={"window": 4})
    changed = np.abs(np.array(one_block(other)) - np.array(one_block(ids))).max(axis=(0, 2))
    assert (changed[:4] > 0).all() and (changed[4:] == 0).all()


@pytest.mark.parametrize("attention", ["sliding", "grouped", "standard"])
@pytest.mark.parametrize("norm", ["unit", "layernorm"])
@pytest.mark.parametrize("activation", ["silu", "swiglu"])
def test_one_table_of_shapes_counts_lays_out_and_builds(
    registered, small_model, attention, norm, activation
):
    shape = {"attention": attention, "norm": norm, "activation": activation}
    model = small_model(**shape, positions="none", d_model=21, use_bias=True)  # odd heads
    shapes = model.config.weight_shapes()
    assert [*shapes.values()] == [tuple(weight.shape) for weight in model.weights]
    assert sum(map(math.prod, shapes.values())) == model.config.parameter_count()


def test_its_entry_enters_the_estimates(registered):
    def run(**shape):
        model = ModelConfig(vocab_size=65, context_length=1024, **shape)
        return RunConfig(model, DataConfig(), TrainingConfig())

    standard, wide, narrow = (
        run(),
        run(attention="sliding", options={"window": 256}),
        run(attention="sliding", options={"window": 8}),
    )
    for estimate in (
        estimates.memory_bytes,
        lambda config: estimates.run_seconds(config, estimates.Speed(1e11)),
    ):
        assert estimate(narrow) < estimate(wide) < estimate(standard)


def test_an_own_option_is_a_setting_like_any_other(registered):
    config = ModelConfig(attention="sliding")
    assert config.window == 32 and config.to_dict()["window"] == 32
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert config.changed(window=7).window == 7 != config.window
    assert config.changed(window=7) != config
    assert "window" not in config.changed(attention="standard").to_dict()
    with pytest.raises(ConfigError, match="ModelConfig.window must be between 1 and") as refused:
        config.changed(window=0)
    assert refused.value.field == "window"
    with pytest.raises(ConfigError, match="no option 'widow'"):
        ModelConfig(options={"widow": 3})


def test_a_name_is_given_once(registered):
    with pytest.raises(ConfigError, match="a new name, but sliding is taken"):
        register(SLIDING)
    with pytest.raises(ConfigError, match="a new name, but window is taken"):
        register(variants.Attention("other", "", "", options=SLIDING.options))
    assert "other" not in ATTENTIONS


@pytest.fixture
def form(registered, tmp_path, monkeypatch):
    """The form of a new run with the group "Model" open."""
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    page = AppTest.from_file(ROOT / "streamlit_app.py", default_timeout=60)
    page.session_state[STYLED] = True
    page.session_state["advanced"] = "Model"
    page.query_params["run"] = "new"
    page.query_params["model.attention"] = "sliding"
    page.query_params["model.window"] = "16"
    return page.run()


def test_the_form_offers_it_with_its_option_and_its_sentence(form):
    assert not form.exception and not form.error
    choice = form.selectbox(key="model.attention")
    assert choice.value == "sliding" and SLIDING.label in choice.options
    assert SLIDING.sentence in choice.help
    option = form.number_input(key="model.window")
    assert (option.value, option.label) == (16, "Window (sliding-window attention)")
    option.set_value(0).run()
    sentence = "Window (sliding-window attention) must be between 1 and 65,536, but got 0."
    assert form.error[0].value == escape_markdown(sentence)
    assert "Unit length" in form.selectbox(key="model.norm").options
    assert "SiLU" in form.selectbox(key="model.activation").options


def test_the_page_describes_every_attention(registered):
    def card():
        from keras_lm.ui.parts.mechanisms import mechanisms

        mechanisms(64)

    page = AppTest.from_function(card, default_timeout=60).run()
    assert not page.exception
    shown = [element.value for element in page.markdown]
    assert [f"**{entry.label}** {entry.sentence}" for entry in ATTENTIONS.values()] == shown
