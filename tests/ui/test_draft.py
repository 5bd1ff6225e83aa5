"""The draft of a run: address and form agree, whatever is in the address."""

import dataclasses
import random

import pytest

from keras_lm.settings.presets import ORIGINAL, PRESETS, QUICK_START, nearest_preset, settings_of
from keras_lm.ui.parts.draft import (
    NO_MODEL,
    PASTE,
    UPLOAD,
    Draft,
    draft_of,
    draft_that_teaches,
    read_address,
)
from keras_lm.ui.parts.fields import all_specs
from keras_lm.ui.services import supervisor

ODD = [
    "",
    " ",
    "nan",
    "-1",
    "1e999",
    "9" * 400,
    "true",
    "Original",
    "\0",
    "<b>",
    "../../etc",
    "0x1",
]


@pytest.mark.parametrize("preset", PRESETS)
def test_an_address_that_names_a_preset_gives_all_its_values(preset):
    for name in (preset, preset.capitalize().replace("-", " ")):
        draft, problems = read_address({"preset": name})
        assert not problems
        assert draft.values == settings_of(PRESETS[preset])
        assert draft.text == PRESETS[preset].data.data


def test_what_is_unknown_or_out_of_range_is_left_out_and_said():
    address = {"preset": "Best", "model.d_model": "banana", "training.steps": "0", "run": "new"}
    address |= {"data.data": "nowhere", "model.no_such": "1", "model.use_bias": "perhaps"}
    draft, problems = read_address(address)
    assert draft == Draft()
    words = " ".join(map(str, problems))
    assert len(problems) == 5
    for word in ("Best".lower(), "d_model", "training.steps", "use_bias", "nowhere"):
        assert word in words


def test_an_address_is_read_back_as_it_was_written():
    changes = {"model.num_blocks": 3, "model.use_bias": False, "training.learning_rate": 1.25e-5}
    draft = Draft("original", text="alice").changed(changes | {"training.sample_prompt": " é &=#"})
    assert read_address(draft.address()) == (draft, [])
    assert Draft().address() == {}


def test_any_address_gives_a_draft_that_its_own_address_gives_again():
    choose = random.Random(5)
    keys = [*all_specs(), "preset", "data.data", "own_text", "own_title", "run"]
    words = [*ODD, *PRESETS, UPLOAD, PASTE, "alice", "12", "0.5", "muon", "linear"]
    for _ in range(500):
        address = {choose.choice(keys): choose.choice(words) for _ in range(choose.randrange(9))}
        draft, _ = read_address(address)
        assert read_address(draft.address()) == (draft, [])


def test_the_nearest_preset_is_the_one_that_least_differs_from():
    assert nearest_preset(ORIGINAL) == ("original", {})
    usual = QUICK_START.training
    for changes in ({"steps": 7}, {"steps": usual.steps}, {"max_tokens": 9}, {"max_seconds": 9.0}):
        changes["seed"] = 3
        config = dataclasses.replace(QUICK_START, training=usual.changed(**changes))
        named = {f"training.{name}": value for name, value in changes.items()}
        assert nearest_preset(config) == ("quick-start", named)


def test_the_model_of_a_task_is_taught_with_its_own_context():
    data = PRESETS["task"].data.changed(data="task:copy")
    config = dataclasses.replace(PRESETS["task"], data=data)
    made = draft_that_teaches("20260101-000000-abcdef", config)
    assert made.values["model.context_length"] == config.model.context_length


@pytest.mark.parametrize("name", ["/nowhere/model.keras", "{runs}/20260101-000000-abcdef/initial"])
def test_a_duplicate_says_that_it_lacks_the_model(name, tmp_path, monkeypatch):
    path = name.format(runs=supervisor().root.absolute())
    data = QUICK_START.data.changed(init_from=path.replace("initial", "initial-model.keras"))
    made, problem = draft_of(dataclasses.replace(QUICK_START, data=data))
    assert not made.initial and problem == NO_MODEL


def test_a_task_s_own_context_is_no_difference_from_its_preset():
    data = PRESETS["task"].data.changed(data="task:copy")
    config = dataclasses.replace(PRESETS["task"], data=data)
    assert config.model.context_length != PRESETS["task"].model.context_length
    assert nearest_preset(config) == ("task", {})


def test_of_steps_and_a_budget_the_one_that_was_set_last_counts():
    usual = Draft().values
    for steps in (usual["training.steps"], 7):
        stepped = Draft().changed({"training.steps": steps})
        assert stepped.values == usual | {"training.steps": steps, "training.max_seconds": 0.0}
        for seconds in (usual["training.max_seconds"], 9.0):
            timed = stepped.changed({"training.max_seconds": seconds})
            assert timed.values == usual | {"training.max_seconds": seconds}
        for each in (stepped, timed):
            config = each.config("alice", "")
            assert settings_of(config) == each.values
            assert draft_of(config)[0].values == each.values


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "There is no file"), (b"caf\xe9 au lait", "is not UTF-8"), (b"", "is empty.")],
    ids=["removed", "another encoding", "emptied"],
)
def test_a_duplicate_says_why_it_lacks_the_text(content, words, tmp_path):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    data = dataclasses.replace(QUICK_START.data, data=str(path))
    made, problem = draft_of(dataclasses.replace(QUICK_START, data=data))
    assert made.text == UPLOAD and not made.own
    assert problem.startswith("The run's text cannot be taken over. ") and words in problem
    assert "Name a" not in problem and "Save it" not in problem
    assert draft_of(QUICK_START)[1] == ""


def test_a_duplicate_of_a_run_on_a_large_text_says_what_to_type(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("words " * 500)
    data = dataclasses.replace(QUICK_START.data, data=str(path), shard_from_mb=0.001)
    made, problem = draft_of(dataclasses.replace(QUICK_START, data=data))
    assert made.text == UPLOAD and not made.own
    assert problem.startswith("The run's text has more than 0.001 MB, which the form does not take")
    assert "type python -m keras_lm train --like RUN --run-dir NEW" in problem
