"""The command `export`, and a format that only this file knows."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from keras_lm import cli
from keras_lm.export.keras_archive import save_model
from keras_lm.settings.formats import FORMATS
from keras_lm.settings.kinds import Format
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import RunFolder
from tests.export.models import make

NUMPY_ARRAYS = Format(
    "arrays",
    "Arrays",
    "is what NumPy itself writes.",
    f"{__name__}:write_arrays",
    file="model.npz",
    needs=("numpy",),
)


def write_arrays(model, folder):
    """The whole of a format."""
    np.savez(folder / "model.npz", **model.named_arrays())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a model with characters, whose last model is not its best."""
    from keras_lm.model.language_model import build_model

    exported = make("standard")
    model = build_model(exported.config, "float32")
    model.set_weights(exported.arrays)
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    folder.create()
    data = dataclasses.replace(QUICK_START.data, title="A | text", data="own.txt")
    config = dataclasses.replace(QUICK_START, model=exported.config, data=data)
    folder.write_config(config.to_dict())
    for step, loss in ((5, 1.5), (10, 1.7)):
        event = {"kind": "metrics", "step": step, "tokens": 9 * step, "seconds": 1.0, "loss": 2.0}
        event |= {"train_seconds": 1.0, "val_loss": loss, "val_bits_per_byte": 2 * loss}
        folder.append_event(event)
    folder.write_status(state="finished", step=10, steps=10, best_step=5, vocab_size=9)
    tokenizer = exported.tokenizer.to_dict()
    save_model(folder.best_file(5), model, tokenizer)
    save_model(folder.model_file, model, tokenizer, [np.zeros_like(x) for x in exported.arrays])
    return folder


@pytest.fixture
def export(run, monkeypatch, capsys):
    """Runs the command in this process; returns its exit code and what it said."""

    def call(*words) -> tuple[int, list[str]]:
        command = ["keras-lm", "export", "--run-dir", str(run.path), *map(str, words)]
        monkeypatch.setattr(sys, "argv", command)
        code = cli.main()
        return code, capsys.readouterr().err.splitlines()

    return call


@pytest.fixture
def registered(monkeypatch):
    """The format can be chosen."""
    monkeypatch.setitem(FORMATS, NUMPY_ARRAYS.name, NUMPY_ARRAYS)


def test_a_format_is_a_function_and_an_entry(export, registered, tmp_path):
    code, said = export("--format", "arrays", "--out", tmp_path / "out")
    assert code == 0 and [line[:4] for line in said] == ["1/4 ", "2/4 ", "3/4 ", "4/4 "]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"model.npz", "config.json", "tokenizer.json", "README.md"}
    assert export("--format", "arrays", "--out", tmp_path / "a.npz")[0] == 0
    assert "final_norm.weight" in np.load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "This is the model of step 5: 1.5000 nats per token, 3.000 bits per byte."),
        (["--last"], "This is the model of step 10: 1.7000 nats per token, 3.400 bits per byte."),
    ],
)
def test_the_best_model_and_its_story(export, tmp_path, flags, sentence):
    out = tmp_path / "out"
    assert export("--format", "safetensors", "--out", out, *flags)[0] == 0
    assert sentence in (out / "README.md").read_text()
    assert json.loads((out / "config.json").read_text())["title"] == "A | text"
    content = (out / "model.safetensors").read_bytes()
    assert any(content[-4_000:]) is not bool(flags)  # the last model is all zeros


def test_a_model_that_was_not_measured_itself_says_when_it_was(export, run, tmp_path):
    run.write_status(model_step=12)
    try:
        assert export("--format", "safetensors", "--out", tmp_path / "out", "--last")[0] == 0
    finally:
        run.write_status(model_step=10)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "the model of step 12, measured at step 10: 1.7000 nats per token" in card


def test_what_exists_is_left_alone(export, tmp_path):
    out = tmp_path / "mine.txt"
    out.write_text("mine")
    for path in (out, tmp_path):
        code, said = export("--format", "safetensors", "--out", path)
        message = f"--out must be a new name, but {path} exists: choose another."
        assert code == 2 and said == [message]
    code, said = export("--format", "safetensors", "--out", tmp_path / "none" / "out")
    message = f"--out must be a new name in a folder, but there is no folder {tmp_path / 'none'}."
    assert code == 2 and said == [message]
    assert out.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("format", "name", "expected"),
    [
        ("onnx", "x.tflite", ".zip, in .onnx or be a folder"),
        ("onnx", "x.keras", ".zip, in .onnx or be a folder"),
        ("web", "x.safetensors", ".zip or be a folder"),
    ],
)
def test_no_folder_is_called_like_the_file_of_another_format(
    export, tmp_path, format, name, expected
):
    code, [line] = export("--format", format, "--out", tmp_path / name)
    assert code == 2 and expected in line and not any(tmp_path.iterdir())


def test_a_damaged_model_is_not_exported(tmp_path, monkeypatch, capsys):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    folder.lock_file.touch()
    folder.model_file.write_bytes(b"some bytes")
    out = tmp_path / "mine.keras"
    words = ["export", "--run-dir", str(folder.path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["keras_lm", *words])
    assert cli.main() == 2 and not out.exists()
    assert "it is not an archive" in capsys.readouterr().err


def test_a_missing_module_is_named_with_its_cure(export, monkeypatch, tmp_path):
    entry = dataclasses.replace(NUMPY_ARRAYS, needs=("numpy", "no_such_module"))
    monkeypatch.setitem(FORMATS, "arrays", entry)
    code, [line] = export("--format", "arrays", "--out", tmp_path / "out")
    assert code == 2 and "modules no_such_module, which" in line and "keras_lm[export]" in line
    assert not any(tmp_path.iterdir())
