"""Reports: self-contained, to the letter, and true to the events."""

import dataclasses
import html
import re
from html.parser import HTMLParser

import pytest

from keras_lm.presentation.report import EXCERPT, OWN_MODEL, UNKNOWN, race_report, run_report
from keras_lm.runs.race import Race
from keras_lm.runs.race_config import RaceConfig
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.config import RunConfig
from keras_lm.settings.presets import PRESETS, QUICK_START
from keras_lm.settings.training_config import MOST_STEPS
from keras_lm.storage.records import LONGEST_LINE
from keras_lm.storage.run_folder import RunFolder

EVIL = "<script>document.title = 'broken'</script><img src=x onerror=alert(1)> & \"quoted\""
RUN = "20260101-000000-abcdef"


HOSTILE = [
    EVIL,
    "</pre></td></table><script>alert(1)</script>",
    "&lt;b&gt; &amp; ' \" ` = -- ]]> <!-- <![CDATA[",
    "\u202eright to left\u202c \u0645\u0631\u062d\u0628\u0627",
    "line\nline\r\n\n\ttab\u2028",
    "<b>" * 33_000,
    "\x00\x1b[31m\x7f",
    "😀 é",
]
TAGS = set("html meta title style main h1 h2 p figure table thead tbody tr th td div b i".split())
TAGS |= set("span details summary pre strong ul li".split())
DRAWN = {"svg", "g", "path", "text", "rect", "line", "defs", "clippath", "circle"}
ATTRIBUTES = {"lang", "charset", "name", "content", "class", "scope", "dir", "style", "role"}
ATTRIBUTES |= {"aria-label", "tabindex", "border"}


def put_run(root, config=QUICK_START, evil=EVIL, tokens=("a", "<b>", "\n")) -> RunFolder:
    folder = RunFolder(root / RUN)
    folder.create()
    data = dataclasses.replace(config.data, data="own.txt", title=evil)
    folder.write_config(dataclasses.replace(config, data=data).to_dict())
    folder.append_event({"kind": "window", "step": 0, "tokens": [*tokens]})
    for step in range(10, 110, 10):
        event = {"kind": "metrics", "step": step, "tokens": step, "seconds": step / 2.0}
        event |= {"train_seconds": step / 4.0, "loss": 4.0 - step / 100, "bits_per_byte": 3.0}
        if step % 50 == 0:
            event |= {"val_loss": 4.0 - step / 100, "val_bits_per_byte": 2.5}
            folder.append_event({"kind": "sample", "step": step, "prompt": evil, "text": evil})
            likely = [step / 200, 0.001]
            folder.append_event({"kind": "probabilities", "step": step, "of_next": likely})
        folder.append_event(event)
    folder.write_status(state="finished", step=100, steps=100, message=evil, vocab_size=78)
    folder.write_status(versions=f"keras_lm 9 {evil}", machine=f"abacus {evil}")
    return folder


class Parsed(HTMLParser):
    """The elements of a document, and its text outside of its style and drawings."""

    def __init__(self, document):
        super().__init__()
        self.tags, self.attributes, self.texts, self.inside = set(), set(), [], []
        self.feed(document)

    def handle_starttag(self, tag, attributes):
        if "svg" in self.inside:
            assert tag in DRAWN
        else:
            self.tags.add(tag)
            self.attributes.update(name for name, _ in attributes if tag != "svg")
        if tag != "meta":
            self.inside.append(tag)

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        if not {"svg", "style"} & set(self.inside):
            self.texts.append(data)


@pytest.fixture
def report(tmp_path) -> str:
    folder = put_run(tmp_path)
    return run_report(folder, Supervisor(tmp_path).summary(RUN))


def test_a_report_says_what_the_events_say(report):
    assert "Finished at step 100 of 100, best validation loss 3.000 at step 100" in report
    assert "2.500 bits per byte at the end, took 50 s." in report
    assert "Step 100: validation 3.00, best so far, still falling. As unsure as" in report
    assert "It ended after only 100 updates, while the loss was still falling." in report
    assert report.count("<svg") == 1 and "random guessing" in report
    assert "After step 50:" in report and "After step 100:" in report


