"""The memorisation check against plain definitions, and that it is quick on a whole book."""

import random

import pytest

from keras_lm.data.copies import WORD, TrainingText
from keras_lm.data.texts import load_text


def plain_longest_copy(sample, text):
    stretches = (sample[i:j] for i in range(len(sample)) for j in range(i + 1, len(sample) + 1))
    return max((s for s in stretches if s in text), key=len, default="")


@pytest.mark.parametrize("seed", range(30))
def test_the_longest_copy_is_the_longest_common_stretch(seed):
    draw = random.Random(seed)
    text, sample = ("".join(draw.choices("ab \n", k=k)) for k in (97, draw.randrange(0, 23)))
    assert TrainingText(text).longest_copy(sample) == plain_longest_copy(sample, text)


@pytest.mark.parametrize(
    ("sample", "copy"),
    [
        ("", ""),
        ("xyz", ""),
        ("the cat sat", "the cat sat"),
        ("a cat sat.", " cat sat"),
        ("THE CAT the", " the"),
        ("☃ cat", " cat"),
    ],
)
def test_a_copy_is_told_character_for_character(sample, copy):
    assert TrainingText("so the cat sat on a mat").longest_copy(sample) == copy


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_novelty_is_the_part_of_runs_of_words_that_stand_nowhere(n):
    text = "the cat sat on the mat, and the dog sat on the cat."
    sample = "the dog sat on the mat. the dogs sat, and the cat sat on"
    runs, known = (
        {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
        for words in (WORD.findall(sample), WORD.findall(text))
    )
    assert TrainingText(text).novelty(sample, n) == len(runs - known) / len(runs)


def test_words_are_whole_and_spaces_do_not_matter():
    training = TrainingText("the cat\nsat  on")
    assert training.novelty("cat sat", 2) == training.novelty("cat   sat\n", 2) == 0.0
    assert training.novelty("the ca", 1) == 0.5
    assert training.novelty("cat", 2) is training.novelty("", 1) is None


def test_what_was_trained_on_is_a_copy_and_shuffled_words_are_new():
    text = load_text("alice")
    training, passage = TrainingText(text), " ".join(text[5_000:5_400].split(" ")[1:-1])
    assert training.longest_copy(passage) == passage
    assert training.novelty(passage, 4) == 0.0
    words = passage.split()
    random.Random(1).shuffle(words)
    assert len(training.longest_copy(" ".join(words))) < 40
    assert training.novelty(" ".join(words), 4) > 0.9
