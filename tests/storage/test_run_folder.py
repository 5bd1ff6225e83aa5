"""The run folder: atomic writes, events in pieces, requests, listing."""

import json
import math
import os
import time

import pytest

from keras_lm.storage import run_folder
from keras_lm.storage.files import DamagedFile, read_json, write_atomically
from keras_lm.storage.records import NAME_LENGTH, NOTE_LENGTH
from keras_lm.storage.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path):
    run = RunFolder(tmp_path / "deep" / "run")
    run.create()
    return run


def refuse(*_, **__):
    raise OSError(28, "No space left on device")


def test_a_write_replaces_the_whole_content(tmp_path):
    path = tmp_path / "file"
    for content in (b"a longer first content", b"", b"short"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_content_is_on_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))
        )
    write_atomically(tmp_path / "file", b"content")
    assert calls[:2] == ["fsync", "replace"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b'{"a": 1} x'])
def test_a_file_that_is_no_json_is_damaged_and_one_that_is_missing_is_none(tmp_path, content):
    path = tmp_path / "file.json"
    if content is None:
        assert read_json(path) is None
        return
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match="^file.json must be JSON, but "):
        read_json(path)


def test_a_byte_that_is_no_utf8_is_named(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(DamagedFile, match="^file.json must be JSON, but its byte 7 is not UTF-8.$"):
        read_json(path)


def test_create_keeps_what_is_there(folder):
    folder.write_config({"schema": 1})
    folder.create()
    assert folder.read_config() == {"schema": 1}


def test_status_merges_and_is_stamped_with_the_time(folder):
    assert folder.read_status() == {}
    before = time.time()
    folder.write_status(state="training", step=3)
    folder.write_status(step=5)
    status = folder.read_status()
    assert before <= status.pop("heartbeat") <= time.time()
    assert status == {"state": "training", "step": 5}


def test_a_damaged_status_is_replaced(folder):
    folder.status_file.write_text("[1]")
    folder.write_status(step=1)
    assert folder.read_status()["step"] == 1


def test_events_come_in_pieces_without_gap_or_repetition(folder):
    assert folder.read_events() == ([], 0)
    events = [{"kind": "mark", "step": step, "text": "é\n\u2028"} for step in range(5)]
    seen, offset = [], 0
    for event in events:
        folder.append_event(event)
        new, offset = folder.read_events(offset)
        seen += new
        assert folder.read_events(offset) == ([], offset)
    assert seen == events
    assert folder.read_events() == (events, folder.events_file.stat().st_size)


def test_a_torn_last_line_waits_until_it_is_whole(folder):
    folder.append_event({"kind": "mark", "step": 1})
    line = json.dumps({"kind": "mark", "step": 2}).encode() + b"\n"
    _, offset = folder.read_events()
    for cut in range(1, len(line)):
        with open(folder.events_file, "ab") as file:
            file.write(line[cut - 1 : cut])
        assert folder.read_events() == ([{"kind": "mark", "step": 1}], offset)
        assert folder.read_events(offset) == ([], offset)
    with open(folder.events_file, "ab") as file:
        file.write(line[-1:])
    assert folder.read_events(offset) == ([{"kind": "mark", "step": 2}], offset + len(line))


@pytest.mark.parametrize("line", [b"{torn", b"[1]", b"1", b"", b"\xff\xfe"])
def test_a_damaged_line_in_the_middle_is_left_out_with_a_note(folder, line):
    folder.append_event({"kind": "mark", "step": 1})
    with open(folder.events_file, "ab") as file:
        file.write(line + b"\n")
    folder.append_event({"kind": "mark", "step": 2})
    (*events, note), _ = folder.read_events()
    assert events == [{"kind": "mark", "step": 1}, {"kind": "mark", "step": 2}]
    assert note["kind"] == "note"
    assert note["message"].startswith("Lines of events.jsonl left out: 1; the first: an event must")


@pytest.mark.parametrize(
    ("last_step", "kept"), [(-1, 0), (0, 1), (9, 1), (10, 3), (11, 3), (20, 4)]
)
def test_truncation_keeps_the_events_up_to_a_step_and_drops_a_torn_line(folder, last_step, kept):
    events = [
        {"kind": "mark", "step": 0},
        {"kind": "mark", "step": 10},
        {"kind": "other", "step": 10},
        {"kind": "mark", "step": 20},
    ]
    for event in events:
        folder.append_event(event)
    with open(folder.events_file, "ab") as file:
        file.write(b'{"step": 1')
    folder.truncate_events(last_step)
    assert folder.read_events() == (events[:kept], folder.events_file.stat().st_size)
    folder.append_event({"kind": "mark", "step": 30})
    assert folder.read_events()[0] == [*events[:kept], {"kind": "mark", "step": 30}]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_event_without_a_json_form_is_refused_and_writes_nothing(folder, value):
    with pytest.raises(ValueError, match="Out of range float"):
        folder.append_event({"loss": value})
    assert folder.read_events() == ([], 0)


@pytest.mark.parametrize("action", run_folder.REQUESTS)
def test_a_request_is_taken_once(folder, action):
    assert folder.take_request() is None
    folder.request(action)
    assert [folder.take_request(), folder.take_request()] == [action, None]


def test_the_last_request_counts(folder):
    folder.request("sample")
    folder.request("stop")
    assert [folder.take_request(), folder.take_request()] == ["stop", None]


@pytest.mark.parametrize("action", ["", "Stop", "kill", None])
def test_an_unknown_request_is_refused(folder, action):
    with pytest.raises(ValueError, match="must be one of stop, .*, down, but got"):
        folder.request(action)
    assert folder.take_request() is None


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'"stop"', b'{"request": "kill"}', b'{"request": []}']
)
def test_a_damaged_request_counts_as_none_and_is_gone(folder, content):
    folder.control_file.write_bytes(content)
    assert folder.take_request() is None
    assert not folder.control_file.exists()


