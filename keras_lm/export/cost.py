"""What smaller weights cost: bits per byte on the validation text, before and after."""

from collections.abc import Callable

import numpy as np

from keras_lm.data.corpus import bits_per_byte
from keras_lm.export.exported import Exported

MOST_TOKENS = 20_000  # of the validation text, its beginning
WINDOWS = 8  # at once
UNKNOWN = "What the 8-bit weights cost is not measured: {reason}."
COST = (
    "The 8-bit weights cost {cost:z.4f} bits per byte: {after:.4f} where the model has "
    "{before:.4f}, on {tokens:,} tokens of its validation text."
)

Logits = Callable[[np.ndarray], np.ndarray]  # ids (batch, length) in int32 -> (batch, length, V)


def cost_in_words(model: Exported, before: Logits, after: Logits) -> str:
    """A sentence about the difference.

    Args:
        model: with the text that validates, if it can be read.
        before: the function of the model itself.
        after: that of the smaller one.
    """
    if model.corpus is None or len(model.corpus.validation) < 2:
        return UNKNOWN.format(reason=model.no_corpus or "all of the text was trained on")
    ids, length = model.corpus.validation[: MOST_TOKENS + 1], model.config.context_length
    num_bytes = model.corpus.num_bytes(ids[1:])
    bits = [
        bits_per_byte(mean_loss(logits, ids, length), num_bytes, len(ids) - 1)
        for logits in (before, after)
    ]
    cost = bits[1] - bits[0]
    return COST.format(cost=cost, after=bits[1], before=bits[0], tokens=len(ids) - 1)


def mean_loss(logits: Logits, ids: np.ndarray, length: int) -> float:
    """Nats per token over all of a text.

    Args:
        logits: the model.
        ids: (num_tokens,), at least 2.
        length: of the windows in which it is read.

    Example:
        >>> float(mean_loss(lambda ids: np.zeros((*ids.shape, 4)), np.arange(4), 2).round(3))
        1.386
    """
    starts = np.arange(0, len(ids) - 1, length)
    padded = np.concatenate([ids, np.zeros(length, ids.dtype)]).astype("int32")
    total = np.float64(0.0)
    for part in np.split(starts, range(WINDOWS, len(starts), WINDOWS)):
        windows = padded[part[:, None] + np.arange(length + 1)]  # (windows, length + 1)
        found = logits(windows[:, :-1]).astype("float64")  # (windows, length, vocab_size)
        most = found.max(axis=-1)
        log_sums = most + np.log(np.exp(found - most[..., None]).sum(axis=-1))
        targets = np.take_along_axis(found, windows[:, 1:, None], axis=-1)[..., 0]
        inside = part[:, None] + np.arange(length) < len(ids) - 1
        total += ((log_sums - targets) * inside).sum()
    return total / (len(ids) - 1)
