"""Looking into a model: how likely it held each token, and how it got to that guess."""

import base64
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from keras_lm.generation.bundle import Bundle
from keras_lm.model.backend import ops
from keras_lm.model.language_model import LanguageModel

ALTERNATIVES = 5
LEAST_LOG = -700.0  # of a probability: float64 has nothing below 1e-308
MOST_TOKENS = 1_024  # of a text that are looked at
MOST_SHOWN, SHOWN_AFTER = 48, 5  # tokens in a map, and how many of them follow the chosen one


class Window(NamedTuple):
    """A part of a text that the model reads at once.

    Attributes:
        begin: index of its first token.
        first: of the first token whose guess is taken from here.
        end: index after its last token.
    """

    begin: int
    first: int
    end: int

    @property
    def length(self) -> int:
        """Tokens in it."""
        return self.end - self.begin


class Scores(NamedTuple):
    """What the model would expect after each token if it ended before block 1, after it, and so on.

    The final norm and the output layer are applied to the stream after each block as if it were the
    last (the logit lens). The last row of each field is the model's own guess.

    Attributes:
        of_next: (num_blocks + 1, length - 1) probability of the token that did follow.
        entropies: (num_blocks + 1, length) of the whole distribution, nats.
        alternatives: (num_blocks + 1, length, ALTERNATIVES) the likeliest ids, likeliest first.
        probabilities: the same shape, theirs.
    """

    of_next: np.ndarray
    entropies: np.ndarray
    alternatives: np.ndarray
    probabilities: np.ndarray

    @property
    def perplexity(self) -> float:
        """The model was as uncertain as when choosing among this many tokens."""
        return float(np.exp(-np.log(self.of_next[-1]).mean()))


class Attention(NamedTuple):
    """The weights by which one block mixes values while it reads a window.

    Attributes:
        slots: (num_heads, length, num_slots) on slots, which stand for what is older than the
            attention's own window; no slots but with `linear`.
        tokens: (num_heads, length, length) of each token on each, which with those on the slots
            sum to 1.
    """

    slots: np.ndarray
    tokens: np.ndarray


class Reading:
    """A text as a model reads it.

    A text longer than the context is read in windows that overlap by half, so that each token has
    at least half a context before it. Operations run one by one: what XLA would save, compiling for
    each length would cost.

    Args:
        model: a built LanguageModel.
        ids: (length,) integers, at least two.
    """

    def __init__(self, model: LanguageModel, ids: np.ndarray):
        self.model = model
        self.windows = [*_windows(len(ids), model.config.context_length)]
        self._streams = self._read(np.stack([ids[w.begin : w.end] for w in self.windows]))
        self.scores = self._score(ids)
        self.attention = functools.lru_cache(maxsize=1)(self._attention)

    def window_of(self, row: int) -> Window:
        """The window from which the guess after a token is taken."""
        return next(window for window in self.windows if row < window.end)

    def _read(self, ids: np.ndarray) -> list:
        """Streams (windows, length, d_model) before the first block and after each block."""
        streams = [self.model.embed(ids, ops.arange(ids.shape[1]))]
        for block in self.model.blocks:
            streams.append(block(streams[-1]))
        return streams

    def _score(self, ids: np.ndarray) -> Scores:
        """The scores of the guess after each of the ids (length,)."""
        taken = [np.arange(w.begin, w.end) >= w.first for w in self.windows]
        rows = np.flatnonzero(taken)  # of all windows, one after the other
        layers = []
        for stream in self._streams:
            flat = ops.reshape(stream, (-1, stream.shape[-1]))  # (windows * length, d_model)
            normed = self.model.final_norm(ops.take(flat, rows, axis=0))  # (rows, d_model)
            layers.append(_score_layer(self.model.predict_logits(normed), ids[1:]))
        return Scores(*map(np.stack, zip(*layers, strict=True)))

    def _attention(self, window: Window, block: int) -> Attention:
        """What a block, counted from 0, attends to in one of `windows`; the last is remembered."""
        index, length = self.windows.index(window), window.length
        layer = self.model.blocks[block]
        x = layer.attention_norm(self._streams[block][index : index + 1])
        # (1, num_heads, length, num_slots + length) -> without the batch
        weights = np.array(layer.attention.attention_weights(x))[0]
        return Attention(weights[:, :, :-length], weights[:, :, -length:])


