"""What the command line says of a run that has ended."""

from dataclasses import replace

from keras_lm.commands.ending import say_course
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import RunFolder


def put_run(path, *losses: float) -> RunFolder:
    folder = RunFolder(path)
    folder.create()
    for step, loss in zip(range(500, 9_000, 500), losses, strict=False):
        event = {"kind": "metrics", "step": step, "loss": 1.0, "val_loss": loss}
        folder.append_event(event | {"tokens": 9, "seconds": 1.0, "train_seconds": 1.0})
    folder.write_status(state="finished", step=2_000, steps=2_000, vocab_size=78)
    return folder


def test_a_run_ends_with_a_line_and_one_more_when_something_is_wrong(tmp_path, capsys):
    config = replace(QUICK_START, training=QUICK_START.training.changed(steps=2_000))
    for name, losses, count in (("sound", (2.0, 1.8, 1.6), 1), ("late", (2.0, 1.8, 1.9, 2.0), 2)):
        say_course(put_run(tmp_path / name, *losses), config)
        said = capsys.readouterr()
        lines = said.err.splitlines()
        assert said.out == "" and len(lines) == count
        assert lines[0].startswith(f"Step {500 * len(losses):,}: validation {losses[-1]:.2f}, ")
    assert "learns its text by heart. Set Steps to 1,000 or Dropout to 0.1" in lines[1]


def test_a_run_without_a_curve_ends_silently(tmp_path, capsys):
    say_course(put_run(tmp_path / "none"), QUICK_START)
    assert capsys.readouterr().err == ""
