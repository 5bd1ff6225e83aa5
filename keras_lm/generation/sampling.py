"""Which token comes next: filters of the distribution, and the draw from it.

A filter is a function and an entry of LOGIT_FILTERS or FILTERS, under the name of its setting in
GenerationConfig.
"""

from typing import NamedTuple

from keras_lm.model.backend import tf
from keras_lm.settings.config import GenerationConfig

FEW = 256  # likeliest tokens, enough for most settings; more are sorted only when needed

Settings = dict[str, tf.Tensor]  # the value of each filter, a scalar


class Candidates(NamedTuple):
    """The likeliest tokens of a row, likeliest first, and what filters have left of them.

    Attributes:
        ids: (batch, count).
        logits: (batch, count), minus the likeliest token's: they fall from 0.
        all_logits: (batch, vocab_size), of every token in any order, minus the same.
        shares: (batch, count), in proportion to the probabilities; 0: left out.
        total: (batch, 1), the sum of the shares of all tokens, also beyond the candidates.
        complete: scalar boolean, False when a filter needs more candidates than these.
    """

    ids: tf.Tensor
    logits: tf.Tensor
    all_logits: tf.Tensor
    shares: tf.Tensor
    total: tf.Tensor
    complete: tf.Tensor

    @property
    def rank(self) -> tf.Tensor:
        """(count,), 0 for the likeliest."""
        return tf.range(self.shares.shape[-1])

    @property
    def probabilities(self) -> tf.Tensor:
        """(batch, count), of the tokens that are left."""
        return self.shares / self.total

    def keep(self, kept: tf.Tensor, when: tf.Tensor | bool = True) -> "Candidates":
        """Leaves out all tokens but the likeliest and those `kept`.

        Args:
            kept: (count,) or (batch, count) booleans, true for the first tokens of each row.
            when: scalar boolean; if false, all stay.
        """
        shares = tf.where(kept | (self.rank == 0) | tf.logical_not(when), self.shares, 0.0)
        total = tf.where(when, tf.reduce_sum(shares, -1, keepdims=True), self.total)
        return self._replace(shares=shares, total=total)


def repetition_penalty(logits: tf.Tensor, seen: tf.Tensor, penalty: tf.Tensor) -> tf.Tensor:
    """Makes tokens that have occurred less likely (CTRL, https://arxiv.org/abs/1909.05858).

    Args:
        logits: (batch, vocab_size).
        seen: (batch, vocab_size) booleans, whether the token has occurred.
        penalty: scalar; positive logits are divided by it, others multiplied; 1: no change.

    Returns:
        (batch, vocab_size).

    Example:
        >>> repetition_penalty(tf.constant([[3.0, -1.0]]), tf.constant([[True, True]]), 2.0).numpy()
        array([[ 1.5, -2. ]], dtype=float32)
    """
    penalized = tf.where(logits > 0, logits / penalty, logits * penalty)
    return tf.where(seen, penalized, logits)


def temperature(candidates: Candidates, value: tf.Tensor) -> Candidates:
    """Divides the logits by a scalar; 0 leaves only the likeliest token."""
    divisor = tf.maximum(value, 1e-6)
    logits, all_logits = candidates.logits / divisor, candidates.all_logits / divisor
    changed = candidates._replace(
        logits=logits,
        all_logits=all_logits,
        shares=tf.exp(logits),
        total=tf.reduce_sum(tf.exp(all_logits), -1, keepdims=True),
    )
    return changed.keep(candidates.rank == 0, when=value <= 0)


def top_k(candidates: Candidates, k: tf.Tensor) -> Candidates:
    """Keeps the k likeliest tokens; 0: all.

    Example:
        >>> settings = sampling_settings(GenerationConfig(temperature=1.0, top_k=0, top_p=1.0))
        >>> all_tokens = filter_candidates(tf.math.log([[0.1, 0.5, 0.4]]), settings)
        >>> top_k(all_tokens, 2).probabilities.numpy().round(2)
        array([[0.56, 0.44, 0.  ]], dtype=float32)
    """
    count = candidates.shares.shape[-1]
    left = candidates.keep(candidates.rank < k, when=k > 0)
    return left._replace(complete=left.complete & (k <= count))


def top_p(candidates: Candidates, p: tf.Tensor) -> Candidates:
    """Keeps the fewest of the tokens that are left whose probabilities reach p.

    Nucleus sampling, https://arxiv.org/abs/1904.09751.

    Example:
        >>> settings = sampling_settings(GenerationConfig(temperature=1.0, top_k=0, top_p=1.0))
        >>> all_tokens = filter_candidates(tf.math.log([[0.1, 0.5, 0.4]]), settings)
        >>> top_p(all_tokens, 0.8).probabilities.numpy().round(2)
        array([[0.56, 0.44, 0.  ]], dtype=float32)
    """
    probabilities = candidates.probabilities
    before = tf.cumsum(probabilities, -1, exclusive=True)
    return candidates._replace(shares=probabilities).keep(before < p)


