"""Exports used where keras_lm cannot be imported."""

import dataclasses
import importlib.util
import json
import os
import zipfile

import numpy as np
import pytest

from keras_lm.export.card import FILES
from keras_lm.export.exporting import write_export
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.formats import FORMATS
from tests.export.models import VARIANTS, make, put_export, run_elsewhere

RUNTIMES = {
    "safetensors": "numpy",
    "onnx": "onnxruntime",
    "litert": "ai_edge_litert",
    "saved_model": "tensorflow",
}
# Of formats that trace the layers themselves, ReLU is proved by its square.
TRACED = ("standard", "flash", "linear")


@pytest.fixture(scope="module")
def models():
    """A model of each variant."""
    return {name: make(name) for name in VARIANTS}


@pytest.mark.slow
@pytest.mark.parametrize("format", RUNTIMES)
def test_an_export_gives_elsewhere_what_it_gave_here(format, models, tmp_path):
    needed = [RUNTIMES[format], *FORMATS[format].needs]
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        report = pytest.fail if os.environ.get("CI") else pytest.skip
        report(f"Expected {', '.join(missing)}: install tests/requirements.txt.")
    names = TRACED if FORMATS[format].needs_tensorflow else VARIANTS
    folders = [put_export(models[name], format, tmp_path / name) for name in names]
    process = run_elsewhere(folders)
    assert process.returncode == 0, process.stdout + process.stderr[-3000:]


def test_the_zip_has_all_and_the_suffix_the_model_alone(models, tmp_path):
    said = []
    for name in ("all.zip", "alone.safetensors", "folder"):
        write_export(models["plain"], FORMATS["safetensors"], tmp_path / name, said.append)
    names = {path.name for path in (tmp_path / "folder").iterdir()}
    assert names == {"model.safetensors", *FILES, "README.md"}
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert set(archive.namelist()) == {f"all/{name}" for name in names}
    alone, whole = tmp_path / "alone.safetensors", tmp_path / "folder" / "model.safetensors"
    assert alone.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "all.zip",
        "alone.safetensors",
        "folder",
    ]
    assert [line[:4] for line in said[:3]] == ["2/4 ", "3/4 ", "4/4 "]


def test_safetensors_are_what_their_own_library_reads(models, tmp_path):
    library = pytest.importorskip("safetensors.numpy", reason="it is in tests/requirements.txt")
    path = tmp_path / "model.safetensors"
    write_export(models["linear"], FORMATS["safetensors"], path, lambda line: None)
    arrays, ours = library.load_file(path), models["linear"].named_arrays()
    assert arrays.keys() == ours.keys() and "block_0.attention.slots.log_rate" in arrays
    assert all(np.array_equal(arrays[name], ours[name]) for name in ours)


def test_the_card_says_what_it_is_and_how_it_was_made(models, tmp_path):
    write_export(models["linear"], FORMATS["web"], tmp_path / "web", lambda line: None)
    card = (tmp_path / "web" / "README.md").read_text()
    for part in ("A text", "validation 1.23", "64 tokens", "| data.data | a \\| b c |", "GPT-2"):
        assert part in card


@pytest.mark.parametrize("format", ["web", "safetensors"])
@pytest.mark.parametrize("initial", ["", "first.keras"])
def test_the_card_claims_no_more_than_the_model_and_its_folder_have(
    models, tmp_path, format, initial
):
    run = {"data": {"data": "a text", "init_from": initial}}
    model = dataclasses.replace(models["plain"], run=run)
    write_export(model, FORMATS[format], tmp_path / "out", lambda line: None)
    card = (tmp_path / "out" / "README.md").read_text()
    assert ("from nothing" in card) is not ("had learned another text before" in card)
    assert ("from nothing" in card) is not bool(initial)
    assert ("any batch" in card) is (tmp_path / "out" / "generate.py").exists()


def test_a_task_s_card_and_page_begin_with_a_question(models, tmp_path):
    model = dataclasses.replace(models["plain"], run={"data": {"data": "task:reverse"}})
    for format in ("web", "safetensors"):
        write_export(model, FORMATS[format], tmp_path / format, lambda line: None)
        prompt = json.loads((tmp_path / format / "config.json").read_text())["prompt"]
        card = (tmp_path / format / "README.md").read_text()
        assert len(prompt) == 9 and prompt.endswith("=")
        assert "from nothing" not in card and "questions of this task" in card
    assert f'generate.py "{prompt}"' in card


def test_a_model_that_a_format_does_not_know_is_refused_and_nothing_is_left(models, tmp_path):
    model = models["plain"]
    strange = dataclasses.replace(model.config)
    object.__setattr__(strange, "norm", "unitnorm")
    for name in ("safetensors", "web", "transformers"):
        with pytest.raises(ConfigError, match="layernorm, rmsnorm, but got unitnorm"):
            changed = dataclasses.replace(model, config=strange)
            write_export(changed, FORMATS[name], tmp_path / "out", lambda line: None)
    assert not any(tmp_path.iterdir())
