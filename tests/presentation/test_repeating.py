"""Commands that are parsed again give the very settings that they were made from."""

import dataclasses
import shlex

import pytest

from keras_lm.cli import build_parser, new_config
from keras_lm.commands.flags import longer_by
from keras_lm.commands.race import new_race
from keras_lm.presentation.repeating import longer_commands, race_command, train_command
from keras_lm.runs.race_config import RaceConfig, same_start
from keras_lm.settings.config import RunConfig
from keras_lm.settings.longer import Longer
from keras_lm.settings.presets import PRESETS, QUICK_START, nearest_preset
from keras_lm.settings.training_config import MOST_STEPS

TITLES = ['it\'s <b> "x" $HOME `id` \\', "-", "--steps 9", "a\nb", "\u202e مرحبا", " ", "%s"]


def changed(config, text="alice", **training):
    return dataclasses.replace(
        config,
        model=config.model.changed(qk_norm=not config.model.qk_norm, dropout=0.25, vocab_size=0),
        data=config.data.changed(data=text),
        training=config.training.changed(seed=7, learning_rate=1.5e-5, **training),
    )


def parsed(command, name):
    words = shlex.split(command)
    assert words[:2] == ["keras-lm", name]
    return build_parser().parse_args(words[1:])


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_is_repeated_with_what_differs(preset):
    for config in (preset, changed(preset, preset.data.data), preset.with_vocab_size(99)):
        assert new_config(parsed(train_command(config), "train")) == config.with_vocab_size(0)


def test_each_longer_training_is_repeated_to_its_last_planned_end():
    ends = {0: (100, 90), 90: (300, 250), 250: (MOST_STEPS,), 260: (300, 299)}
    events = [{"kind": "metrics", "step": 1, "loss": 1.0}]
    for begin, planned in ends.items():
        events += [{"kind": "plan", "step": begin, "begin": begin, "steps": end} for end in planned]
    events += [
        e | {"begin": 299, "deadline": 9.0, "steps": s} for e in events[-1:] for s in (9, 320)
    ]
    found = [longer_by(parsed(command, "resume")) for command in longer_commands(events)]
    # The second ended where the third began, before it knew its end by itself; that one was ended
    # early by its patience, as it will be again; the last went by the clock.
    assert found == [Longer(160), Longer(10), Longer(39), Longer(21)]


@pytest.mark.parametrize("title", TITLES, ids=range(len(TITLES)))
def test_no_title_or_prompt_is_taken_for_a_flag(title):
    config = changed(QUICK_START, sample_prompt=title)
    config = dataclasses.replace(config, data=config.data.changed(title=title, separator=title))
    assert new_config(parsed(train_command(config), "train")) == config


@pytest.mark.parametrize("text", ["/nowhere/a b.txt\nalice\n/nowhere/it's -x.txt", "moby-dick"])
def test_texts_encodings_and_tokenizers_are_repeated(text):
    config = changed(QUICK_START, text)
    data = config.data.changed(tokenizer="bpe", bpe_size=300, encoding="latin-1")
    config = dataclasses.replace(config, data=data)
    assert new_config(parsed(train_command(config), "train")) == config


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("norm", ("rmsnorm", "layernorm")),
        ("learning_rate", (1e-3, 3.5e-3, 1e-05)),
        ("qk_norm", (True, False)),
        ("num_heads", (1, 2, 4)),
        ("sample_prompt", ("-x", "it's")),
    ],
)
def test_a_race_is_repeated(setting, values):
    race = RaceConfig(same_start(changed(QUICK_START)), setting, values, (5, 2))
    typed = parsed(race_command(race), "race")
    assert new_race(typed, lambda: new_config(typed)) == race


@pytest.mark.parametrize("values", [("a,b", "c"), ("a ", "c"), ("a", ",")])
def test_what_no_command_can_name_has_none(values):
    assert race_command(RaceConfig(QUICK_START, "sample_prompt", values, (1,))) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"text_field": "body"},
        {"text_field": "", "data": "/nowhere/A.JSONL"},  # read as plain text
        {"cut": "tokens"},
        {"shard_from_mb": 10.0},
        {"max_text_mb": 20_000.0},
        {"max_text_mb": 200, "shard_from_mb": 1024},
    ],
    ids=["field", "plain", "cut", "small shards", "large", "memory"],
)
def test_how_a_large_text_is_read_is_repeated(changes):
    config = changed(QUICK_START)
    config = dataclasses.replace(config, data=config.data.changed(**changes))
    assert new_config(parsed(train_command(config), "train")) == config


def test_a_run_of_an_earlier_version_does_not_differ_by_what_it_could_not_set():
    stored = QUICK_START.to_dict()
    del stored["data"]["text_field"], stored["data"]["shard_from_mb"], stored["data"]["cut"]
    assert nearest_preset(RunConfig.from_dict(stored)) == ("quick-start", {})
