"""Tasks: answers that are right, instances that are endless and the same again, none held out."""

import numpy as np
import pytest

from keras_lm.data.preparation import prepare, training_text
from keras_lm.data.reading import TextError
from keras_lm.data.task_corpus import HELD_OUT_SHARE, NUM_HELD_OUT, TaskCorpus, signed
from keras_lm.data.tasks import Instances
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.settings.kinds import Task
from keras_lm.settings.variants import TASKS


def answer_to(name: str, question: str) -> str:
    """The right answer, worked out in another way than in `keras_lm.data.tasks`."""
    if name == "copy":
        return question
    if name == "reverse":
        return "".join(reversed(question))
    if name == "sort":
        return "".join(sorted(question))
    if name == "addition":
        first, second = question.split("+")
        return str(int(first) + int(second)).zfill(len(first) + 1)[::-1]
    if name == "parity":
        return "".join(str(question[: end + 1].count("1") % 2) for end in range(len(question)))
    if name == "brackets":
        return "".join(bracket_state(question[: end + 1]) for end in range(len(question)))
    raise NotImplementedError(f"Work out the answers of {name} here.")


def bracket_state(text: str) -> str:
    """Removes pairs that stand together until none is left."""
    while text != (shorter := text.replace("()", "").replace("[]", "")):
        text = shorter
    if not text:
        return "y"
    return "n" if {*text} & {*")]"} else "o"


def texts_of(rows: np.ndarray, corpus: TaskCorpus) -> list[str]:
    return [corpus.tokenizer.decode(np.where(row < 0, ~row, row).tolist()) for row in rows]


@pytest.mark.parametrize("name", sorted({*TASKS} - {"recall", "induction"}))
@pytest.mark.parametrize("more", [0, 1, 5])
def test_the_answers_are_right_and_all_that_counts(name, more):
    length = TASKS[name].shortest + more
    if name in ("copy", "reverse", "sort"):
        length += 2  # of one letter there are too few
    corpus = TaskCorpus.of(DataConfig(f"task:{name}", task_length=length))
    rows = np.concatenate([corpus.batch(3, 7, 50), corpus.held_out])
    assert rows.shape[1] == TASKS[name].size(length)
    for row, text in zip(rows, texts_of(rows, corpus), strict=True):
        question, _, answer = text.partition("=")
        assert answer == answer_to(name, question) + "\n"
        assert corpus.tokenizer.decode(row[row >= 0].tolist()) == answer


@pytest.mark.parametrize("length", [4, 5, 11, 12, 13, 52])
def test_recall_asks_for_digits_that_are_there(length):
    corpus = TaskCorpus.of(DataConfig("task:recall", task_length=length))
    rows = corpus.batch(1, 2, 40)
    distances = set()
    for row, text in zip(rows, texts_of(rows, corpus), strict=True):
        question, asked = text[:-1].split("=")
        known = dict(zip(question[::2], question[1::2], strict=True))
        assert len(known) == length and len({*asked[::2]}) == min(length, 12)
        assert "".join(known[key] for key in asked[::2]) == asked[1::2]
        assert corpus.tokenizer.decode(row[row >= 0].tolist()) == asked[1::2] + "\n"
        distances |= {question.index(key) for key in asked[::2]}
    assert len(distances) > length / 2  # no distance answers it


@pytest.mark.parametrize("length", [4, 16, 40])
def test_induction_asks_for_what_came_after_the_only_other_one(length):
    corpus = TaskCorpus.of(DataConfig("task:induction", task_length=length))
    rows = corpus.batch(1, 2, 60)
    places = set()
    for row, text in zip(rows, texts_of(rows, corpus), strict=True):
        question, answer = text[:length], text[length]
        earlier = question.index(question[-1])
        assert question.count(question[-1]) == 2 and question[earlier + 1] == answer
        assert corpus.tokenizer.decode(row[row >= 0].tolist()) == answer + "\n"
        places.add(earlier)
    assert len(places) >= length / 2  # no distance answers it


def test_both_kinds_of_brackets_are_balanced_and_not():
    corpus = TaskCorpus.of(DataConfig("task:brackets"))
    answers = [text[-2] for text in texts_of(corpus.held_out, corpus)]
    assert 0.3 < answers.count("y") / len(answers) < 0.7


