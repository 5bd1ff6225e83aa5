"""Variants of the tests' own: a tokenizer, a sampler filter, an optimizer and a text.

`docs/extending.md` takes these as its examples.
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from streamlit.testing.v1 import AppTest

from keras_lm import cli
from keras_lm.data.texts import TEXTS, load_text
from keras_lm.data.tokenizers import TokenizerError, tokenize, tokenizer_from_dict
from keras_lm.generation import sampling
from keras_lm.settings import estimates
from keras_lm.settings.checks import field
from keras_lm.settings.config import GenerationConfig, TrainingConfig
from keras_lm.settings.presets import QUICK_START
from keras_lm.settings.variants import KINDS, VARIABLE
from keras_lm.system import signals
from keras_lm.system.paths import RUNS_VARIABLE
from keras_lm.training.optimizers import create_optimizer
from keras_lm.ui.pages import generate as generate_page
from keras_lm.ui.reach import STYLED
from tests.additions import RHYME, SGD, WORDS

ROOT = Path(__file__).parents[1]
TINY = "--context-length 7 --d-model 6 --num-heads 1 --num-blocks 1 --ffn-dim 5 --batch-size 3"


def epsilon(candidates, least):
    """Keeps tokens that are at least so probable (https://arxiv.org/abs/2210.15191); 0: all."""
    return candidates.keep(candidates.probabilities >= least)


EPSILON = field(
    0.0,
    "Choose among tokens that are at least so probable; 0: among all.",
    low=0.0,
    high=1.0,
    label="Epsilon",
    slider=(0.0, 0.1),
    step=0.01,
    neutral=0.0,
)


@pytest.fixture
def registered(monkeypatch):
    """Tokenizer, optimizer and text can be chosen here, the first two in child processes too."""
    monkeypatch.setenv(VARIABLE, "tests.additions.registered")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for variant in (WORDS, SGD):
        monkeypatch.setitem(KINDS[type(variant)], variant.name, variant)
    monkeypatch.setitem(TEXTS, "rhyme", RHYME)


@pytest.fixture
def filtered(monkeypatch):
    """The filter and its setting, as if they stood in their two files; the setting's config."""
    config = dataclasses.make_dataclass(
        "GenerationConfig", [("epsilon", float, EPSILON)], bases=(GenerationConfig,), frozen=True
    )
    for name, module in list(sys.modules.items()):
        if name.startswith("keras_lm.") and hasattr(module, "GenerationConfig"):
            monkeypatch.setattr(module, "GenerationConfig", config)
    monkeypatch.setattr(
        generate_page, "FIELDS", {spec.name: spec.metadata for spec in config.specs()}
    )
    monkeypatch.setitem(sampling.FILTERS, "epsilon", epsilon)
    return config


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command line in this process, which is afterwards as before; returns its output."""

    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["keras_lm", *map(str, words)])
        code = cli.main()
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    for flags in ("XLA_FLAGS", "TF_XLA_FLAGS"):
        monkeypatch.setenv(flags, os.environ.get(flags, ""))
    handlers = {name: signal.getsignal(name) for name in signals.ENDING}
    yield run
    for name, handler in handlers.items():
        signal.signal(name, handler)


def test_all_are_trained_and_generated_with_from_the_command_line(
    registered, filtered, command, tmp_path
):
    chosen = "--data rhyme --tokenizer words --optimizer sgd --learning-rate 0.1"
    every = "--steps 12 --log-every 12 --eval-every 0 --sample-every 0 --checkpoint-every 0"
    folder = tmp_path / "run"
    command("train", "--run-dir", folder, *f"{TINY} {chosen} {every}".split())
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    tokenizer = tokenizer_from_dict(json.loads((folder / "tokenizer.json").read_text()))
    assert tokenizer.kind == "words" and "accidentally" in tokenizer.to_dict()["words"]

    words = ["generate", "--model", folder / "model.keras", "--prompt", "green bottles"]
    words += "--temperature 1 --top-k 0 --top-p 1 --max-new-tokens 40 --seed 3".split()
    free, likeliest = command(*words), command(*words, "--epsilon", "1")
    assert set(tokenizer.encode(free)) <= set(range(tokenizer.vocab_size))
    greedy = command(*words, "--temperature", "0")
    assert likeliest == greedy != free


def test_the_form_of_a_run_offers_them_with_their_sentences(registered, tmp_path, monkeypatch):
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    for group, name, entry in (
        ("Text", "data.tokenizer", WORDS),
        ("Training", "training.optimizer", SGD),
    ):
        page = AppTest.from_file(ROOT / "streamlit_app.py", default_timeout=60)
        page.session_state[STYLED] = True
        page.session_state["advanced"] = group
        page.query_params["run"] = "new"
        page.query_params[name] = entry.name
        page.query_params["data.data"] = "rhyme"
        page.run()
        assert not page.exception and not page.error
        choice = page.selectbox(key=name)
        assert choice.value == entry.name and entry.label in choice.options
        assert entry.sentence in choice.help
        texts = page.selectbox(key="data.data")
        assert texts.value == "rhyme" and RHYME.title in texts.options


def test_the_generate_page_offers_the_filter_and_names_it_where_it_does_something(filtered):
    def sidebar():
        from keras_lm.ui.pages import generate

        generate.settings_form()

    page = AppTest.from_function(sidebar, default_timeout=60).run()
    slider = page.slider(key="epsilon")
    assert (slider.label, slider.value, slider.max) == ("Epsilon", 0.0, 0.1)
    settings = dataclasses.asdict(filtered())
    assert "epsilon" not in generate_page.describe(settings)
    assert "epsilon 0.02" in generate_page.describe(settings | {"epsilon": 0.02})


def test_a_filter_looks_at_what_the_earlier_ones_have_left(filtered):
    logits = tf.math.log([[0.1, 0.4, 0.2, 0.3]])

    def kept(**settings) -> set[int]:
        config = filtered(temperature=1.0, **{"top_k": 0, "top_p": 1.0, **settings})
        left = sampling.filter_candidates(logits, sampling.sampling_settings(config))
        return set(left.ids.numpy()[left.shares.numpy() > 0].tolist())

    assert kept(epsilon=0.25) == {1, 3}
    assert kept(epsilon=0.35) == {1}
    assert kept(epsilon=0.35, top_k=2) == {1, 3}  # of 4/7 and 3/7
    assert kept(epsilon=0.0) == {0, 1, 2, 3}


def test_words_are_tokens(registered):
    text = "The man, the dog.\nThe man!"
    tokenizer, rows, _ = tokenize("words", text)
    assert tokenizer.decode(rows.tolist()) == text and rows.dtype == np.int32
    assert tokenizer.encode(text) == rows.tolist()
    assert tokenizer.unknown("The cat, the cow") == ["cat", "cow"]
    again = tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert again.encode(text) == rows.tolist()
    separated, *_ = tokenize("words", "a|b", separator="|")
    assert tokenizer_from_dict(separated.to_dict()).encode("a|b") == [0, 2, 1]
    with pytest.raises(TokenizerError, match="needs ascending words"):
        tokenizer_from_dict({"kind": "words", "words": ["b", "a"]})


def test_gradient_descent_moves_weights_against_their_gradient(registered, one_block):
    settings = {"learning_rate": 0.5, "warmup_steps": 0, "schedule": "constant"}
    config = TrainingConfig(optimizer="sgd", weight_decay=0.0, **settings)
    model = one_block()
    optimizer = create_optimizer(config, model)
    before = [np.array(weight) for weight in model.trainable_variables]
    optimizer.apply([tf.ones(weight.shape) for weight in before])
    for weight, old in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_allclose(np.array(weight), old - 0.5, rtol=0, atol=1e-6)


def test_an_optimizer_without_costs_takes_no_time_of_its_own(registered):
    def seconds(name: str) -> float:
        training = QUICK_START.training.changed(optimizer=name, steps=100)
        model = QUICK_START.model.changed(vocab_size=67)
        config = dataclasses.replace(QUICK_START, model=model, training=training)
        return estimates.run_seconds(config, estimates.Speed(1e11))

    assert seconds("sgd") == seconds("adamw") < seconds("muon")


def test_a_text_is_found_by_its_name(registered):
    assert load_text("rhyme").startswith("60 green bottles")
    assert os.path.getsize(RHYME.paths[0]) == len(load_text("rhyme"))
