"""Races: what can be raced, what survives a kill, and that the result is what the events say."""

import dataclasses
import json
import math

import pytest

from keras_lm.presentation.curves import ChartOptions
from keras_lm.presentation.race_charts import MEASURES, VALIDATION, compared_table, race_table
from keras_lm.presentation.runs_table import result_table
from keras_lm.runs.race import (
    LONGEST_REASON,
    RACES,
    RESULT_FILE,
    Race,
    count_in_words,
    finish_races,
    progress_in_words,
)
from keras_lm.runs.race_config import RACE_FILE, RaceConfig, parse_values
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder
from keras_lm.storage.run_names import new_run_id

TINY = RunConfig(
    ModelConfig(0, 7, d_model=6, num_heads=1, num_blocks=1, ffn_dim=5),
    DataConfig("alice"),
    TrainingConfig(steps=3, batch_size=2, sample_every=0, checkpoint_every=0),
)
NORMS = RaceConfig(TINY, "norm", ("rmsnorm", "layernorm"), (1, 2))


@pytest.fixture
def launched(monkeypatch):
    """What the supervisor would have started, as (command, run id)."""
    done = []

    def launch(_, folder, command, *flags):
        done.append((command, folder.run_id))

    monkeypatch.setattr(Supervisor, "_launch", launch)
    return done


@pytest.fixture
def race(tmp_path, launched):
    race = Race(tmp_path / "race", Supervisor(tmp_path / "race"))
    race.create(NORMS)
    return race


def finish(race: Race, entry: str, seed: int, bits: float, **further: float) -> None:
    """Ends a run with a loss that is `bits` per byte, and with what else it has measured."""
    (run,) = [run for run in race.runs() if (run.entry, run.seed) == (entry, seed)]
    folder = race.supervisor.folder(run.run_id)
    event = {"kind": "metrics", "step": 3, "tokens": 300, "seconds": 9.0, "train_seconds": 3.0}
    event |= {"loss": 1.0, "val_loss": bits * math.log(2), "val_bits_per_byte": bits}
    folder.append_event(event | {"memory_mb": 500.0 + seed} | further)
    folder.write_status(state=run_folder.FINISHED, step=3, steps=3, parameters=123)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setting": "colour"}, "A race can vary one of context_length, .*, but got 'colour'"),
        ({"setting": "seed"}, "but got 'seed'"),
        ({"setting": "data"}, "but got 'data'"),
        ({"values": ("rmsnorm",)}, "needs 2 to 6 different values of norm, but got 'rmsnorm'"),
        ({"values": ("rmsnorm", "rmsnorm")}, "different values"),
        ({"values": ("rmsnorm", "batchnorm")}, "norm must be one of"),
        ({"values": ([1], {})}, "norm must be text, but got"),
        ({"setting": "num_blocks", "values": (1, "2")}, "num_blocks must be a whole number"),
        ({"seeds": ()}, "needs 1 to 20 different seeds"),
        ({"seeds": (1, 1)}, "different seeds"),
        ({"setting": "num_heads", "values": (1, 4)}, "d_model must be a multiple of num_heads"),
    ],
)
def test_what_cannot_be_raced_is_refused_in_a_sentence(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(NORMS, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setting": "sample_prompt", "values": ("a", "b")}, "cannot vary sample_prompt: it cha"),
        ({"setting": "steps", "values": (1, 2)}, "cannot vary steps: all runs have the same budg"),
        ({"setting": "strategy", "values": ("none", "multi-worker")}, "choose none or mirrored"),
        (
            {"base": dataclasses.replace(TINY, data=DataConfig("alice", validation_fraction=0.0))},
            "validation_fraction must be above 0 for a race",
        ),
    ],
)
def test_a_new_race_compares_something_and_an_old_one_is_read(change, message, race, launched):
    config = dataclasses.replace(NORMS, **change)
    new = Race(race.path.parent / "new", race.supervisor)
    with pytest.raises(ConfigError, match=message):
        new.create(config)
    assert not new.path.exists()
    race.create(config)  # as an earlier version made it
    assert race.read() == config


