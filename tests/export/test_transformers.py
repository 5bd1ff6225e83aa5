"""Folders for Hugging Face transformers."""

import dataclasses
from importlib.util import find_spec

import pytest

from keras_lm.export.transformers import CLASSES, architecture_of
from keras_lm.model.language_model import build_model
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.config import ModelConfig
from tests.export.models import make, put_export, run_elsewhere
from tests.reference import randomize

GPT2 = {"norm": "layernorm", "positions": "learned", "activation": "gelu", "qk_norm": False}
LLAMA = {"norm": "rmsnorm", "positions": "rotary", "activation": "swiglu", "qk_norm": False}
EXACT = {"attention": "flash", "logit_soft_cap": 0.0, "ngram_order": 1}
FITTING = {
    "gpt2": {**GPT2, "use_bias": True, "tie_embeddings": True},
    "gpt2 without biases": {**GPT2, "activation": "relu2"},
    "llama": LLAMA,
    "llama with biases": {**LLAMA, "use_bias": True, "tie_embeddings": True},
    "qwen3": {**LLAMA, "qk_norm": True},
    "arcee": {**LLAMA, "activation": "relu2"},
}
NOT_FITTING = {
    "attention": ({"attention": "linear"}, "no attention like linear"),
    "logit_soft_cap": ({"logit_soft_cap": 15.0}, "logit_soft_cap 15"),
    "ngram_order": ({"ngram_order": 2}, "embeds each token alone"),
    "gpt2": ({**GPT2, "qk_norm": True}, "has layernorm, learned, gelu, qk_norm"),
    "gated gpt2": ({**GPT2, "activation": "swiglu"}, "has layernorm, learned, swiglu"),
    "qwen3": ({**LLAMA, "qk_norm": True, "use_bias": True}, "rotary, swiglu, qk_norm, biases"),
    "mixed": ({**LLAMA, "positions": "learned"}, "has rmsnorm, learned, swiglu"),
}


@pytest.mark.parametrize("name", FITTING)
def test_a_model_that_fits_has_an_architecture(name):
    architecture = architecture_of(ModelConfig(vocab_size=5, **{**EXACT, **FITTING[name]}))
    assert architecture == name.split()[0] and architecture in CLASSES


@pytest.mark.parametrize("name", NOT_FITTING)
def test_one_that_does_not_fit_is_told_why(name):
    changes, message = NOT_FITTING[name]
    with pytest.raises(ConfigError, match=message):
        architecture_of(ModelConfig(vocab_size=5, **changes))


def test_transformers_computes_the_same(tmp_path):
    if missing := [name for name in ("torch", "transformers") if not find_spec(name)]:
        pytest.skip(f"{' and '.join(missing)} are too large for the tests' requirements")
    folders = []
    for name, changes in FITTING.items():
        model = make("standard")
        config = model.config.changed(**{**EXACT, **changes, "num_blocks": 2})
        arrays = randomize(build_model(config, "float32")).get_weights()
        model = dataclasses.replace(model, config=config, arrays=arrays)
        folders.append(put_export(model, "transformers", tmp_path / name.replace(" ", "-")))
    process = run_elsewhere(folders)  # PyTorch and TensorFlow crash each other in one process
    assert process.returncode == 0, process.stdout + process.stderr[-3000:]
    assert "newly initialized" not in process.stderr
    print(process.stdout)
