"""`--strategy multi-worker`: what is refused before anything is written or loaded."""

import json
import sys

import pytest

from keras_lm.cli import build_parser, main
from keras_lm.commands.new_run import new_config
from keras_lm.commands.workers import asks_for_workers, follows
from keras_lm.settings.checks import ConfigError
from keras_lm.storage.run_folder import RunFolder


def tf_config(index: int, count: int = 2) -> str:
    cluster = {"worker": [f"127.0.0.1:{4000 + i}" for i in range(count)]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def typed(*words: str):
    return build_parser().parse_args(["train", "--run-dir", "x", *words])


@pytest.mark.parametrize(
    ("words", "variable", "problem"),
    [
        ([], None, "TF_CONFIG"),
        (["--batch-size", "5"], tf_config(0), "got 5 for 2: choose for example 6."),
        (["--batch-size", "5"], tf_config(1), "got 5 for 2: choose for example 6."),
        (["--batch-size", "2", "--data", "-"], tf_config(1), "--data is -"),
    ],
    ids=["without TF_CONFIG", "chief", "worker", "standard input"],
)
def test_what_cannot_work_is_one_line_and_leaves_no_folder(
    tmp_path, monkeypatch, capsys, words, variable, problem
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if variable:
        monkeypatch.setenv("TF_CONFIG", variable)
    flags = ["--strategy", "multi-worker", "--run-dir", str(tmp_path / "run"), *words]
    monkeypatch.setattr(sys, "argv", ["keras-lm", "train", *flags])
    assert main() == 2
    said = capsys.readouterr().err
    assert problem in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_only_worker_0_is_the_chief_and_other_strategies_have_none(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config(1))
    arguments = typed("--strategy", "multi-worker", "--batch-size", "4")
    assert asks_for_workers(arguments) and follows(new_config(arguments))
    monkeypatch.setenv("TF_CONFIG", tf_config(0))
    assert not follows(new_config(arguments))
    monkeypatch.setenv("TF_CONFIG", "{")  # which nobody needs then
    assert not asks_for_workers(typed()) and not follows(new_config(typed()))


def test_a_run_like_one_of_several_workers_is_one_too(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config(1))
    folder = RunFolder(tmp_path)
    folder.write_config(new_config(typed("--strategy", "multi-worker")).to_dict())
    folder.write_status(state="finished")
    assert asks_for_workers(typed("--like", str(tmp_path)))
    assert not asks_for_workers(typed("--like", str(tmp_path), "--strategy", "none"))


@pytest.mark.parametrize(
    "words",
    [
        ["--vary", "attention=flash,standard", "--strategy", "multi-worker"],
        ["--vary", "strategy=none,multi-worker"],
    ],
    ids=["flag", "varied"],
)
def test_a_race_has_no_workers(tmp_path, monkeypatch, words):
    from keras_lm.commands.race import new_race

    arguments = build_parser().parse_args(["race", "--race-dir", str(tmp_path / "race"), *words])
    with pytest.raises(ConfigError, match="processes on several: choose none or mirrored"):
        new_race(arguments, lambda: new_config(arguments)).check_new()


def test_lora_trains_on_one_device():
    with pytest.raises(ConfigError, match="strategy must be none where lora_rank is not 0"):
        new_config(typed("--strategy", "mirrored", "--lora-rank", "4"))