@pytest.mark.parametrize(
    ("setting", "values", "message"),
    [
        ("tokenizer", ("char", "bpe", "gpt2"), "but char and bpe give the same with Task: copy"),
        ("context_length", (16, 32), "but 16 and 32 give the same"),
        ("task_length", (6, 12), "A race can vary one of .* but got 'task_length'"),
        ("task_test_length", (6, 12), "but got 'task_test_length'"),
    ],
)
def test_of_a_task_nothing_is_raced_that_changes_nothing_or_the_question(setting, values, message):
    base = dataclasses.replace(TINY, data=DataConfig("task:copy"))
    with pytest.raises(ConfigError, match=message):
        RaceConfig(base, setting, values, (1, 2))


def test_entries_differ_in_one_setting_and_runs_of_an_entry_in_the_seed():
    config = NORMS.config_of("layernorm", 2)
    assert config.model == dataclasses.replace(TINY.model, norm="layernorm")
    assert config.training == dataclasses.replace(TINY.training, seed=2)
    assert RaceConfig.from_dict(json.loads(json.dumps(NORMS.to_dict()))) == NORMS


@pytest.mark.parametrize(
    ("setting", "words", "values"),
    [
        ("learning_rate", ["1e-3", "2"], (0.001, 2.0)),
        ("num_blocks", ["1", "2"], (1, 2)),
        ("qk_norm", ["true", "False"], (True, False)),
        ("norm", ["a", "b"], ("a", "b")),
    ],
)
def test_words_become_values_of_the_settings_own_type(setting, words, values):
    assert parse_values(setting, words) == values


@pytest.mark.parametrize(("setting", "word"), [("num_blocks", "x"), ("qk_norm", "2")])
def test_words_that_are_no_values_are_refused(setting, word):
    with pytest.raises(ConfigError, match=f"The values of {setting} must be .*, but got '{word}'"):
        parse_values(setting, [word])


def test_every_run_is_started_once_seed_by_seed(race, launched):
    race.go_on()
    race.go_on()
    runs = race.runs()
    assert [(run.entry, run.seed) for run in runs] == [
        ("norm=rmsnorm", 1),
        ("norm=layernorm", 1),
        ("norm=rmsnorm", 2),
        ("norm=layernorm", 2),
    ]
    assert launched == [("train", run.run_id) for run in runs]
    for run in runs:
        value = run.entry.partition("=")[2]
        assert run.summary.config == NORMS.config_of(value, run.seed)
    rows = json.loads((race.path / RACE_FILE).read_text())["runs"]
    assert {(race.path / row["folder"]).resolve() for row in rows} == {
        race.supervisor.folder(run.run_id).path.resolve() for run in runs
    }


