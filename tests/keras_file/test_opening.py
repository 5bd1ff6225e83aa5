"""A model file as data: its layout, and a reader whose every end is one refusal."""

import itertools
import math
import os
import signal
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from keras_lm.data.tokenizers import CharTokenizer
from keras_lm.export.keras_archive import save_model
from keras_lm.generation.bundle import load
from keras_lm.keras_file import opening as model_file
from keras_lm.keras_file.opening import ModelFileError, check_model_file, read_model_file
from keras_lm.settings.variants import ATTENTIONS, NORMS, POSITIONS

EARLIER = Path(__file__).parents[1] / "earlier"


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_the_layout_is_that_of_the_model_and_of_what_keras_writes(
    small_model, tmp_path, attention, norm
):
    tokenizer = CharTokenizer.from_text("abcdefghijklmnopqrs é😀\n").to_dict()
    for positions, flag in itertools.product(POSITIONS, (False, True)):
        model = small_model(
            attention=attention,
            norm=norm,
            positions=positions,
            use_bias=flag,
            tie_embeddings=flag,
            activation="swiglu" if flag else "relu",
            num_blocks=3,
            qk_norm=True,
            ngram_order=3 if flag else 1,
            ngram_rows=600,
            dropout=0.1,
        )
        shapes = model.config.weight_shapes()
        assert [*shapes.values()] == [tuple(weight.shape) for weight in model.weights]
        assert sum(map(math.prod, shapes.values())) == model.config.parameter_count()
    save_model(tmp_path / "model.keras", model, tokenizer)
    config, stored, arrays = read_model_file(tmp_path / "model.keras")
    assert (config, stored) == (model.config, tokenizer)
    for array, weight in zip(arrays, model.get_weights(), strict=True):
        np.testing.assert_array_equal(array, weight)


@pytest.mark.parametrize("path", sorted(EARLIER.glob("*.keras")), ids=lambda path: path.stem)
def test_files_of_earlier_versions_load_and_compute_the_same(path):
    bundle = load(path)
    ids = [[i % bundle.config.vocab_size for i in range(bundle.config.context_length)]]
    expected = np.load(path.with_suffix(".npy"))
    np.testing.assert_allclose(bundle.model(np.int32(ids)), expected, rtol=1e-5, atol=1e-6)


def test_this_process_opens_neither_archive_nor_arrays(sound, monkeypatch):
    def opened(*_, **__):
        pytest.fail("it was opened here")

    monkeypatch.setattr(zipfile, "ZipFile", opened)
    monkeypatch.setattr(h5py, "File", opened)
    load(sound)
    check_model_file(sound)


@pytest.mark.parametrize("code", [-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGPROF, 1, 3, 255])
def test_whatever_ends_the_reader_is_one_refusal(sound, monkeypatch, code):
    monkeypatch.setattr(model_file, "_run_reader", lambda *_: code)
    for read in (read_model_file, check_model_file):
        with pytest.raises(ModelFileError, match="took more time or memory .* or failed"):
            read(sound)


def test_a_reader_that_hangs_is_ended(sound, monkeypatch, tmp_path):
    hang = tmp_path / "hang"
    hang.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    hang.chmod(0o755)
    monkeypatch.setattr(model_file.sys, "executable", str(hang))
    monkeypatch.setattr(model_file, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(ModelFileError, match="SIGKILL"):
        check_model_file(sound)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("excess", ["time", "memory", "disk"])
def test_the_reader_cannot_take_more_than_its_share(sound, monkeypatch, tmp_path, excess):
    """A program in the reader's place takes what its limits should keep from it."""
    take = {
        "time": "while True: pass",
        "memory": "bytearray(2**31)",
        "disk": "open(sys.argv[0] + '.out', 'wb').write(bytes(2**25)); sys.exit(1)",
    }[excess]
    program = tmp_path / "reader.py"
    program.write_text(
        "import sys; from keras_lm.keras_file.reader import limit_resources\n"
        f"limit_resources(1000)\n{take}\nsys.exit(0)\n"
    )
    starter = tmp_path / "python"
    starter.write_text(f"#!/bin/sh\nPYTHONPATH=. exec {sys.executable} {program}\n")
    starter.chmod(0o755)
    monkeypatch.setattr(model_file.sys, "executable", str(starter))
    with pytest.raises(ModelFileError, match="took more time or memory"):
        check_model_file(sound)


def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="cannot be read: Is not an ordinary file"):
        check_model_file(tmp_path / "pipe")
