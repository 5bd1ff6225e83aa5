"""The table of all runs, and several runs compared."""

import dataclasses
import io
import json

import pandas as pd
import pytest

from keras_lm.presentation.runs_table import (
    ALL,
    DRAWN_POINTS,
    STARRED,
    as_csv,
    as_lines,
    differing_settings,
    filters,
    last_samples,
    overlaid,
    run_row,
    runs_table,
    short_names,
)
from keras_lm.runs.supervisor import RunSummary
from keras_lm.settings.presets import ORIGINAL, QUICK_START


def summary(run_id: str, config=QUICK_START, **status) -> RunSummary:
    return RunSummary(run_id, "finished", config, {"step": 20, **status})


def events(*losses: float) -> list[dict]:
    points = [
        {"kind": "metrics", "step": 10 * n, "tokens": 100 * n, "seconds": 9.0 + n, "loss": loss}
        | {"train_seconds": 2.0 * n, "val_loss": loss + 1, "val_bits_per_byte": loss * 2}
        for n, loss in enumerate(losses, 1)
    ]
    return [{"kind": "note", "message": "x"}, *points]


def test_a_row_says_what_the_events_say():
    row = run_row(summary("a"), events(3.0, 1.0, 2.0))
    assert row["best_val_loss"] == 2.0 and row["last_val_loss"] == 3.0
    assert row["bits_per_byte"] == 4.0 and row["tokens_per_second"] == 50.0
    assert row["curve"] == [3.0, 1.0, 2.0] and row["seconds"] == 12.0
    assert (row["text"], row["settings"]) == ("Sense and Sensibility", "Quick start")


def test_a_row_of_a_run_that_has_nothing_yet_is_empty_and_a_damaged_one_says_so():
    row = run_row(RunSummary("a", "queued", None, {}, "It is damaged."), [])
    assert row["state"] == "damaged" and row["settings"] == "unreadable" and row["curve"] == []
    assert row["best_val_loss"] is row["seconds"] is row["tokens_per_second"] is None


def test_a_search_finds_runs_that_have_every_word():
    rows = [run_row(summary("first"), []), run_row(summary("second", ORIGINAL), [])]
    assert runs_table(rows, "")["Run"].tolist() == ["first", "second"]
    assert runs_table(rows, "ORIGINAL fini")["Run"].tolist() == ["second"]
    assert runs_table(rows, "original first")["Run"].tolist() == []


def test_a_filter_finds_starred_runs_and_those_of_a_state():
    runs = [summary("first"), summary("second")]
    runs.append(RunSummary("third", "failed", QUICK_START, {}, "", {"starred": True}))
    rows = [run_row(run, []) for run in runs]
    assert filters(rows) == [ALL, STARRED, "Failed", "Finished"]
    assert runs_table(rows, only=STARRED)["Run"].tolist() == ["third"]
    assert runs_table(rows, "second", "Finished")["Run"].tolist() == ["second"]
    assert runs_table(rows, "second", "Failed")["Run"].tolist() == []
    assert len(runs_table(rows, only=ALL)) == 3


def sample(step: int, prompt: str) -> dict:
    return {"kind": "sample", "step": step, "prompt": prompt, "text": "..."}


def test_samples_are_the_last_of_a_prompt_that_all_runs_have():
    common, other = sample(3, "The"), sample(9, "A")
    found = {"a": [sample(1, "The"), common, other], "b": [sample(2, "The")], "c": []}
    assert last_samples(found) == ("The", {"a": common, "b": sample(2, "The"), "c": None})
    both = {"a": found["a"], "b": [other, sample(2, "The")]}
    assert last_samples(both) == ("A", {"a": other, "b": other})  # the newest of the first run
    apart = {"a": [common], "b": [other]}
    assert last_samples(apart) == (None, {"a": common, "b": other})
    assert last_samples({"a": [], "b": []}) == (None, {"a": None, "b": None})


def test_only_settings_that_differ_are_shown():
    changed = dataclasses.replace(
        QUICK_START, training=dataclasses.replace(QUICK_START.training, steps=7)
    )
    table = differing_settings({"a": QUICK_START, "b": changed})
    assert table.to_dict("index") == {"training.steps": {"a": "1,750", "b": "7"}}
    assert differing_settings({"a": QUICK_START, "b": QUICK_START}).empty
    assert differing_settings({}).empty


def test_curves_and_csv_have_every_point_of_every_run():
    found = {"a": events(3.0, 1.0), "b": events(2.0)}
    table = overlaid(found, "val_bits_per_byte")
    assert table[["entry", "step", "mean"]].values.tolist() == [
        ["a", 10, 6.0],
        ["a", 20, 2.0],
        ["b", 10, 4.0],
    ]
    written = pd.read_csv(io.BytesIO(as_csv(found)))
    assert written["run"].tolist() == ["a", "a", "b"]
    assert written["loss"].tolist() == [3.0, 1.0, 2.0]
    assert [json.loads(line)["run"] for line in as_lines(found).splitlines()] == [*"aaabb"]
    assert overlaid({"a": []}, "loss").empty


def test_a_long_curve_is_drawn_thinned_up_to_its_last_point():
    table = overlaid({"a": events(*[2.0] * 10_000), "b": events(1.0)}, "val_loss")
    assert DRAWN_POINTS <= len(table) <= 2 * DRAWN_POINTS
    assert table.groupby("entry")["step"].max().to_dict() == {"a": 100_000, "b": 10}


def test_names_leave_out_what_all_runs_have_in_common():
    def changed(**changes):
        training = dataclasses.replace(QUICK_START.training, **changes)
        return summary("x", dataclasses.replace(QUICK_START, training=training))

    assert short_names([changed(seed=7), changed(seed=8)]) == ["seed 7", "seed 8"]
    assert short_names([changed(), changed(seed=8)]) == ["Quick start", "Quick start, seed 8"]
    assert short_names([changed(seed=7)]) == ["Sense and Sensibility · Quick start, seed 7"]


def test_names_are_told_apart():
    names = short_names([summary("x"), summary("y"), summary("z", ORIGINAL)])
    assert len(set(names)) == 3 and names[0].endswith("x") and not names[2].endswith("z")


@pytest.mark.parametrize("count", [1, 39, 40, 41, 1_000])
def test_a_small_curve_stays_small(count):
    assert min(count, 40) <= len(run_row(summary("a"), events(*[1.0] * count))["curve"]) < 80
