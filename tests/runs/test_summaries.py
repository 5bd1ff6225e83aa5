"""Summaries of runs: one that has ended is read again only after one of its files changed."""

import json
import os

import pytest

from keras_lm.runs.supervisor import RunSummary, Supervisor
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage import run_folder

RUN = "20260101-000000-abcdef"


@pytest.fixture
def supervisor(tmp_path):
    """With one run that has finished."""
    supervisor = Supervisor(tmp_path)
    folder = supervisor.folder(RUN)
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    folder.lock_file.touch()
    folder.write_status(state=run_folder.FINISHED, step=20, steps=20)
    folder.write_notes(name="First")
    folder.append_event({"kind": "note", "step": 0, "message": "x"})
    return supervisor


def test_an_ended_run_is_the_same_object_until_it_changes(supervisor):
    before = supervisor.summary(RUN)
    assert before.state == run_folder.FINISHED and supervisor.summaries() == [before]
    assert supervisor.summary(RUN) is before is supervisor.summaries()[0]


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda f: f.write_notes(name="Other"), lambda s: s.notes["name"] == "Other"),
        (lambda f: f.write_status(state=run_folder.FAILED), lambda s: s.state == "failed"),
        (lambda f: f.config_file.write_text("{"), lambda s: s.config is None and s.damage),
        (lambda f: f.notes_file.unlink(), lambda s: s.notes == {}),
        (lambda f: f.events_file.unlink(), lambda s: not s.damage),
        (lambda f: f.remove(), lambda s: s is None),
        (lambda f: f.append_event({"kind": "note", "message": "y"}), lambda s: not s.damage),
    ],
    ids=["notes", "status", "config", "no notes", "no events", "removed", "events"],
)
def test_whatever_changes_is_seen_at_once(supervisor, change, shown):
    before = supervisor.summary(RUN)
    change(supervisor.folder(RUN))
    after = supervisor.summary(RUN)
    assert after is not before and shown(after)


def test_a_file_that_was_replaced_by_one_of_the_same_size_and_time_is_seen(supervisor):
    file = supervisor.folder(RUN).notes_file
    before, old = supervisor.summary(RUN), file.stat()
    file.write_text(json.dumps({"name": "Fifth"}))
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert file.stat().st_size == old.st_size and file.stat().st_mtime_ns == old.st_mtime_ns
    assert before.notes["name"] == "First" and supervisor.summary(RUN).notes["name"] == "Fifth"


def test_a_run_that_is_damaged_or_active_is_read_each_time(supervisor):
    folder = supervisor.folder(RUN)
    folder.status_file.write_text("{")
    assert supervisor.summary(RUN) is not supervisor.summary(RUN)
    folder.write_status(state=run_folder.TRAINING, pid=2**31 - 1, pid_started=1.0)  # nobody's
    assert supervisor.summary(RUN).state == run_folder.INTERRUPTED


@pytest.mark.parametrize("notes", ["{", "[]", '{"name": 5, "note": "Kept."}'])
def test_damaged_notes_are_lost_and_the_run_stays_sound(supervisor, notes):
    supervisor.folder(RUN).notes_file.write_text(notes)
    summary = supervisor.summary(RUN)
    assert not summary.damage and summary.state == run_folder.FINISHED
    assert "name" not in summary.notes and ("note" in summary.notes) == ("Kept" in notes)
    assert "run-notes.json" in summary.notes_damage
    supervisor.folder(RUN).write_notes(name="New")
    assert not supervisor.summary(RUN).notes_damage


@pytest.mark.parametrize(
    ("status", "failed"),
    [
        ({"loss": 3.0}, True),
        ({"loss": 2.99}, False),
        ({"loss": 8.08, "best_loss": 2.99}, False),  # it has learned: the best model is kept
        ({"loss": 8.08, "best_loss": 3.0}, True),
        ({"loss": None, "best_loss": None}, False),
        ({"loss": 8.08, "unigram_entropy": 0.0}, False),
        ({"loss": 8.08, "state": "training"}, False),
    ],
)
def test_a_run_failed_to_learn_if_it_was_never_better_than_guessing(status, failed):
    status = {"unigram_entropy": 3.0, "state": "finished"} | status
    assert RunSummary(RUN, status["state"], QUICK_START, status).failed_to_learn == failed