def test_nothing_from_names_or_texts_becomes_markup_and_nothing_is_fetched(report):
    assert "<script" not in report and "<img" not in report and html.escape(EVIL) in report
    outside = re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(https?:[^"') ]+)""", report)
    assert outside == []


@pytest.mark.parametrize("evil", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_texts_and_names_hold_the_elements_are_the_same(evil, tmp_path):
    folder = put_run(tmp_path, evil=evil, tokens=(evil, evil[:9], "c"))
    document = run_report(folder, Supervisor(tmp_path).summary(RUN))
    parsed = Parsed(document)
    assert parsed.inside == [] and parsed.tags - {"svg"} <= TAGS
    assert parsed.attributes <= ATTRIBUTES
    texts = "".join(parsed.texts)
    assert texts.count(evil) >= 6  # in the title, the heading, and as samples, to the letter
    for line in (f"keras_lm 9 {evil}", f"abacus {evil}"):
        assert line[:LONGEST_LINE] in texts
    document.encode()


def test_the_first_the_middle_and_the_last_sample_stand_side_by_side(tmp_path):
    folder = put_run(tmp_path)
    for step in range(110, 200, 10):
        text = f"text of {step} " + "x" * EXCERPT
        folder.append_event({"kind": "sample", "step": step, "prompt": "p", "text": text})
    document = run_report(folder, Supervisor(tmp_path).summary(RUN))
    table = document[document.index('class="points"') : document.index("<details")]
    assert re.findall(r"After step (\d+)<", table) == ["50", "140", "190"]
    assert 'style="--shade:0.12">&lt;b&gt;</span>' in table  # of a probability of 1/4
    assert "As unsure as when choosing among 63.2 tokens." in table  # the root of 4 and 1,000
    assert "x" * (EXCERPT - 12) + "…" in table and "x" * EXCERPT not in table
    assert document.count("x" * EXCERPT) == 9  # whole, below


def test_versions_and_machine_are_those_of_the_run(report, tmp_path):
    assert "abacus" in report and UNKNOWN not in report
    folder = RunFolder(tmp_path / RUN)
    folder.status_file.write_text('{"state": "finished", "step": 100, "steps": 100}')
    assert UNKNOWN in run_report(folder, Supervisor(tmp_path).summary(RUN))


def test_a_drawing_is_described_in_words(report):
    assert 'role="img" aria-label="train: from 3.9 at step 10 to 3 at step 100' in report


def test_a_report_of_a_task_says_how_many_answers_are_right_and_has_no_empty_column(tmp_path):
    folder = RunFolder(tmp_path / RUN)
    folder.create()
    folder.write_config(PRESETS["task"].to_dict())
    event = {"kind": "metrics", "step": 10, "tokens": 10, "seconds": 5.0, "train_seconds": 4.0}
    event |= {"loss": 1.0, "val_loss": 1.1, "val_bits_per_byte": 1.5, "task_accuracy": 0.972}
    folder.append_event(event)
    folder.append_event({"kind": "sample", "step": 10, "prompt": "a1=", "text": "a1"})
    folder.append_event({"kind": "probabilities", "step": 10, "of_next": []})
    folder.write_status(state="stopped", step=10, steps=MOST_STEPS)
    found = run_report(folder, Supervisor(tmp_path).summary(RUN))
    assert "97.2% of the held-out answers right" in found
    assert "Validation text" not in found and "Stopped at step 10, best" in found


def test_a_taught_run_is_repeated_from_its_own_copy_of_the_model(tmp_path):
    folder = put_run(tmp_path, evil="b")
    config = RunConfig.from_dict(folder.read_config())
    data = config.data.changed(init_from="/nowhere/model.keras")
    folder.write_config(dataclasses.replace(config, data=data).to_dict())
    folder.initial_model.write_bytes(b"as it was")
    found = run_report(folder, Supervisor(tmp_path).summary(RUN))
    assert f"--init-from {folder.initial_model}" in found and OWN_MODEL in found


def test_longer_training_is_marked_and_repeated(tmp_path, report):
    assert "rained longer" not in report and "resume" not in report
    folder = RunFolder(tmp_path / RUN)
    for begin, ends in ((40, (90, 70)), (70, (100,))):  # the first end was moved on the way
        for end in ends:
            plan = {"kind": "plan", "step": max(begin, end - 40), "begin": begin, "steps": end}
            folder.append_event(plan)
    longer = run_report(folder, Supervisor(tmp_path).summary(RUN))
    assert "Trained longer from step 40. Trained longer from step 70." in longer
    assert ">trained longer</text>" in longer
    command = "keras-lm resume --run-dir run --steps 30"
    assert f"\n{command}\n{command}</pre>" in longer and "their steps and learning" in longer


@pytest.fixture
def finish_race(tmp_path, monkeypatch):
    """Makes a race whose runs have ended: from entry to entry and seed to seed a bit worse."""
    monkeypatch.setattr(Supervisor, "_launch", lambda *_: None)
    monkeypatch.setattr(RaceConfig, "check_new", lambda _: None)  # as in earlier versions

    def make(setting, values, finished=True) -> str:
        race = Race(tmp_path / "race", Supervisor(tmp_path / "race"))
        race.create(RaceConfig(QUICK_START, setting, values, (1, 2)))
        race.go_on()
        for run in race.runs() if finished else []:
            folder = race.supervisor.folder(run.run_id)
            bits = 2.0 + run.seed / 10 + 0.5 * race.read().names.index(run.entry)
            event = {"kind": "metrics", "step": 10, "tokens": 9, "seconds": 2.0}
            event |= {"train_seconds": 1.0, "loss": 1.0, "val_loss": bits}
            folder.append_event(event | {"val_bits_per_byte": bits, "bits_per_byte": bits})
            text = f"by {run.entry}, {run.seed}"
            folder.append_event({"kind": "sample", "step": 10, "prompt": "p", "text": text})
            machine = f"machine of seed {run.seed}"
            folder.write_status(state="finished", step=10, steps=10, machine=machine)
        return race_report(race)

    return make


def test_a_race_has_its_sentence_its_table_and_its_command(finish_race):
    assert "Nothing to compare" in finish_race("norm", ("rmsnorm", "layernorm"), finished=False)
    report = finish_race("norm", ("rmsnorm", "layernorm"))
    assert "norm=rmsnorm is best: 0.500 bits per byte less than norm=layernorm" in report
    assert "--vary=norm=rmsnorm,layernorm --seeds=1,2" in report and "<svg" in report
    assert re.search('aria-label="[^"]*norm=rmsnorm: 2.15 at step 10', report)
    assert "2.150 ± 0.071" in report
    assert "<li>norm=layernorm against norm=rmsnorm: worse; +0.500 bits per byte, 95%" in report
    assert [f"by norm=rmsnorm, {seed}" in report for seed in (1, 2)] == [True, False]
    assert report.count("<p>machine of seed 1.</p>") == report.count("seed 2.</p>") == 1


@pytest.mark.parametrize("evil", HOSTILE[:5], ids=range(5))
def test_no_value_of_a_race_becomes_markup(evil, finish_race):
    parsed = Parsed(finish_race("sample_prompt", (evil, "a")))
    assert parsed.inside == [] and parsed.tags - {"svg"} <= TAGS | {"strong"}
    assert parsed.attributes <= ATTRIBUTES
    assert f"by sample_prompt={evil}, 1" in "".join(parsed.texts)


def test_a_race_and_a_run_say_why_a_run_ended_early(finish_race, tmp_path):
    report = finish_race("norm", ("rmsnorm", "layernorm"))
    assert "Not in the table" not in report
    race = Race(tmp_path / "race", Supervisor(tmp_path / "race"))
    run = race.runs()[-1]
    folder = race.supervisor.folder(run.run_id)
    folder.write_status(state="paused", message="<b> is full. Make room.")
    report = race_report(race)
    reason = "norm=layernorm, seed 2: &lt;b&gt; is full."
    assert f"<p>Not in the table:</p><ul><li>{reason}</li></ul>" in report
    report = run_report(folder, Supervisor(tmp_path / "race").summary(run.run_id))
    assert "<p>&lt;b&gt; is full. Make room.</p>" in report
