"""Keras as the package needs it, whatever KERAS_BACKEND and keras.json say; one model's answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORWARD = """
import keras, numpy
keras.utils.set_random_seed(3)
config = keras_lm.ModelConfig(vocab_size=7, context_length=4, d_model=8, num_heads=2, num_blocks=1,
                              ffn_dim=8, qk_norm=True, zero_init=False, activation="gelu")
logits = numpy.array(keras_lm.build_model(config)(numpy.array([[1, 2, 3, 4]])))
print(keras.config.backend(), logits.dtype, repr(logits.sum()))
"""
STRANGE = {"floatx": "float16", "epsilon": 0.25, "image_data_format": "channels_first"}


def run(program: str, keras_home: Path, settings: dict | None = None, **variables: str):
    keras_home.mkdir(exist_ok=True)
    if settings:
        (keras_home / "keras.json").write_text(json.dumps(settings))
    environment = os.environ | {"KERAS_HOME": str(keras_home), **variables}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    """What the program prints where nothing is configured."""
    process = run("import keras_lm; keras_lm.LanguageModel" + FORWARD, tmp_path_factory.mktemp("k"))
    assert process.stdout.startswith("tensorflow float32"), process.stderr
    return process.stdout


@pytest.mark.parametrize(
    ("before", "settings", "variables"),
    [
        ("", STRANGE | {"backend": "jax"}, {}),
        ("", None, {"KERAS_BACKEND": "jax"}),
        ("import keras\n", STRANGE | {"backend": "tensorflow"}, {}),
    ],
)
def test_what_other_projects_configured_changes_nothing(
    answer, tmp_path, before, settings, variables
):
    program = f"{before}import keras_lm; keras_lm.LanguageModel{FORWARD}"
    process = run(program, tmp_path / "keras", settings, **variables)
    assert process.stdout == answer, process.stderr


def test_the_programs_that_this_one_starts_keep_their_backend(tmp_path):
    program = "import keras_lm, os; keras_lm.build_model; print(os.environ['KERAS_BACKEND'])"
    assert run(program, tmp_path / "keras", KERAS_BACKEND="numpy").stdout == "numpy\n"


@pytest.mark.parametrize(
    ("before", "backend"),
    [
        ("import keras; keras.config.backend = lambda: 'jax'", "tensorflow"),  # as if it were
        ("import tensorflow", "jax"),
    ],
)
def test_keras_on_another_backend_is_refused_in_a_sentence(tmp_path, before, backend):
    program = f"{before}\nimport keras_lm; keras_lm.build_model"
    process = run(program, tmp_path / "keras", KERAS_BACKEND=backend)
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: keras_lm needs Keras on TensorFlow, but Keras was already")
