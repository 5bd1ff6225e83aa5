"""Reports: self-contained, to the letter, and true to the events."""

import dataclasses
import html
import re
import shlex

import pytest

from keras_lm.cli import build_parser, new_config
from keras_lm.presentation.report import race_report, run_report, train_command
from keras_lm.runs.race import Race, RaceConfig
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.presets import ORIGINAL, QUICK_START
from keras_lm.storage.run_folder import RunFolder

EVIL = "<script>document.title = 'broken'</script><img src=x onerror=alert(1)> & \"quoted\""
RUN = "20260101-000000-abcdef"


def put_run(root, config=QUICK_START) -> RunFolder:
    folder = RunFolder(root / RUN)
    folder.create()
    data = dataclasses.replace(config.data, data="own.txt", title=EVIL)
    folder.write_config(dataclasses.replace(config, data=data).to_dict())
    for step in range(10, 110, 10):
        event = {"kind": "metrics", "step": step, "tokens": step, "seconds": step / 2.0}
        event |= {"train_seconds": step / 4.0, "loss": 4.0 - step / 100, "bits_per_byte": 3.0}
        if step % 50 == 0:
            event |= {"val_loss": 4.0 - step / 100, "val_bits_per_byte": 2.5}
            folder.append_event({"kind": "sample", "step": step, "prompt": EVIL, "text": EVIL})
        folder.append_event(event)
    folder.write_status(state="finished", step=100, steps=100, message=EVIL, vocab_size=78)
    return folder


@pytest.fixture
def report(tmp_path) -> str:
    folder = put_run(tmp_path)
    return run_report(folder, Supervisor(tmp_path).summary(RUN))


def test_a_report_says_what_the_events_say(report):
    assert "Finished at step 100 of 100, best validation loss 3.000 at step 100" in report
    assert "2.500 bits per byte at the end, took 50 s." in report
    assert report.count("<svg") == 1 and "random guessing" in report
    assert "After step 50:" in report and "After step 100:" in report


def test_nothing_from_names_or_texts_becomes_markup_and_nothing_is_fetched(report):
    assert "<script" not in report and "<img" not in report and html.escape(EVIL) in report
    outside = re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(https?:[^"') ]+)""", report)
    assert outside == []


@pytest.mark.parametrize("config", [QUICK_START, ORIGINAL], ids=["quick-start", "original"])
def test_the_command_repeats_the_run(config, tmp_path):
    changed = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, qk_norm=not config.model.qk_norm, dropout=0.25),
        data=dataclasses.replace(config.data, data="alice", encoding="latin-1"),
        training=dataclasses.replace(config.training, seed=7, sample_prompt="it's <b>"),
    )
    words = shlex.split(train_command(changed))
    assert words[0] == "keras-lm"
    assert new_config(build_parser().parse_args(words[1:])) == changed


def test_a_race_has_its_sentence_its_table_and_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(Supervisor, "_launch", lambda *_: None)
    race = Race(tmp_path / "race", Supervisor(tmp_path / "race"))
    race.create(RaceConfig(QUICK_START, "norm", ("rmsnorm", "layernorm"), (1, 2)))
    race.go_on()
    assert "Nothing to compare" in race_report(race)
    for run in race.runs():
        folder = race.supervisor.folder(run.run_id)
        bits = 2.0 + run.seed / 10 + 0.5 * (run.entry == "norm=layernorm")
        event = {"kind": "metrics", "step": 10, "tokens": 9, "seconds": 2.0, "train_seconds": 1.0}
        event |= {"loss": 1.0, "val_loss": bits, "val_bits_per_byte": bits, "bits_per_byte": bits}
        folder.append_event(event)
        folder.write_status(state="finished", step=10, steps=10)
    report = race_report(race)
    assert "norm=rmsnorm is best: 0.500 bits per byte less than norm=layernorm" in report
    assert "--vary norm=rmsnorm,layernorm --seeds 1,2" in report and "<svg" in report
    assert "2.150 ± 0.071" in report
