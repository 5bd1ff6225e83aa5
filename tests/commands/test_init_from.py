"""`train --init-from`: goes on with a finished model on another text."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from keras_lm.cli import build_parser, main, new_config
from keras_lm.keras_file.opening import check_model_file
from keras_lm.presentation.repeating import train_command
from keras_lm.runs.race_config import RaceConfig
from keras_lm.settings.config import ConfigError, RunConfig

MODEL = Path(__file__).parents[1] / "earlier" / "first-char.keras"
SHORT = "--steps 2 --sample-every 0 --batch-size 2 --eval-every 0 --checkpoint-every 0"


def typed(*words: object) -> RunConfig:
    return new_config(build_parser().parse_args(["train", "--run-dir", "x", *map(str, words)]))


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A run that went on with a copy of MODEL, which is gone since, and its process."""
    folder = tmp_path_factory.mktemp("taught")
    text, model = folder / "text.txt", folder / "model.keras"
    text.write_text("Grüße an die Käsefüße! " * 200)
    model.write_bytes(MODEL.read_bytes())
    words = ["train", "--data", text, "--init-from", model, "--run-dir", folder / "run"]
    process = subprocess.run(
        [sys.executable, "-m", "keras_lm", *map(str, words), *SHORT.split()],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ,
    )
    model.unlink()
    return folder / "run", process


def test_the_run_has_the_models_shape_more_characters_and_its_own_copy(taught):
    folder, process = taught
    assert process.returncode == 0, process.stderr
    assert "How much the model forgets of its first text is not measured" in process.stderr
    model, result = check_model_file(MODEL), check_model_file(folder / "model.keras")
    assert result.changed(vocab_size=0, dropout=0.0) == model.changed(vocab_size=0, dropout=0.0)
    assert result.vocab_size > model.vocab_size
    assert (folder / "initial-model.keras").read_bytes() == MODEL.read_bytes()
    config = json.loads((folder / "config.json").read_text())
    assert config["data"]["init_from"] == str(folder.parent / "model.keras")


def test_a_run_like_it_goes_on_with_the_same_model(taught):
    folder, _ = taught
    like = typed("--like", folder, "--seed", 7)
    assert like.data.init_from == str(folder / "initial-model.keras")
    fresh = typed("--like", folder, "--init-from", "")
    assert fresh.data.init_from == "" and fresh.model == like.model


def test_the_command_that_repeats_it_means_the_same_run(taught):
    config = typed("--data", "alice", "--init-from", MODEL, "--dropout", 0.3, "--steps", 9)
    words = train_command(config).split()
    assert "--init-from" in words
    assert new_config(build_parser().parse_args(words[1:])) == config


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--d-model 12", "d_model must be "),
        ("--tokenizer bpe", "tokenizer must be char"),
        ("--data task:copy", "init_from must be used with a text"),
        ("--init-from nosuch.keras", "cannot be read: No such file"),
        ("--init-from .", "cannot be read: Is a directory"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence_and_leaves_nothing(
    tmp_path, monkeypatch, capsys, flags, words
):
    monkeypatch.chdir(tmp_path)
    given = f"keras-lm train --run-dir run --init-from {MODEL} {flags}"
    monkeypatch.setattr(sys, "argv", given.split())
    assert main() == 2
    said = capsys.readouterr().err
    assert words in said and len(said.splitlines()) == 1 and not Path("run").exists()


def test_a_hostile_file_is_refused(tmp_path, monkeypatch, capsys):
    hostile = tmp_path / "hostile.keras"
    with zipfile.ZipFile(hostile, "w") as archive:
        archive.writestr("config.json", '{"module": "os", "class_name": "system"}')
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", "no")
    run = tmp_path / "run"
    words = f"keras-lm train --run-dir {run} --init-from {hostile}"
    monkeypatch.setattr(sys, "argv", words.split())
    assert main() == 2
    said = capsys.readouterr().err
    assert "is not a keras_lm model" in said and len(said.splitlines()) == 1
    assert not run.exists()


def test_a_race_of_such_runs_varies_what_the_model_does_not_decide():
    base = typed("--init-from", MODEL)
    RaceConfig(base, "learning_rate", (1e-3, 1e-4), (1,))
    RaceConfig(base, "dropout", (0.0, 0.1), (1,))
    for setting, values in (("num_blocks", (1, 2)), ("tokenizer", ("char", "bpe"))):
        with pytest.raises(ConfigError, match="the model decides that"):
            RaceConfig(base, setting, values, (1,))