def min_p(candidates: Candidates, p: tf.Tensor) -> Candidates:
    """Keeps tokens at least p times as likely as the likeliest; 0: all.

    https://arxiv.org/abs/2407.01082.

    Example:
        >>> settings = sampling_settings(GenerationConfig(temperature=1.0, top_k=0, top_p=1.0))
        >>> all_tokens = filter_candidates(tf.math.log([[0.1, 0.5, 0.4]]), settings)
        >>> min_p(all_tokens, 0.5).probabilities.numpy().round(2)
        array([[0.56, 0.44, 0.  ]], dtype=float32)
    """
    return candidates.keep(tf.exp(candidates.logits) >= p)


# In the order in which they apply. The first kind changes logits before the likeliest are looked
# for: (logits, seen, value) -> logits.
LOGIT_FILTERS = {"repetition_penalty": repetition_penalty}
FILTERS = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}


def sampling_settings(config: GenerationConfig) -> Settings:
    """The value of each filter as a tensor, so that one compiled loop serves all values.

    Example:
        >>> settings = sampling_settings(GenerationConfig(temperature=0, top_p=1))
        >>> settings["temperature"].dtype.name, settings["top_k"].dtype.name
        ('float32', 'int32')
    """
    kinds = {name: config.spec(name).type for name in [*LOGIT_FILTERS, *FILTERS]}
    return {
        name: tf.constant(getattr(config, name), tf.int32 if kind is int else tf.float32)
        for name, kind in kinds.items()
    }


def filter_logits(logits: tf.Tensor, seen: tf.Tensor, settings: Settings) -> tf.Tensor:
    """The logits after LOGIT_FILTERS; arguments as for `sample_tokens`."""
    for name, change in LOGIT_FILTERS.items():
        logits = change(logits, seen, settings[name])
    return logits


def filter_candidates(
    logits: tf.Tensor, settings: Settings, count: int | None = None
) -> Candidates:
    """The tokens to draw from, after FILTERS.

    Args:
        logits: (batch, vocab_size).
        settings: of each filter its value.
        count: how many of the likeliest tokens to look at; all by default. With fewer, the result
            holds if it is `complete` and the last candidate is left out.

    Returns:
        The candidates; their `probabilities` fall.

    Example:
        >>> settings = sampling_settings(GenerationConfig(temperature=1.0, top_k=2, top_p=1.0))
        >>> left = filter_candidates(tf.math.log([[0.1, 0.5, 0.4]]), settings)
        >>> left.ids.numpy().tolist()
        [[1, 2, 0]]
        >>> [round(float(p), 2) for p in left.probabilities[0]]
        [0.56, 0.44, 0.0]
    """
    # The largest logit by itself: a slice of top_k's result would keep XLA from doing a fast one.
    largest = tf.reduce_max(logits, -1, keepdims=True)
    likeliest, ids = tf.math.top_k(logits, count or logits.shape[-1])
    relative = likeliest - largest
    all_relative = logits - largest if count else relative
    total = tf.reduce_sum(tf.exp(all_relative), -1, keepdims=True)
    candidates = Candidates(
        ids, relative, all_relative, tf.exp(relative), total, complete=tf.constant(True)
    )
    for name, change in FILTERS.items():
        candidates = change(candidates, settings[name])
    return candidates


def pick(candidates: Candidates, draws: tf.Tensor) -> tf.Tensor:
    """One of the ids per row, by inverting the cumulative distribution.

    Args:
        candidates: what filters have left.
        draws: (batch,), each from 0 to below 1.

    Returns:
        (batch,) of the ids' type.
    """
    probabilities = candidates.probabilities
    # How many tokens the draw has passed: (batch, count) -> (batch,).
    passed = tf.reduce_sum(tf.cast(tf.cumsum(probabilities, -1) <= draws[:, None], tf.int32), -1)
    # The last that may be drawn, which rounding must not pass.
    last = tf.reduce_max(tf.where(probabilities > 0, candidates.rank, 0), -1)
    return tf.gather(candidates.ids, tf.minimum(passed, last), batch_dims=1)


def sample_tokens(
    logits: tf.Tensor, seen: tf.Tensor, settings: Settings, draws: tf.Tensor
) -> tf.Tensor:
    """One token per row.

    Args:
        logits: (batch, vocab_size).
        seen: (batch, vocab_size) booleans, whether the token has occurred.
        settings: of each filter its value, from `sampling_settings`.
        draws: (batch,), each from 0 to below 1; what is random about the tokens.

    Returns:
        (batch,) int32.
    """
    logits = filter_logits(logits, seen, settings)
    if logits.shape[-1] <= FEW:
        return pick(filter_candidates(logits, settings), draws)
    few = filter_candidates(logits, settings, count=FEW)
    are_enough = few.complete & tf.reduce_all(tf.reduce_min(few.shares, -1) == 0)
    return tf.cond(
        are_enough,
        lambda: pick(few, draws),
        lambda: pick(filter_candidates(logits, settings), draws),
    )
