"""What a model that is taught another text keeps of its first one: words, curves, report."""

import pytest

from keras_lm.presentation import charts
from keras_lm.presentation.course import describe_course
from keras_lm.presentation.forgetting import forgetting_of
from keras_lm.presentation.report import run_report
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.presets import QUICK_START

STATUS = {"first_bits": 2.1, "first_title": "Alice <b>"}


def validations(*points: tuple[int, float, float]) -> list[dict]:
    """Events of a step, the bits per byte of the first text and those of the new one."""
    return [
        {"kind": "metrics", "step": step, "loss": 2.0, "val_loss": 2.0, "tokens": step}
        | {"seconds": 1.0, "train_seconds": 1.0}
        | {"first_val_bits_per_byte": first, "val_bits_per_byte": new}
        for step, first, new in points
    ]


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (
            [(10, 2.2, 3.0), (20, 2.5, 2.25)],
            "Of its first text, Alice <b>, it forgets: from 2.10 bits per byte before to 2.50 "
            "now; on the new text from 3.00 at the first validation to 2.25.",
        ),
        (
            [(10, 2.25, 3.0)],
            "Of its first text, Alice <b>, it forgets: from 2.10 bits per byte before to 2.25 now.",
        ),
        ([(10, 2.1049, 3.0)], "It keeps its first text, Alice <b>: 2.10 bits per byte, as before."),
        (
            [(10, 2.09, 3.0)],
            "It is better on its first text, Alice <b>, too: from 2.10 bits per byte before to "
            "2.09 now.",
        ),
    ],
    ids=["forgets", "one validation", "keeps", "better"],
)
def test_the_sentence_follows_from_the_numbers(points, words):
    found = forgetting_of(STATUS, validations(*points))
    assert found is not None and found.in_words() == words


def test_what_an_earlier_version_wrote_has_no_value_before():
    found = forgetting_of({}, validations((10, 2.25, 3.0)))
    assert found is not None and found.before is None
    assert found.in_words() == "Its first text, which is built in, has 2.25 bits per byte now."


def test_a_run_without_a_first_text_has_no_word_about_it():
    events = validations((10, 2.25, 3.0))
    course = describe_course(QUICK_START, STATUS, events)
    assert "it forgets: from 2.10" in course
    for event in events:
        del event["first_val_bits_per_byte"]
    assert forgetting_of(STATUS, events) is None
    assert "first text" not in describe_course(QUICK_START, STATUS, events)
    frame = charts.metrics_frame(events)
    assert charts.BEFORE not in set(charts.forgetting_table(frame, 2.1)["curve"])


def test_the_chart_has_both_texts_and_the_value_before():
    frame = charts.metrics_frame(validations((10, 2.2, 3.0), (20, 2.5, 2.25)))
    table = charts.forgetting_table(frame, 2.1)
    heights = {name: [*rows["value"]] for name, rows in table.groupby("curve")}
    names = [name for name, _ in charts.FORGETTING_LOOKS]
    assert heights == {names[0]: [3.0, 2.25], names[1]: [2.2, 2.5], charts.BEFORE: [2.1]}
    assert charts.forgetting_table(charts.metrics_frame([]), 2.1).empty


def test_the_report_shows_the_chart_and_the_sentence(tmp_path, monkeypatch):
    supervisor = Supervisor(tmp_path)
    monkeypatch.setattr(Supervisor, "_launch", lambda *_: None)
    folder = supervisor.folder(supervisor.start(QUICK_START))
    for event in validations((10, 2.2, 3.0), (20, 2.5, 2.25)):
        folder.append_event(event)
    folder.write_status(state="finished", step=20, steps=20, vocab_size=78, **STATUS)
    summary = supervisor.summary(folder.run_id)
    assert summary is not None
    report = run_report(folder, summary)
    assert "What it forgets" in report and "Alice &lt;b&gt;, it forgets" in report
    assert report.count("<figure") == 2
