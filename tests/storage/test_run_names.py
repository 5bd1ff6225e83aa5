"""Which folders are runs, and their order."""

import os

import pytest

from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import RunFolder
from keras_lm.storage.run_names import is_run_id, list_runs, new_run_id


def test_ids_that_are_made_differ_and_are_ids():
    ids = {new_run_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(map(is_run_id, ids))


@pytest.mark.parametrize("name", ["mine", "7", "Über 2.1 - b_c", "x" * 100])
def test_a_person_may_choose_a_name(name):
    assert is_run_id(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".mine", "../mine", "a/b", "a\\b", "-a", "a\n", "a\0", "x" * 101]
)
def test_no_path_and_nothing_hidden_is_an_id(name):
    assert not is_run_id(name)


def test_listing_ignores_what_is_no_run_and_sorts_newest_first(tmp_path):
    names = ["20260131-093000-1f2e3d", "20251231-235959-ffffff", "20260131-093001-000000"]
    others = ["notes", ".partial", "20260131-093000", "x20260131-093000-1f2e3d", "2026"]
    for name in names + others:
        (tmp_path / name).mkdir()
    (tmp_path / "20270131-093000-1f2e3d").write_text("a file")
    (tmp_path / "a file").write_text("of somebody")
    assert [run.run_id for run in list_runs(tmp_path)] == [names[2], names[0], names[1]]
    assert list_runs(tmp_path / "missing") == []


def test_a_run_with_a_name_of_its_own_has_its_place_by_when_it_was_made(tmp_path):
    for name in ("20200101-000000-ffffff", "20990101-000000-000000"):
        (tmp_path / name).mkdir()
    mine, foreign = RunFolder(tmp_path / "mine"), RunFolder(tmp_path / "theirs")
    for folder in (mine, foreign):
        folder.create()
        folder.config_file.write_text("{}")
    mine.write_config(QUICK_START.to_dict())
    mine.write_status(state="finished")
    listed = [run.run_id for run in list_runs(tmp_path)]
    assert listed == ["20990101-000000-000000", "mine", "20200101-000000-ffffff"]
    os.utime(mine.config_file, (0.0, 0.0))
    assert list_runs(tmp_path)[-1].run_id == "mine"