def _windows(length: int, context_length: int) -> Iterator[Window]:
    """Windows of one length."""
    done = 0
    while done < length:
        end = min(length, done + max(1, context_length // 2) if done else context_length)
        yield Window(max(0, end - context_length), done, end)
        done = end


def _score_layer(logits: Any, following: np.ndarray) -> Scores:
    """One layer of Scores, without the first axis.

    Args:
        logits: (length, vocab_size).
        following: (length - 1,) the token that follows each but the last.
    """
    log_probabilities = ops.log_softmax(logits)
    probabilities = ops.exp(log_probabilities)
    entropies = -ops.sum(probabilities * log_probabilities, axis=-1)
    top, alternatives = ops.top_k(probabilities, min(ALTERNATIVES, logits.shape[1]))
    of_next = _probabilities_of(following, log_probabilities[: len(following)])
    if not np.isfinite(entropies).all():
        raise ValueError(
            "The model gives no probabilities for this text, as some of its weights are too large: "
            "choose another model or another text."
        )
    return Scores(of_next, np.array(entropies), np.array(alternatives), np.array(top))


def _probabilities_of(ids: np.ndarray, log_probabilities: Any) -> np.ndarray:
    """Of each row of (rows, vocab_size) that of its id; (rows,)."""
    # (rows, vocab_size) at (rows, 1) -> (rows, 1)
    found = ops.take_along_axis(log_probabilities, ids[:, None], axis=1)
    # float32 has nothing below 1e-45.
    return np.exp(np.maximum(np.array(found, "float64"), LEAST_LOG))[:, 0]


def probabilities_of_next(model: LanguageModel, ids: np.ndarray) -> np.ndarray:
    """How likely the model holds each token after those before it.

    Operations run one by one, so that nothing is compiled, and the model stays as it is.

    Args:
        model: a built LanguageModel.
        ids: (length,) integers, 2 to context_length + 1.

    Returns:
        (length - 1,) probabilities: of the second token, of the third, ...
    """
    logits = model(ids[None, :-1])[0]  # (1, length - 1, vocab_size) -> without the batch
    return _probabilities_of(ids[1:], ops.log_softmax(logits))


class ReadText(NamedTuple):
    """A text that a model has read, to be looked at token by token.

    Attributes:
        bundle: the model with its tokenizer.
        text: the whole text.
        ids: (length,) of its first MOST_TOKENS tokens.
        left_out: how many tokens follow these.
        reading: of the ids.
    """

    bundle: Bundle
    text: str
    ids: np.ndarray
    left_out: int
    reading: Reading


def read_text(bundle: Bundle, text: str) -> ReadText:
    """Reads a text, which is the slow part of looking into it.

    Args:
        bundle: what `keras_lm.load` gives.
        text: any text with at least two tokens of the vocabulary; MOST_TOKENS are looked at.

    Raises:
        ValueError: when the text has too few tokens.
    """
    ids = np.array(bundle.tokenizer.encode(text), "int32")
    if len(ids) < 2:
        raise ValueError(
            "The text must have at least two tokens that the model knows, but got "
            f"{len(ids)}: write a longer one."
        )
    left_out, ids = max(0, len(ids) - MOST_TOKENS), ids[:MOST_TOKENS]
    return ReadText(bundle, text, ids, left_out, Reading(bundle.model, ids))


def inspect(
    bundle: Bundle, text: str, token: int | None = None, block: int | None = None
) -> dict[str, Any]:
    """Reads a text and looks into it; see `read_text` and `look_into`."""
    return look_into(read_text(bundle, text), token, block)


def look_into(read: ReadText, token: int | None = None, block: int | None = None) -> dict[str, Any]:
    """All that the page shows of a text, as a JSON object.

    Args:
        read: the text.
        token: index, from 1 on, of the token whose guess is looked into; None or too large: what
            follows the text.
        block: whose attention is shown; None or too large: the last.

    Returns:
        The fields of Scores by their names as lists, ids as the texts of their tokens; and the
        attention of the tokens from `first` to `last` on those from `begin` on, as `pack` makes it.
        `context_length` and `chunk_length` say whether slots can ever hold anything.
    """
    model, config, length = read.bundle.model, read.bundle.config, len(read.ids)
    token = length if token is None else min(max(1, token), length)
    last_block = len(model.blocks) - 1
    block = last_block if block is None else min(max(0, block), last_block)
    return _describe_scores(read) | {
        "token": token,
        "block": block,
        "num_blocks": len(model.blocks),
        "context_length": config.context_length,
        "chunk_length": config.chunk_length,
        **_describe_attention(read.reading, token, block),
    }


def _describe_scores(read: ReadText) -> dict[str, Any]:
    """What holds for the whole text."""
    tokenizer, scores, ids = read.bundle.tokenizer, read.reading.scores, read.ids.tolist()
    texts = {id: tokenizer.decode([id]) for id in {*np.unique(scores.alternatives).tolist(), *ids}}
    num_bytes = sum(len(tokenizer.token_bytes(id)) for id in ids[1:])
    return {
        "tokens": [texts[id] for id in ids],
        "left_out": read.left_out,
        "unknown": tokenizer.unknown(read.text),
        "perplexity": scores.perplexity,
        "bits_per_byte": float(-np.log2(scores.of_next[-1]).sum() / num_bytes),
        "of_next": np.round(scores.of_next, 6).tolist(),
        "entropies": np.round(scores.entropies[-1], 4).tolist(),
        "alternatives": np.vectorize(texts.get, otypes=[object])(scores.alternatives).tolist(),
        "probabilities": np.round(scores.probabilities, 5).tolist(),
    }


def _describe_attention(reading: Reading, token: int, block: int) -> dict[str, Any]:
    """What the tokens around the one before `token` attend to, MOST_SHOWN at most."""
    window = reading.window_of(token - 1)
    last = min(window.end, token + SHOWN_AFTER)
    first = max(window.begin, last - MOST_SHOWN)
    last = min(window.end, first + MOST_SHOWN)
    rows = slice(first - window.begin, last - window.begin)
    attention = reading.attention(window, block)
    return {
        "begin": window.begin,
        "first": first,
        "last": last,
        "slots": pack(attention.slots[:, rows]),
        "looks": pack(attention.tokens[:, rows]),
    }


def pack(x: np.ndarray) -> dict[str, Any]:
    """An array as a small JSON object: its shape, and float16 numbers in base64.

    Example:
        >>> pack(np.zeros((1, 2)))
        {'shape': (1, 2), 'float16': 'AAAAAA=='}
    """
    data = base64.b64encode(np.ascontiguousarray(x, "<f2").tobytes()).decode()
    return {"shape": x.shape, "float16": data}
