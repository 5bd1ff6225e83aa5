"""Exports by processes of their own."""

import os
import time

import pytest

from keras_lm.runs.exports import Exports, Progress
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path, sound):
    """A finished run with a model."""
    folder = RunFolder(tmp_path / "20260101-000000-abcdef")
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    folder.write_status(state="finished", step=1, steps=1)
    folder.model_file.write_bytes(sound.read_bytes())
    return folder


def wait(exports, folder, format) -> list[Progress]:
    """What was seen until nothing is in progress any more."""
    seen = [exports.progress(folder, format)]
    while seen[-1].part is not None:
        time.sleep(0.01)
        seen.append(exports.progress(folder, format))
    return seen


def test_a_file_is_made_and_offered_until_the_model_changes(folder):
    exports = Exports()
    assert exports.progress(folder, "safetensors") == Progress()
    exports.start(folder, "safetensors")
    *before, last = wait(exports, folder, "safetensors")
    parts = [progress.part for progress in before]
    assert parts == sorted(parts) and parts[0] == 0.0 and parts[-1] < 1.0
    assert last == Progress(file=folder.export_file("safetensors"))
    assert Exports().progress(folder, "safetensors") == last  # another server sees it, too
    assert folder.other_names() == []
    later = time.time() + 5
    os.utime(folder.model_file, (later, later))
    assert exports.progress(folder, "safetensors") == Progress()
    folder.best_file(1).write_bytes(b"an older one, which is offered now")
    os.utime(folder.best_file(1), (later - 99, later - 99))
    folder.write_status(best_step=1)
    assert exports.progress(folder, "safetensors") == Progress()
    folder.remove()
    assert not folder.path.exists()


def test_what_went_wrong_is_said(folder):
    folder.model_file.write_bytes(b"no model")
    exports = Exports()
    exports.start(folder, "safetensors")
    last = wait(exports, folder, "safetensors")[-1]
    assert last.file is None and "is not a keras_lm model, or it is damaged" in last.message
    exports.start(folder, "safetensors")
    next(iter(exports._processes.values())).child.kill()
    last = wait(exports, folder, "safetensors")[-1]
    assert "it was killed, or memory ran out" in last.message