@pytest.mark.parametrize("name", sorted(TASKS))
def test_batches_are_a_function_of_seed_and_step_and_never_held_out(name):
    corpus = TaskCorpus.of(DataConfig(f"task:{name}"))
    again = TaskCorpus.of(DataConfig(f"task:{name}"))
    first = corpus.batch(1, 5, 30)
    assert (again.batch(1, 5, 30) == first).all() and again.sha256 == corpus.sha256
    assert (corpus.batch(1, 6, 30) != first).any() and (corpus.batch(2, 5, 30) != first).any()
    trained = {row.tobytes() for step in range(40) for row in corpus.batch(1, step, 30)}
    tested = {row.tobytes() for row in corpus.held_out}
    assert not trained & tested
    assert len(corpus.held_out) == NUM_HELD_OUT and HELD_OUT_SHARE > 1


def test_it_is_measured_at_another_length_than_it_learns():
    data = DataConfig("task:copy", task_length=5, task_test_length=9)
    config = RunConfig(ModelConfig(context_length=2), data, TrainingConfig())
    corpus = prepare(config.data, config.model.context_length)
    assert isinstance(corpus, TaskCorpus)
    assert corpus.batch(1, 0, 3).shape == (3, 12) and corpus.measured.shape[1] == 20
    assert config.model.context_length == 19


def test_a_step_reads_what_is_trained_on_also_where_what_is_tested_is_longer():
    data = DataConfig("task:copy", task_length=5, task_test_length=9)
    config = RunConfig(ModelConfig(), data, TrainingConfig(batch_size=3, max_tokens=7 * 33 + 32))
    corpus = prepare(data, config.model.context_length)
    assert isinstance(corpus, TaskCorpus)
    assert config.tokens_per_step == corpus.batch(1, 0, 3)[:, 1:].size == 33
    assert config.most_steps == 7


def test_of_a_task_tokens_are_characters_and_the_context_is_one_instance():
    data = DataConfig("task:sort", tokenizer="gpt2", cleaning="classic", separator="|")
    config = RunConfig(ModelConfig(), data, TrainingConfig())
    assert config.model.context_length == TASKS["sort"].size(6) - 1
    assert (config.data.tokenizer, config.data.cleaning, config.data.separator) == (
        "char",
        "none",
        "",
    )
    assert RunConfig.from_dict(config.to_dict()) == config
    assert data.label == "Task: sort"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"data": "task:sorting"},
            "must be one of the tasks task:copy, .* got 'task:sorting'",
        ),
        ({"data": "task:"}, "must be one of the tasks"),
        (
            {"data": "task:parity", "task_length": 5},
            "task_length must be between 6 and 500",
        ),
        (
            {"data": "task:recall", "task_test_length": 53},
            "test_length must be between 4 and 52",
        ),
    ],
)
def test_what_is_no_task_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(**values)


def test_a_task_with_too_few_instances_is_refused(monkeypatch):
    def always_the_same(generator, count, length):
        return Instances(np.full((count, 4), "a"), np.ones((count, 4), bool))

    monkeypatch.setattr(Task, "load", lambda self: always_the_same)
    with pytest.raises(TextError, match="more different instances than there are of 12 letters"):
        TaskCorpus.of(DataConfig("task:copy"))


def test_the_text_of_a_task_is_its_instances():
    lines = training_text(DataConfig("task:copy")).splitlines()
    assert all(line[:12] == line[13:] and line[12] == "=" for line in lines)


def test_signs_say_which_rows_are_answers():
    rows = signed(np.array([[0, 3, 9]]), np.array([[False, True, False]]))
    assert rows.tolist() == [[-1, 3, -10]]


def test_the_prompt_is_a_question_that_is_held_out():
    corpus = TaskCorpus.of(DataConfig("task:copy"))
    assert texts_of(corpus.held_out[:1], corpus)[0].startswith(corpus.first_words)
    assert corpus.first_words.endswith("=")
    assert 0 < corpus.unigram_entropy < np.log(corpus.tokenizer.vocab_size)