def test_a_race_that_was_killed_while_it_started_loses_no_run(race, launched, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    race.go_on()
    path = race.path / RACE_FILE
    data = json.loads(path.read_text())
    del data["runs"][2:]
    path.write_text(json.dumps(data))
    monkeypatch.setattr(Supervisor, "start", killed)
    with pytest.raises(KeyboardInterrupt):
        race.go_on()  # the id of the third is written, its folder is not there
    monkeypatch.undo()
    monkeypatch.setattr(Supervisor, "_launch", lambda *_: None)
    assert len(race.runs()) == 4 and race.runs()[2].run_id and not race.runs()[2].summary
    known = race.runs()[2].run_id
    race.go_on()
    assert race.runs()[2].run_id == known and all(run.summary for run in race.runs())


def test_a_race_is_one_owner_and_stays_it_when_it_goes_on(race, launched):
    """So nobody waits for more than one of its runs, while each of its runs has its own turn."""
    race.go_on()
    found = [run.summary.status for run in race.runs()]
    assert {status["owner"] for status in found} == {f"race {race.path.name}"}
    assert [status["turn"] for status in found] == [0.0, 1.0, 2.0, 3.0]
    alone = race.supervisor.start(race.read().base, owner="somebody")
    assert race.supervisor.summary(alone).status["turn"] == 0.0
    first = race.runs()[0]
    race.supervisor.folder(first.run_id).write_status(state="stopped")
    race.supervisor._children.clear()
    race.go_on()
    status = race.runs()[0].summary.status
    assert (status["owner"], status["turn"]) == (f"race {race.path.name}", 4.0)


def test_more_seeds_can_be_given_later(race, launched):
    race.go_on()
    before = race.runs()
    race.create(race.read().with_seeds([2, 7]))
    race.go_on()
    assert [run.run_id for run in race.runs()][:4] == [run.run_id for run in before]
    assert [run.seed for run in race.runs()][4:] == [7, 7] and len(launched) == 6


@pytest.mark.parametrize(
    ("state", "again"),
    [("interrupted", True), ("paused", True), ("stopped", True), ("failed", False)],
)
def test_what_was_stopped_or_interrupted_goes_on_and_what_failed_stays(
    race, launched, state, again
):
    race.go_on()
    for run in race.runs():
        race.supervisor.folder(run.run_id).write_status(state=state, message="x")
    race.supervisor._children.clear()
    del launched[:]
    race.go_on()
    assert [command for command, _ in launched] == ["resume"] * 4 * again


def test_the_result_is_what_the_events_say(race):
    race.go_on()
    assert not race.is_over
    for seed, (rms, layer) in {1: (2.0, 2.1), 2: (2.2, 2.3)}.items():
        finish(race, "norm=rmsnorm", seed, rms)
        finish(race, "norm=layernorm", seed, layer)
    result = race.write_result()
    assert result == json.loads((race.path / RESULT_FILE).read_text()) and race.is_over
    rms, layer = result["entries"]
    assert (rms["name"], rms["runs"], rms["parameters"]) == ("norm=rmsnorm", 2, 123)
    assert rms["bits_per_byte"] == pytest.approx({"mean": 2.1, "sd": 0.02**0.5})
    assert rms["val_loss"]["mean"] == pytest.approx(2.1 * math.log(2))
    assert (rms["seconds"], rms["tokens_per_second"], rms["memory_mb"]) == (9.0, 100.0, 501.5)
    (pair,) = result["pairs"]
    assert (pair["a"], pair["b"], pair["verdict"]) == ("norm=rmsnorm", "norm=layernorm", "worse")
    assert pair["difference"] == pytest.approx(0.1)
    assert result["summary"].startswith("norm=rmsnorm is best: 0.100 bits per byte less")


def test_of_a_task_the_exact_answers_are_in_the_table(race):
    race.go_on()
    for seed, right in {1: 0.5, 2: 0.7}.items():
        finish(race, "norm=rmsnorm", seed, 2.0, task_accuracy=right)
        finish(race, "norm=layernorm", seed, 2.0)
    entries = race.result()["entries"]
    assert entries[0]["task_accuracy"]["mean"] == pytest.approx(0.6)
    assert list(result_table(entries)["Exact answers"]) == ["60.0% ± 14.1%", "–"]
    assert "Exact answers" not in result_table(entries[1:])


def test_progress_says_which_run_trains_and_what_did_not_finish(race):
    assert progress_in_words(race.runs()) == "0 of 4 runs finished"
    race.go_on()
    finish(race, "norm=rmsnorm", 1, 2.0)
    states = (run_folder.TRAINING, run_folder.INTERRUPTED, run_folder.FAILED)
    for run, state in zip(race.runs()[1:], states, strict=True):
        race.supervisor.folder(run.run_id).write_status(state=state, step=1_200, message="x")
    counts = "1 of 4 runs finished, 1 failed, 1 interrupted"
    assert count_in_words(race.runs()) == counts
    assert progress_in_words(race.runs()) == f"{counts}; norm=layernorm, seed 1: step 1,200"
    starting = race.supervisor.folder(race.runs()[1].run_id)
    starting.write_status(state=run_folder.PREPARING, step=0)
    assert progress_in_words(race.runs()) == f"{counts}; norm=layernorm, seed 1: preparing"


def test_curves_are_in_the_order_of_the_entries_with_the_solid_one_below(race):
    race.go_on()
    for entry, bits in (("norm=layernorm", 2.0), ("norm=rmsnorm", 2.1)):
        finish(race, entry, 1, bits)
    begun = [(run, race.supervisor.folder(run.run_id)) for run in race.runs()]
    table = race_table(begun, MEASURES[VALIDATION])
    assert [*table["entry"]] == ["norm=rmsnorm", "norm=layernorm"]
    assert [*compared_table(table, ChartOptions(smoothing=0))["curve"]] == [*table["entry"]]


def test_the_last_points_of_runs_that_ended_by_the_clock_are_one(race):
    race.create(NORMS.with_seeds([3]))
    race.go_on()
    for seed, last in ((1, 90), (2, 99), (3, 102)):
        (run,) = [r for r in race.runs() if (r.entry, r.seed) == ("norm=rmsnorm", seed)]
        folder = race.supervisor.folder(run.run_id)
        for step in (50, last):
            event = {"kind": "metrics", "step": step, "tokens": step, "seconds": step / 10}
            event |= {"train_seconds": 1.0, "loss": 1.0, "val_loss": 1.0}
            folder.append_event(event | {"val_bits_per_byte": seed + step / 100})
        folder.write_status(state=run_folder.FINISHED, step=last, steps=last)
    begun = [(run, race.supervisor.folder(run.run_id)) for run in race.runs()]
    table = race_table(begun, MEASURES[VALIDATION])
    assert [*table["step"]] == [50, 97] and [*table["seeds"]] == [3, 3]
    assert table["mean"].iloc[-1] == pytest.approx(2.97)


def test_a_run_that_failed_is_reported_and_the_rest_counts(race):
    race.go_on()
    for seed in (1, 2):
        finish(race, "norm=rmsnorm", seed, 2.0)
    finish(race, "norm=layernorm", 1, 2.1)
    folder = race.supervisor.folder(race.runs()[-1].run_id)
    folder.write_status(state=run_folder.FAILED, message="The loss became nan.")
    result = race.result()
    assert result["entries"][1]["failed"] == ["seed 2: The loss became nan."]
    assert (result["pairs"][0]["verdict"], result["pairs"][0]["low"]) == ("too few seeds", None)
    assert race.is_over


@pytest.mark.parametrize(
    ("state", "message", "failure", "reason"),
    [
        ("failed", "The loss became nan.", "The loss became nan.", "The loss became nan."),
        ("interrupted", "It was killed. Go on.", "It was killed. Go on.", "It was killed."),
        ("paused", "It is full. Make room.", "It is full. Make room.", "It is full."),
        ("stopped", "", "stopped", "stopped"),
        ("failed", "x" * 1_900, "x" * 1_900, "x" * (LONGEST_REASON - len("seed 1: "))),
        ("queued", "Waiting.", "", ""),
        ("training", "", "", ""),
        ("finished", "Done.", "", ""),
    ],
)
def test_a_run_that_ended_otherwise_has_its_reason_in_one_line(
    race, state, message, failure, reason
):
    race.go_on()
    run = race.runs()[0]
    race.supervisor.folder(run.run_id).write_status(state=state, message=message)
    run = race.runs()[0]
    assert run.failure == (f"seed 1: {failure}" if failure else "")
    assert run.reason == (f"norm=rmsnorm, seed 1: {reason}" if reason else "")
    assert race.result()["entries"][0]["failed"] == ([run.failure] if failure else [])


@pytest.mark.parametrize("folder", ["race", f"{RACES}/20260101-000000"])
def test_the_run_that_ends_last_writes_the_result(tmp_path, launched, folder):
    path = tmp_path / folder
    root = path if folder == "race" else tmp_path
    race = Race(path, Supervisor(root))
    race.create(NORMS)
    (root / RACES / "damaged").mkdir(parents=True, exist_ok=True)
    (root / RACES / "damaged" / RACE_FILE).write_text("{")
    race.go_on()
    *others, last = race.runs()
    for run in others:
        finish(race, run.entry, run.seed, 2.0)
        finish_races(race.supervisor.folder(run.run_id))
    assert not (path / RESULT_FILE).exists()
    stranger = RunFolder(root / new_run_id())
    stranger.create()
    race.supervisor.folder(last.run_id).write_status(state="failed", message="It is full.")
    finish_races(stranger)
    assert not (path / RESULT_FILE).exists()
    finish_races(race.supervisor.folder(last.run_id))
    assert json.loads((path / RESULT_FILE).read_text()) == race.result()


@pytest.mark.parametrize("content", ["[]", "{}", '{"vary": {}, "seeds": [], "config": {}}', "{"])
def test_a_damaged_race_is_a_sentence(race, content):
    (race.path / RACE_FILE).write_text(content)
    for read in (race.read, race.runs, race.result):
        with pytest.raises(ValueError, match=RACE_FILE):
            read()