@pytest.mark.parametrize(("size", "seen"), [(0, 0), (9, 9), (10, 10), (11, 10)])
def test_the_log_is_read_from_its_end(folder, size, seen):
    assert folder.log_tail() == ""
    content = "".join(chr(ord("a") + index) for index in range(size))
    folder.log_file.write_text(content)
    assert folder.log_tail(10) == content[size - seen :]


def test_a_log_cut_inside_a_character_is_still_text(folder):
    folder.log_file.write_bytes("éé".encode())
    assert folder.log_tail(3) == "\ufffdé"


def test_notes_are_merged_bounded_and_removed_with_the_run(tmp_path):
    folder = RunFolder(tmp_path / "20260101-000000-abcdef")
    folder.create()
    assert folder.notes_and_damage() == ({}, "")
    folder.write_notes(name="n" * NAME_LENGTH, starred=True)
    folder.write_notes(note="x" * NOTE_LENGTH, starred=False)
    notes = {"name": "n" * NAME_LENGTH, "note": "x" * NOTE_LENGTH, "starred": False}
    assert folder.notes_and_damage() == (notes, "")
    for values in ({"name": "n" * (NAME_LENGTH + 1)}, {"note": "\ud800"}, {"starred": 1}):
        with pytest.raises(ValueError, match=f"{next(iter(values))} must be"):
            folder.write_notes(**values)
    assert folder.notes_and_damage() == (notes, "") and folder.other_names() == []
    folder.remove()
    assert not folder.path.exists()


@pytest.mark.parametrize("content", ["[]", "nonsense", '{"name": 5}', '{"starred": null}'])
def test_damaged_notes_are_left_out_said_and_replaced(tmp_path, content):
    folder = RunFolder(tmp_path)
    folder.notes_file.write_text(content)
    notes, damage = folder.notes_and_damage()
    assert notes == {} and "run-notes.json" in damage
    folder.write_notes(name="New")
    assert folder.notes_and_damage() == ({"name": "New"}, "")


@pytest.mark.parametrize("count", [0, 1, 7, 99, 100, 1_001])
def test_a_long_curve_is_read_thinned_with_every_validation(folder, count):
    needed = {"tokens": 9, "seconds": 1.0, "train_seconds": 1.0, "loss": 2.0}
    note = {"kind": "note", "step": 1, "message": "x"}
    points = [{"kind": "metrics", "step": step, **needed} for step in range(1, count + 1)]
    validated = [point | {"val_loss": 1.0} for point in points[:5]]
    lines = map(json.dumps, [note, *validated, *points])
    folder.events_file.write_text("\n".join([*lines, "damaged", ""]))
    kept = folder.read_thinned(50)
    assert kept[: 1 + len(validated)] == [note, *validated]
    plain = kept[1 + len(validated) :]
    assert min(count, 50) <= len(plain) < 100 and plain[-1:] == points[-1:]
    (*same, note), offset = folder.read_events(about=50)
    assert same == kept and "left out: 1;" in note["message"]
    assert folder.read_events(offset, about=50) == ([], folder.events_file.stat().st_size)


def test_a_file_that_cannot_be_replaced_is_named(folder):
    folder.status_file.mkdir()
    with pytest.raises(OSError) as caught:
        folder.write_status(state="stopped")
    assert caught.value.filename == str(folder.status_file) and caught.value.filename2 is None
