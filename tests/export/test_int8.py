"""Weights of 8 bits: the files that hold them, and what they cost."""

import dataclasses
import json
import math
import zipfile

import h5py
import numpy as np
import pytest

from keras_lm.commands.export import text_of
from keras_lm.data.corpus import prepare
from keras_lm.export.cost import cost_in_words, mean_loss
from keras_lm.export.exporting import write_export
from keras_lm.export.litert import _run
from keras_lm.generation.bundle import load
from keras_lm.keras_file.opening import ModelFileError, check_model_file
from keras_lm.model.backend import keras
from keras_lm.runs.exports import Exports
from keras_lm.settings.config import DataConfig, RunConfig
from keras_lm.settings.formats import FORMATS
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.int8 import SCALES, dequantize, scale_axis
from keras_lm.storage.run_folder import RunFolder
from tests.export.models import TEXT, expect, make, run_elsewhere

INT8 = FORMATS["keras-int8"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model with the text that validates it."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    made = make("flash")
    corpus = prepare(DataConfig(str(path), validation_fraction=0.5), 64, known=made.tokenizer)
    return dataclasses.replace(made, corpus=corpus, no_corpus="")


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    """Its `.keras` file of 8 bits."""
    path = tmp_path_factory.mktemp("int8") / "model.keras"
    write_export(model, INT8, path, lambda line: None)
    return path


def members(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(file, path, change):
    """The file with other arrays: `change` gets its open HDF5 file."""
    parts = members(file)
    (path / "weights.h5").write_bytes(parts["model.weights.h5"])
    with h5py.File(path / "weights.h5", "r+") as store:
        change(store)
    parts["model.weights.h5"] = (path / "weights.h5").read_bytes()
    with zipfile.ZipFile(path / "changed.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path / "changed.keras"


@pytest.mark.parametrize("variant", ["flash", "linear"])
def test_it_loads_with_every_weight_within_half_a_scale_and_vectors_to_the_bit(variant, tmp_path):
    model, file = make(variant), tmp_path / "model.keras"
    write_export(model, INT8, file, lambda line: None)
    assert check_model_file(file) == model.config
    bundle = load(file)
    assert bundle.tokenizer.to_dict() == model.tokenizer.to_dict()
    for path, array, found in zip(
        model.config.weight_shapes(), model.arrays, bundle.model.get_weights(), strict=True
    ):
        axis = scale_axis(path, array.shape)
        if axis is None:
            np.testing.assert_array_equal(found, array)
        else:
            scales = np.abs(array).max(axis=1 - axis, keepdims=True) / 127
            assert (np.abs(found - array) <= 0.501 * scales).all() and (found != array).any()


def test_the_file_is_small_and_plain_hdf5_and_keras_does_not_take_it_for_its_own(
    model, file, tmp_path
):
    with h5py.File(tmp_path / "w.h5", "w") as _:
        pass
    (tmp_path / "w.h5").write_bytes(members(file)["model.weights.h5"])
    with h5py.File(tmp_path / "w.h5") as store:
        path = "blocks/decoder_block/feed_forward/down/vars/0"
        whole, scales = store[path][()], store[path + SCALES][()]
    index = [*model.config.weight_shapes()].index(path)
    found = load(file).model.get_weights()[index]
    np.testing.assert_array_equal(whole * scales, found)
    assert whole.dtype == np.int8 and scales.shape == (model.config.d_model,)
    with pytest.raises(Exception, match="Int8LanguageModel"):
        keras.models.load_model(file)


def drop_scales(store) -> None:
    del store["embedding/vars/0" + SCALES]


def infinite_scale(store) -> None:
    store["embedding/vars/0" + SCALES][0] = np.inf


def overflow(store) -> None:
    store["embedding/vars/0" + SCALES][...] = np.finfo("float32").max


def floats(store) -> None:
    values = store["embedding/vars/0"][()].astype("float32")
    del store["embedding/vars/0"]
    store["embedding/vars/0"] = values


def whole_vector(store) -> None:
    values = store["final_norm/vars/0"][()].astype("int8")
    del store["final_norm/vars/0"]
    store["final_norm/vars/0"] = values


def further(store) -> None:
    store["final_norm/vars/0" + SCALES] = np.ones(3, "float32")


@pytest.mark.parametrize(
    "change", [drop_scales, infinite_scale, overflow, floats, whole_vector, further]
)
def test_a_file_that_is_not_as_it_is_written_is_refused(file, tmp_path, change):
    changed = rewritten(file, tmp_path, change)
    with pytest.raises(ModelFileError, match="do not fit its config|not finite numbers"):
        check_model_file(changed)


def test_whole_numbers_are_no_weights_of_a_plain_model(file, tmp_path):
    parts = members(file)
    config = json.loads(parts["config.json"])
    config |= {"class_name": "LanguageModel", "registered_name": "keras_lm>LanguageModel"}
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "changed.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(ModelFileError, match="do not fit its config"):
        check_model_file(tmp_path / "changed.keras")


def test_a_row_of_zeros_stays_zeros_and_no_weight_leaves_the_scale():
    from keras_lm.storage.int8 import quantize

    random = np.random.default_rng(0)
    array = random.normal(size=(5, 7)).astype("float32") * 10.0 ** np.arange(-20, 15, 5)
    array = array.astype("float32")
    array[:, 2] = 0.0
    whole, scales = quantize(array, axis=1)
    assert whole.min() >= -127 and np.abs(whole).max(axis=0).tolist() == [127, 127, 0] + [127] * 4
    error = np.abs(dequantize(whole, scales, axis=1) - array)
    assert np.isfinite(scales).all() and (error <= 0.501 * scales).all()


def test_the_cost_is_the_difference_of_the_losses_by_hand(model):
    ids = model.corpus.validation
    built = load_plain(model)

    def noisy(windows):
        return built(windows) * 0.5

    def by_hand(logits):
        starts = range(0, len(ids) - 1, 64)
        losses = []
        for start in starts:
            part = ids[start : start + 65]
            found = np.array(logits(part[None, :-1].astype("int32")))[0].astype("float64")
            log_sums = np.log(np.exp(found).sum(-1))
            losses += [*(log_sums - found[np.arange(len(part) - 1), part[1:]])]
        return np.mean(losses)

    assert mean_loss(built, ids, 64) == pytest.approx(by_hand(built), rel=1e-5)
    size = len(model.tokenizer.decode(ids[1:].tolist()).encode())
    before, after = (
        by_hand(logits) * (len(ids) - 1) / math.log(2) / size for logits in (built, noisy)
    )
    words = cost_in_words(model, built, noisy)
    assert f"cost {after - before:.4f} bits per byte: {after:.4f} where" in words
    assert f"has {before:.4f}, on {len(ids) - 1:,} tokens" in words
    unknown = cost_in_words(dataclasses.replace(model, corpus=None, no_corpus="so"), built, noisy)
    assert unknown == "What the 8-bit weights cost is not measured: so."


def load_plain(model):
    from keras_lm.export.keras_int8 import logits_of

    return logits_of(model, model.arrays)


def test_what_it_costs_is_in_the_card_and_with_the_zip_for_the_page(model, tmp_path):
    folder = RunFolder(tmp_path / "20260101-000000-abcdef")
    folder.create()
    folder.model_file.write_bytes(b"older")
    said = []
    write_export(model, INT8, folder.export_file("keras-int8"), said.append)
    progress = Exports().progress(folder, "keras-int8")
    assert progress.file and progress.message == said[-1]
    assert progress.message.startswith("The 8-bit weights cost ")
    card = members(folder.export_file("keras-int8"))["export-keras-int8/README.md"].decode()
    assert said[-1] in card and "in 8 bits" in card and "keras-lm generate --model" in card


def test_a_text_that_is_gone_or_another_is_named(model, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()

    def reason(data: DataConfig) -> str:
        folder.write_config(RunConfig(model.config, data, QUICK_START.training).to_dict())
        corpus, words = text_of(folder, make("standard").tokenizer)
        return words if corpus is None else ""

    assert "gone.txt" in reason(DataConfig(str(tmp_path / "gone.txt")))
    assert reason(DataConfig("task:copy")) == "a task has no text"
    (tmp_path / "other.txt").write_text("Ж" * 3000)
    assert "not the one that" in reason(DataConfig(str(tmp_path / "other.txt")))


@pytest.mark.slow
def test_litert_of_8_bits_is_smaller_and_gives_elsewhere_what_it_gives_here(model, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="it is in tests/requirements.txt")
    said, folder = [], tmp_path / "int8"
    write_export(model, FORMATS["litert-int8"], folder, said.append)
    write_export(model, FORMATS["litert"], tmp_path / "float.tflite", said.append)
    in_float = (tmp_path / "float.tflite").stat().st_size
    assert (folder / "model.tflite").stat().st_size < in_float - 2_000  # of 4,464 weights
    assert any(line.startswith("The 8-bit weights cost ") for line in said)
    expect(model, folder, _run(folder / "model.tflite"))
    process = run_elsewhere([folder])
    assert process.returncode == 0, process.stdout + process.stderr[-3000:]
