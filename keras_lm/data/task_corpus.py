"""A task as a run uses it: endless instances to train on, and others, held out, to measure it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from keras_lm.data.corpus import Corpus, bits_per_byte, unigram_entropy
from keras_lm.data.reading import TextError
from keras_lm.data.tasks import END, SIGNS, Instances
from keras_lm.data.tokenizers import CharTokenizer, SeparatedTokenizer, Tokenizer
from keras_lm.settings.config import DataConfig
from keras_lm.settings.kinds import Task

HELD_OUT_SHARE = 8  # one of so many possible instances is never trained on
NUM_SHOWN, NUM_HELD_OUT = 1000, 500
MOST_ROUNDS = 50  # of drawing, until there are enough


@dataclass(frozen=True)
class TaskCorpus(Corpus):
    """A task as a run uses it; `train` and `validation` are some instances, one after the other.

    Attributes:
        task: which.
        length: of what is trained.
        held_out: (NUM_HELD_OUT, size) int32, what measures the model: see `signed`.
    """

    task: Task
    length: int
    held_out: np.ndarray

    @classmethod
    def of(cls, data: DataConfig) -> Self:
        """The task that `data` names; TextError when it has too few different instances."""
        task, (length, test_length) = data.task, data.task_lengths
        if task is None:
            raise TextError(f"Expected a task's name, but got {data.data!r:.60}.")
        tokenizer = SeparatedTokenizer(CharTokenizer("".join(sorted(SIGNS))), END)
        shown = _draw(task, length, [0], NUM_SHOWN, held_out=False)
        tested = _draw(task, test_length, [1], NUM_HELD_OUT, held_out=True)
        rows = [_rows(instances, tokenizer) for instances in (shown, tested)]
        return cls(
            tokenizer,
            *(part.reshape(-1) for part in rows),  # (count, size) -> (count * size,)
            context_length=rows[0].shape[1] - 1,
            task=task,
            length=length,
            held_out=signed(rows[1], tested.is_answer),
        )

    def batch(self, seed: int, step: int, count: int) -> np.ndarray:
        """What update `step` trains on, a pure function of seed and step: (count, size) int32.

        Which of the rows are answers, `signed` says.
        """
        instances = _draw(self.task, self.length, [2, seed, step], count, held_out=False)
        return signed(_rows(instances, self.tokenizer), instances.is_answer)

    @property
    def measured(self) -> np.ndarray:
        """The instances that measure the model, as rows that say which of them are answers."""
        return self.held_out

    def validation_bits_per_byte(self, loss: float) -> float:
        """A loss of the answers in nats per character, each of which is a byte, as bits."""
        return bits_per_byte(loss, num_bytes=1, num_tokens=1)

    @cached_property
    def unigram_entropy(self) -> float:
        """Nats per token of a guess by frequency alone, of the answers that measure the model."""
        return unigram_entropy(self.held_out[self.held_out >= 0])

    @cached_property
    def first_words(self) -> str:
        """The question of the first instance that is held out."""
        return self.questions(1)[0]

    def questions(self, count: int) -> list[str]:
        """Of the first instances that are held out, what comes before the answer."""
        starts = (self.held_out[:count] >= 0).argmax(1)  # of the answers
        rows = zip(self.held_out, starts, strict=False)
        return [self.tokenizer.decode((~row[:start]).tolist()) for row, start in rows]

    def solved(self, count: int) -> list[str]:
        """The first instances that are held out, with their answers, without the new line."""
        rows = np.where(self.held_out[:count] < 0, ~self.held_out[:count], self.held_out[:count])
        return [self.tokenizer.decode(row[:-1].tolist()) for row in rows]


def signed(rows: np.ndarray, is_answer: np.ndarray) -> np.ndarray:
    """Rows of the embedding that also say which of them are answers: the others are `~row`.

    Example:
        >>> signed(np.array([4, 0, 7]), np.array([False, False, True])).tolist()
        [-5, -1, 7]
    """
    return np.where(is_answer, rows, ~rows)


def _rows(instances: Instances, tokenizer: Tokenizer) -> np.ndarray:
    """The instances as rows of the embedding, (count, size) int32."""
    text = "".join(instances.characters.reshape(-1))
    # (count * size,) -> (count, size)
    return np.array(tokenizer.encode(text), "int32").reshape(instances.characters.shape)


def _draw(task: Task, length: int, words: list[int], count: int, held_out: bool) -> Instances:
    """Instances of one of the two sorts, which have none in common.

    Args:
        task, length: of which.
        words: which of all sequences of them.
        count: how many.
        held_out: whether those that are never trained on.
    """
    generator = np.random.default_rng(words)
    make = task.load()
    found: list[Instances] = []
    missing = count
    for _ in range(MOST_ROUNDS):
        drawn = make(generator, (HELD_OUT_SHARE if held_out else 2) * missing + 8, length)
        fitting = _is_held_out(drawn) == held_out
        found.append(Instances(*(part[fitting][:missing] for part in drawn)))
        missing -= len(found[-1].characters)
        if not missing:
            return Instances(*map(np.concatenate, zip(*found, strict=True)))
    raise TextError(
        f"The task {task.name} needs more different instances than there are of {length} "
        f"{task.unit}; choose a greater length."
    )


def _is_held_out(instances: Instances) -> np.ndarray:
    """Of each instance whether it is never trained on: (count,), by a hash of its characters."""
    codes = np.ascontiguousarray(instances.characters).view("uint32").astype("uint64")
    weights = np.random.default_rng(0).integers(1, 2**63, codes.shape[1], dtype="uint64") | 1
    hashes = (codes * weights).sum(1, dtype="uint64") >> np.uint64(40)
    return hashes % HELD_OUT_SHARE == 0
