"""Runs whose files anybody may have damaged: listed as that, while everything else works."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from keras_lm.presentation import charts, formatting
from keras_lm.presentation.course import describe_course
from keras_lm.presentation.diagnosis import diagnose
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.events import MOST_LONG_BYTES
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.paths import RUNS_VARIABLE
from keras_lm.training.checkpoint import latest_checkpoint, save_checkpoint
from keras_lm.ui.parts import dashboard
from keras_lm.ui.reach import STYLED

PAGE = Path(__file__).parents[1] / "streamlit_app.py"
COUNT = 300
SHOWN = 20  # of them, in the page
PATIENCE = 1.0  # seconds of a processor, whatever else runs on the machine
SOUND = ("20260101-000000-aaaaaa", "20260103-000000-cccccc")
DAMAGED = "20260102-000000-bbbbbb"
ODD_VALUES = (
    *(None, True, -1, 0, 1, 0.5, 1e308, -1e308, 2**63, 10**400, -(10**400), 4e9, 1e300),
    *(float("nan"), float("inf"), "", "x", "\ud800", "a\x00b", "x" * 5000, "queued", "training"),
    *([], {}, [[]], {"a": [1]}, "metrics", "sample", "note"),
)


def make_run(root: Path, run_id: str) -> RunFolder:
    """A finished run as the trainer leaves it."""
    folder = RunFolder(root / run_id)
    folder.create()
    folder.write_config(QUICK_START.with_vocab_size(65).to_dict())
    folder.lock_file.touch()
    for file in (folder.log_file, folder.model_file, folder.tokenizer_file):
        file.write_bytes(b"some bytes\n")
    folder.write_status(
        state="finished",
        message="",
        step=40,
        steps=40,
        pid=1,
        pid_started=1.5,
        queued_at=time.time(),
        vocab_size=65,
        unigram_entropy=3.1,
    )
    for step in range(1, 41):
        event = {"kind": "metrics", "step": step, "tokens": 9 * step, "loss": 4.0 - step / 40}
        event |= {"seconds": 2.0 + step, "train_seconds": 1.0 * step, "perplexity": 9.5}
        event |= {"accuracy": 0.4, "tokens_per_second": 9.0, "learning_rate": 0.1, "memory_mb": 7.5}
        folder.append_event(event | ({"val_loss": 3.0, "val_perplexity": 8.0} if step > 36 else {}))
    folder.append_event({"kind": "sample", "step": 40, "prompt": "The", "text": " man"})
    folder.append_event({"kind": "note", "step": 40, "message": "It went back."})
    folder.request("stop")
    folder.write_notes(name="Small", note="It works.", starred=True)
    save_checkpoint(folder.checkpoints, 40, [[1.0, 2.0]], {"val_loss": 3.0})
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("template")
    return make_run(root, DAMAGED)


def odd_value(path: Path, chance: random.Random) -> None:
    """Another value in some field of some line; json.dumps writes NaN and lone halves as well."""
    lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
    index = chance.randrange(len(lines))
    value = json.loads(lines[index])
    part = value[chance.choice(["model", "data", "training"])] if "schema" in value else value
    part[chance.choice([*part])] = chance.choice(ODD_VALUES)
    lines[index] = json.dumps(value).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")


def cut(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def other(content: bytes):
    return lambda path, _: path.write_bytes(content)


def instead(make):
    def replace(path: Path, _) -> None:
        path.unlink()
        make(path)

    return replace


HARMS = (
    *[odd_value] * 12,
    *[cut] * 2,
    *[flip] * 2,
    lambda path, chance: path.write_bytes(chance.randbytes(300)),
    other(b"[" * 100_000 + b"]" * 100_000 + b"\n"),
    other(b'{"a": ' * 100_000 + b"1" + b"}" * 100_000 + b"\n"),
    other('{"state": "finished"}'.encode("utf-16")),
    *map(other, (b"", b"\0\n", b"null\n", b"[1]\n", b'"x"\n', b"1" * 5000 + b"\n", b"{}\n" * 999)),
    instead(lambda path: None),
    instead(Path.mkdir),
    instead(os.mkfifo),
    instead(lambda path: path.symlink_to(path)),
    instead(lambda path: path.symlink_to("nowhere")),
    instead(lambda path: path.symlink_to("/dev/zero")),
    lambda path, _: os.truncate(path, 2**30),  # zeros that the disk does not hold
)
HARMED = ["config_file", "status_file", "events_file"] * 3
HARMED += ["control_file", "log_file", "model_file", "tokenizer_file", *["notes_file"] * 2]


def damage(folder: RunFolder, seed: int) -> str:
    """Harms one to three files of a run; returns what it did."""
    chance, done = random.Random(seed), []
    for name in sorted({chance.choice(HARMED) for _ in range(chance.randint(1, 3))}):
        harm, path = chance.choice(HARMS), getattr(folder, name)
        harm = cut if harm is odd_value and path.suffix not in (".json", ".jsonl") else harm
        if path == folder.tokenizer_file and harm is odd_value:
            harm = cut
        harm(path, chance)
        done.append(f"{name}: {getattr(harm, '__name__', harm)}")
    return ", ".join(done)


def look(supervisor: Supervisor) -> None:
    """All that the page makes of the runs before it draws anything."""
    summaries = supervisor.summaries()
    formatting.label_runs(summaries)
    sound = [summary for summary in summaries if summary.run_id in SOUND]
    assert [summary.damage for summary in sound] == ["", ""]
    for summary in (summary for summary in summaries if summary not in sound):
        folder = supervisor.folder(summary.run_id)
        events, _ = folder.read_events()
        frame = charts.metrics_frame(events)
        if (left := dashboard.seconds_left(summary.status, events)) is not None:
            formatting.show_seconds(max(0.0, left))
        describe_course(summary.config, summary.status, events)
        diagnose(summary.config, summary.status, events)
        if not frame.empty:
            charts.loss_table(frame, {})
            for columns, *_ in dashboard.CURVES.values():
                charts.curve_table(frame, columns)
        _ = folder.log_tail(), folder.has_checkpoint, folder.has_model, folder.other_names()


def test_no_damage_of_a_run_harms_the_list_or_another_run(tmp_path, template):
    for run_id in SOUND:
        make_run(tmp_path, run_id)
    listed = explained = 0
    for seed in range(COUNT):
        supervisor = Supervisor(tmp_path)
        folder = RunFolder(tmp_path / DAMAGED)
        shutil.copytree(template.path, folder.path)
        done = damage(folder, seed)
        begin = time.process_time()
        try:
            look(supervisor)
            summary = supervisor.summary(DAMAGED)
            listed += summary is not None
            explained += bool(summary and summary.damage)
            supervisor.delete(DAMAGED)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {done}") from error
        assert time.process_time() - begin < PATIENCE, f"seed {seed}: {done}"
        assert supervisor.summary(DAMAGED) is None, f"seed {seed}: {done}"
        shutil.rmtree(folder.path, ignore_errors=True)  # what was put in place of our files
    assert listed == COUNT and explained > COUNT // 2


def test_the_page_shows_damaged_runs_without_an_exception(tmp_path, template, monkeypatch):
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    st.cache_resource.clear()
    make_run(tmp_path, SOUND[0])
    folder = RunFolder(tmp_path / DAMAGED)
    for seed in range(SHOWN):
        shutil.copytree(template.path, folder.path)
        done = damage(folder, seed)
        page = AppTest.from_file(PAGE, default_timeout=60)
        page.session_state[STYLED] = True
        page.query_params["run"] = DAMAGED
        page.run()
        assert not page.exception, f"seed {seed}: {done}: {page.exception[0].message}"
        summary = Supervisor(tmp_path).summary(DAMAGED)
        shown = any("This run is damaged" in error.value for error in page.error)
        assert shown == bool(summary.damage), f"seed {seed}: {done}"
        shutil.rmtree(folder.path)
    st.cache_resource.clear()


STATUSES = {
    '{"state": "finished", "steps": "x"}': r"steps must be a whole number from 1, but got 'x'",
    '{"state": "done"}': "state must be one of queued, .*, but got 'done'",
    '{"state": "failed", "message": 5}': "message must be text, but got 5",
    '{"state": "failed", "message": "\\ud800"}': "message must be text",
    '{"state": "paused", "step": -1}': "step must be a whole number from 0, but got -1",
    '{"state": "paused", "step": true}': "step must be a whole number from 0, but got True",
    f'{{"state": "paused", "step": {10**400}}}': "step must be a whole number from 0",
    '{"state": "paused", "heartbeat": NaN}': "must be JSON, but NaN is not a JSON number",
    '{"state": "paused", "steps": null}': "steps must be a whole number from 1, but got null",
    "[" * 100_000: "must be JSON, but its values are nested too deeply",
    "[]": "must be a JSON object, but got a list",
    "{}": "must have a state",
    " " * 2**21: "must have at most 1,048,576 bytes",
}


@pytest.mark.parametrize("content", STATUSES, ids=lambda content: content[:30])
def test_a_damaged_status_is_told_and_the_run_can_be_deleted(tmp_path, content):
    folder = make_run(tmp_path, DAMAGED)
    folder.status_file.write_text(content)
    summary = Supervisor(tmp_path).summary(DAMAGED)
    assert "status.json" in summary.damage
    assert re.search(STATUSES[content], summary.damage), summary.damage
    assert formatting.label_runs([summary])[DAMAGED].endswith("damaged")
    Supervisor(tmp_path).delete(DAMAGED)
    assert os.listdir(tmp_path) == []


def test_a_run_with_a_damaged_config_is_not_resumed(tmp_path):
    folder = make_run(tmp_path, DAMAGED)
    folder.write_status(state="stopped")
    folder.config_file.write_text('{"schema": 1')
    before = folder.status_file.read_bytes()
    with pytest.raises(ValueError, match="config.json must be JSON, but "):
        Supervisor(tmp_path).resume(DAMAGED)
    words = [sys.executable, "-m", "keras_lm", "resume", "--run-dir", str(folder.path)]
    process = subprocess.run(words, cwd=PAGE.parent, capture_output=True, text=True)
    assert process.returncode == 2 and process.stderr.startswith("config.json must be JSON, but ")
    assert folder.status_file.read_bytes() == before


def test_a_heartbeat_from_the_future_keeps_no_run_alive(tmp_path):
    folder = make_run(tmp_path, DAMAGED)
    folder.status_file.write_text(json.dumps({"state": "queued", "heartbeat": time.time() + 1e6}))
    assert not Supervisor(tmp_path).summary(DAMAGED).is_active


def test_events_that_do_not_fit_are_left_out_with_one_note(tmp_path):
    folder = make_run(tmp_path, DAMAGED)
    events, offset = folder.read_events()
    for event in (
        {"kind": "metrics", "step": 41, "seconds": 1.0, "train_seconds": 1.0},
        {"kind": "metrics", "step": 0, "loss": 1.0, "seconds": 1.0, "train_seconds": 1.0},
        {"kind": "sample", "step": "x", "prompt": "", "text": ""},
        {"kind": "sample", "step": 1, "prompt": "", "text": "\ud800"},
        {"kind": "note", "step": 1},
        {"kind": 5},
    ):
        folder.append_event(event)
    later = {"kind": "of a later version", "step": 3, "more": [1]}
    folder.append_event(later)
    (kept, note), _ = folder.read_events(offset)
    assert kept == later and note["kind"] == "note"
    assert note["message"] == (
        "Lines of events.jsonl left out: 6; the first: metrics must have tokens, but there is none."
    )
    folder.truncate_events(last_step=39)
    assert folder.read_events()[0] == [*events[:39], later]


def test_a_long_curve_is_read_quickly_and_drawn_thinned(tmp_path):
    folder = make_run(tmp_path, DAMAGED)
    line = folder.events_file.read_bytes().splitlines()[39] + b"\n"
    folder.events_file.write_bytes(line * 100_000)
    begin = time.process_time()
    events, _ = folder.read_events()
    assert len(events) == 100_000
    assert 400 <= len(charts.metrics_frame(events)) <= 2 * charts.MAX_POINTS + 1
    assert time.process_time() - begin < 5  # usually one


@pytest.mark.parametrize("name", ["state.npz", "position.json", "MANIFEST.json"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)])
def test_a_checkpoint_with_something_in_place_of_a_file_is_damaged(tmp_path, name, make):
    folder = make_run(tmp_path, DAMAGED)
    path = folder.checkpoints / "step-00000040" / name
    path.unlink()
    make(path)
    assert latest_checkpoint(folder.checkpoints) == (None, [40])


def test_a_long_message_is_cut_and_a_point_without_tokens_is_left_out(tmp_path):
    folder = make_run(tmp_path, "20260102-000000-bbbbbb")
    folder.write_status(message="x" * 900_000)
    assert folder.read_status()["message"] == "x" * 2_000
    events, _ = folder.read_events()
    point = {"kind": "metrics", "step": 10, "loss": 1.0, "seconds": 1.0, "train_seconds": 1.0}
    folder.append_event(point)
    folder.append_event({"kind": "note", "step": 10, "message": "y" * 2_001})
    added = folder.read_events()[0][len(events) :]
    assert [event["kind"] for event in added] == ["note", "note"]
    assert added[0]["message"] == "y" * 2_000 and "must have tokens" in added[1]["message"]


@pytest.mark.parametrize("value", ["[]", "1", '"a"'])
def test_of_lines_of_megabytes_only_so_many_are_read_as_take_little_time(tmp_path, value):
    folder = make_run(tmp_path, DAMAGED)
    first, last = folder.read_events()[0][0], {"kind": "note", "step": 2, "message": "the last"}
    values = ", ".join([value] * 800_000)
    line = f'{{"kind": "note", "step": 1, "message": "x", "all": [{values}]}}\n'
    with open(folder.events_file, "a") as file:
        file.writelines(line for _ in range(20))
    folder.append_event(last)
    *events, note = folder.read_events()[0]
    assert first in events and last in events
    kept = sum("all" in event for event in events)
    assert kept == MOST_LONG_BYTES // len(line) < 20
    assert f"left out: {20 - kept}; the first: of lines above" in note["message"]
    assert sum("all" in event for event in folder.read_thinned(20)) == kept
