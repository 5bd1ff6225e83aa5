"""What generates the tasks: each a function of a generator, a count and a length.

A further task is a function like these, and an entry in `settings/variants.py`. Every instance of
a task with one length has equally many characters; it ends with a new line, at which a generated
answer ends, too.
"""

import string
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_lm.settings.variants import MOST_QUERIES

LETTERS, DIGITS, KEYS = string.ascii_lowercase, string.digits, string.ascii_letters
SIGNS = {*KEYS, *DIGITS, *"=+()[]"}  # all but the end
EQUALS, END = "=", "\n"


class Instances(NamedTuple):
    """Some instances of a task.

    Attributes:
        characters: (count, length) of one character each.
        is_answer: (count, length), which of them are to be predicted.
    """

    characters: np.ndarray
    is_answer: np.ndarray

    @property
    def texts(self) -> list[str]:
        """Each as a string with its new line."""
        return ["".join(row) for row in self.characters]


def _draw(generator: np.random.Generator, signs: str, *shape: int) -> np.ndarray:
    """Random characters of `signs`."""
    return np.array([*signs])[generator.integers(0, len(signs), shape)]


def _constant(sign: str, count: int) -> np.ndarray:
    """A column (count, 1) of one character."""
    return np.full((count, 1), sign)


def _ask(question: np.ndarray, answer: np.ndarray) -> Instances:
    """Instances "question=answer" with a new line, of (count, ...) characters each."""
    count = len(question)
    parts = [question, _constant(EQUALS, count), answer, _constant(END, count)]
    characters = np.concatenate(parts, axis=1)
    is_answer = np.zeros(characters.shape, bool)
    is_answer[:, question.shape[1] + 1 :] = True
    return Instances(characters, is_answer)


def copy(generator: np.random.Generator, count: int, length: int) -> Instances:
    """hat=hat"""
    question = _draw(generator, LETTERS, count, length)
    return _ask(question, question)


def reverse(generator: np.random.Generator, count: int, length: int) -> Instances:
    """hat=tah"""
    question = _draw(generator, LETTERS, count, length)
    return _ask(question, question[:, ::-1])


def sort(generator: np.random.Generator, count: int, length: int) -> Instances:
    """hat=aht"""
    question = _draw(generator, LETTERS, count, length)
    return _ask(question, np.sort(question, axis=1))


def addition(generator: np.random.Generator, count: int, length: int) -> Instances:
    """38+47=580: the sum's last digit comes first, so that a carry is known when it is needed."""
    digits = generator.integers(0, 10, (2, count, length))
    total = np.zeros((count, length + 1), int)
    for index in range(length):  # from the last digit
        total[:, index] += digits[0, :, -1 - index] + digits[1, :, -1 - index]
        total[:, index + 1] = total[:, index] // 10
        total[:, index] %= 10
    signs = np.array([*DIGITS])
    first, second = signs[digits]
    question = np.concatenate([first, _constant("+", count), second], axis=1)
    return _ask(question, signs[total])


def parity(generator: np.random.Generator, count: int, length: int) -> Instances:
    """01101=01001: after each bit, whether the number of ones so far is odd."""
    bits = generator.integers(0, 2, (count, length))
    signs = np.array(["0", "1"])
    return _ask(signs[bits], signs[bits.cumsum(1) % 2])


def brackets(generator: np.random.Generator, count: int, length: int) -> Instances:
    """([])=oooy, ([)]=oonn: what `states` says after each bracket."""
    rows = []
    for _ in range(count):
        row = _balanced(generator, length)
        if generator.random() < 0.5:  # two brackets change places, or one its kind
            first, second = generator.choice(len(row), 2, replace=False)
            row[first], row[second] = row[second], row[first]
            if generator.random() < 0.5:
                row[first] = str(generator.choice([*"()[]"]))
        rows.append(row)
    return _ask(np.array(rows), np.array([states(row) for row in rows]))


def _balanced(generator: np.random.Generator, pairs: int) -> list[str]:
    """A random balanced sequence of so many pairs."""
    row: list[str] = []
    still_open: list[str] = []
    while len(row) < 2 * pairs:
        can_open = len(row) + len(still_open) < 2 * pairs
        if not still_open or (can_open and generator.random() < 0.5):
            kind = "()" if generator.random() < 0.5 else "[]"
            row.append(kind[0])
            still_open.append(kind[1])
        else:
            row.append(still_open.pop())
    return row


def states(row: Sequence[str]) -> list[str]:
    """After each bracket: y when all are closed, o when some are open, n from a wrong one on.

    Example:
        >>> "".join(states("([])")), "".join(states("([)]"))
        ('oooy', 'oonn')
    """
    still_open: list[str] = []
    found: list[str] = []
    for sign in row:
        if sign in "([":
            still_open.append(")" if sign == "(" else "]")
        elif not still_open or still_open.pop() != sign:
            break
        found.append("o" if still_open else "y")
    return found + ["n"] * (len(row) - len(found))


def recall(generator: np.random.Generator, count: int, length: int) -> Instances:
    """a3k7c1=k7c1a3: pairs of a letter and a digit, then the letters: which digit followed?

    Of more than MOST_QUERIES pairs, so many are asked for.

    (Multi-query associative recall, https://arxiv.org/abs/2312.04927.)
    """
    pairs = length
    order = generator.random((count, len(KEYS))).argsort(1)
    keys = np.array([*KEYS])[order[:, :pairs]]  # (count, pairs), all different
    values = _draw(generator, DIGITS, count, pairs)
    asked = generator.random((count, pairs)).argsort(1)[:, :MOST_QUERIES]  # (count, queries)
    rows = np.arange(count)[:, None]
    # (count, pairs, 2) -> (count, length)
    question = np.stack([keys, values], 2).reshape(count, -1)
    found = np.stack([keys[rows, asked], values[rows, asked]], 2).reshape(count, -1)
    instances = _ask(question, found)
    is_answer = instances.is_answer
    is_answer[:, question.shape[1] + 1 : -1 : 2] = False  # the letters that are asked for
    return instances


def induction(generator: np.random.Generator, count: int, length: int) -> Instances:
    """hqatcqa: what came after the last letter when it was there before?

    (Induction heads, https://arxiv.org/abs/2209.11895.)
    """
    letters = len(LETTERS)
    codes = generator.integers(0, letters - 1, (count, length))
    last = generator.integers(0, letters, (count, 1))
    codes = np.where(codes >= last, codes + 1, codes)  # none of them is the last letter
    rows, earlier = np.arange(count), generator.integers(0, length - 2, count)
    answer = codes[rows, earlier + 1]
    codes[rows, earlier] = last[:, 0]
    codes[:, -1] = last[:, 0]
    signs = np.array([*LETTERS])
    parts = [signs[codes], signs[answer][:, None], _constant(END, count)]
    characters = np.concatenate(parts, axis=1)
    is_answer = np.zeros(characters.shape, bool)
    is_answer[:, length:] = True
    return Instances(characters, is_answer)
