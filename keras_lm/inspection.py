"""Looking into a model: how likely it held each token, and how it came to that guess."""

import base64
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_lm.backend import ops

if TYPE_CHECKING:
    from keras_lm.bundle import Bundle
    from keras_lm.model import LanguageModel

ALTERNATIVES = 5
MOST_TOKENS = 1_024  # of a text that are looked at


class Scores(NamedTuple):
    """What the model expected after each token of a text.

    Attributes:
        of_next: (length - 1,) probability of the token that did come next.
        entropies: (length,) of the whole distribution, nats.
        alternatives: (length, ALTERNATIVES) the likeliest ids, likeliest first.
        probabilities: (length, ALTERNATIVES) theirs.
    """

    of_next: np.ndarray
    entropies: np.ndarray
    alternatives: np.ndarray
    probabilities: np.ndarray

    @property
    def perplexity(self) -> float:
        """Between how many tokens it was undecided, on average over all but the first."""
        return float(np.exp(-np.log(self.of_next).mean()))


class Insides(NamedTuple):
    """What went on inside while the model read a text.

    Attributes:
        alternatives: (num_blocks + 1, length, ALTERNATIVES) ids that would be likeliest after each
            token if the model ended before its first block, after the first, ..., the last.
        probabilities: the same shape, theirs.
        of_next: (num_blocks + 1, length - 1) probability of the token that did come next.
        slots: (num_heads, length, num_slots) weights of one block's attention on slots, which
            stand for what is older than its window; no slots but with `linear`.
        window: (num_heads, length, length) weights of each token on each, which with those on the
            slots sum to 1.
    """

    alternatives: np.ndarray
    probabilities: np.ndarray
    of_next: np.ndarray
    slots: np.ndarray
    window: np.ndarray


def score(model: "LanguageModel", ids: np.ndarray) -> Scores:
    """How likely each token was, given those before.

    Args:
        model: a built LanguageModel.
        ids: (length,) integers, at least two. A text longer than the context is read in windows
            that overlap by half, so that each token has half a context before it at least.

    Returns:
        The Scores of `ids`.
    """
    parts = [_likeliest(logits, following) for logits, following in _in_windows(model, ids)]
    return Scores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _in_windows(model, ids: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Logits (tokens, vocab_size) of the text part by part, and the ids that follow the tokens."""
    context_length, done = model.config.context_length, 0
    while done < len(ids):
        end = min(len(ids), done + max(1, context_length // 2) if done else context_length)
        logits = np.array(model(ids[None, max(0, end - context_length) : end]))[0]
        yield logits[done - end :], ids[done + 1 : end + 1]
        done = end


def _likeliest(logits: np.ndarray, following: np.ndarray) -> tuple[np.ndarray, ...]:
    """The fields of Scores, of logits (length, vocab_size); the last token may have no follower."""
    log_probabilities = np.array(ops.log_softmax(logits), "float64")
    probabilities = np.exp(log_probabilities)
    alternatives = np.argsort(-log_probabilities, axis=-1, kind="stable")[:, :ALTERNATIVES]
    return (
        probabilities[np.arange(len(following)), following],
        -(probabilities * log_probabilities).sum(-1),
        alternatives,
        np.take_along_axis(probabilities, alternatives, axis=-1),
    )


def look_inside(model: "LanguageModel", ids: np.ndarray, block: int) -> Insides:
    """How the guesses form from block to block, and what one block attends to.

    The final norm and the output layer are applied to the stream after each block, as if it were
    the last (the logit lens).

    Args:
        model: a built LanguageModel.
        ids: (length,) integers, 1 to context_length of them.
        block: whose attention is wanted, from 0 on.

    Returns:
        The Insides of `ids`.
    """
    length = len(ids)
    stream = model.embed(ids[None], ops.arange(length))
    streams = [stream]
    for index, layer in enumerate(model.blocks):
        if index == block:
            weights = np.array(layer.attention.attention_weights(layer.attention_norm(stream)))[0]
        stream = layer(stream)
        streams.append(stream)
    logits = (model.predict_logits(model.final_norm(stream)) for stream in streams)
    guesses = [_likeliest(np.array(layer)[0], ids[1:]) for layer in logits]
    of_next, _, alternatives, probabilities = map(np.stack, zip(*guesses, strict=True))
    slots, window = weights[:, :, :-length], weights[:, :, -length:]
    return Insides(alternatives, probabilities, of_next, slots, window)


def inspect(
    bundle: "Bundle",
    text: str,
    token: int | None = None,
    block: int | None = None,
    score: Callable[["LanguageModel", np.ndarray], Scores] = score,
) -> dict[str, Any]:
    """All that the page shows of a text, as a JSON object.

    Args:
        bundle: what `keras_lm.load` gives.
        text: any text with two tokens of the vocabulary at least; MOST_TOKENS are looked at.
        token: the place, from 1 on, of the token whose guess is looked into; None or too large:
            what comes after the text.
        block: whose attention is shown; None or too large: the last.
        score: as `score` above; one that remembers, when a text is looked at again and again.

    Returns:
        Fields of Scores and Insides by their names, numbers in lists, ids as the texts of their
        tokens; the maps as `pack` makes them. Insides are of the tokens from `begin` to `end`.

    Raises:
        ValueError: when the text has too few tokens.
    """
    tokenizer, model = bundle.tokenizer, bundle.model
    ids = np.array(tokenizer.encode(text), "int32")
    if len(ids) < 2:
        raise ValueError(
            f"A text of two tokens at least is needed, but the model knows {len(ids)} of this one: "
            "write a longer one."
        )
    left_out, ids = max(0, len(ids) - MOST_TOKENS), ids[:MOST_TOKENS]
    token = len(ids) if token is None else min(max(1, token), len(ids))
    last_block = len(model.blocks) - 1
    block = last_block if block is None else min(block, last_block)
    begin = max(0, min(token + 1, len(ids)) - bundle.config.context_length)
    end = min(len(ids), begin + bundle.config.context_length)
    scores, insides = score(model, ids), look_inside(model, ids[begin:end], block)
    shown = {int(id) for part in (scores, insides) for id in np.unique(part.alternatives)}
    texts = {id: tokenizer.decode([id]) for id in shown | set(ids.tolist())}
    sizes = [len(tokenizer.token_bytes(id)) for id in ids[1:].tolist()]

    def fields(part: Scores | Insides) -> dict[str, Any]:
        found = {name: np.round(part._asdict()[name], 5).tolist() for name in NUMBERS[type(part)]}
        words = np.vectorize(texts.get, otypes=[object])(part.alternatives)
        return found | {"alternatives": words.tolist()}

    return {
        "tokens": [texts[id] for id in ids.tolist()],
        "left_out": left_out,
        "unknown": tokenizer.unknown(text),
        "perplexity": scores.perplexity,
        "bits_per_byte": float(-np.log2(scores.of_next).sum() / sum(sizes)),
        "scores": fields(scores),
        "token": token,
        "block": block,
        "num_blocks": len(model.blocks),
        "begin": begin,
        "end": end,
        "insides": fields(insides),
        "slots": pack(insides.slots),
        "window": pack(insides.window),
    }


NUMBERS = {
    Scores: ("of_next", "entropies", "probabilities"),
    Insides: ("of_next", "probabilities"),
}


def pack(x: np.ndarray) -> dict[str, Any]:
    """An array as a small JSON object: its shape, and float16 numbers in base64."""
    data = base64.b64encode(np.ascontiguousarray(x, "<f2").tobytes()).decode()
    return {"shape": x.shape, "float16": data}
