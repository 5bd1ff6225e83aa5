"""Which token comes next: filters of the distribution, and the draw from it."""

from keras_lm.model.backend import tf

FEW = 256  # of so many likeliest tokens most settings choose; more are sorted only when needed


def penalize(logits, seen, repetition_penalty) -> tf.Tensor:
    """Logits with the tokens that have occurred made less likely (CTRL, 1909.05858).

    Args:
        logits: (batch, vocab_size).
        seen: (batch, vocab_size) booleans, whether the token has occurred.
        repetition_penalty: scalar; positive logits are divided by it, others multiplied; 1: none.
    """
    penalized = tf.where(logits > 0, logits / repetition_penalty, logits * repetition_penalty)
    return tf.where(seen, penalized, logits)


def filtered_probabilities(
    logits, temperature, top_k, top_p, min_p, count: int | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """The distribution to sample from, likeliest token first.

    Args:
        logits: (batch, vocab_size).
        temperature: scalar; 0 leaves the likeliest token only.
        top_k: scalar integer; only the k likeliest; 0 for all.
        top_p: scalar; only the fewest whose probabilities reach p; the likeliest always stays
            (nucleus sampling, https://arxiv.org/abs/1904.09751).
        min_p: scalar; only those at least min_p times as likely as the likeliest
            (https://arxiv.org/abs/2407.01082); 0 for all.
        count: how many of the likeliest tokens to look at; all by default. With fewer, top_k must
            not be larger, and the filters must leave out the last of them.

    Returns:
        Probabilities, falling, and the token ids they belong to, both (batch, count).
    """
    vocab_size = logits.shape[-1]
    count = count or vocab_size
    # The largest logit by itself: a slice of top_k's result would keep XLA from doing a fast one.
    largest = tf.reduce_max(logits, -1, keepdims=True)
    likeliest, ids = tf.math.top_k(logits, count)

    def weights(x):  # in proportion to the probabilities, 1 for the likeliest
        return tf.exp((x - largest) / tf.maximum(temperature, 1e-6))

    rank = tf.range(count)
    in_top_k = (rank < tf.where(top_k > 0, top_k, vocab_size)) | (rank == 0)
    of_likeliest = weights(likeliest)
    probabilities = tf.where(in_top_k, of_likeliest, 0.0)
    total = tf.reduce_sum(probabilities, -1, keepdims=True)
    if count < vocab_size:
        of_all = tf.reduce_sum(weights(logits), -1, keepdims=True)
        total = tf.where(top_k > 0, total, of_all)
    probabilities /= total
    before = tf.cumsum(probabilities, -1, exclusive=True)
    kept = ((before < top_p) & (of_likeliest >= min_p) & (temperature > 0)) | (rank == 0)
    probabilities = tf.where(kept, probabilities, 0.0)
    return probabilities / tf.reduce_sum(probabilities, -1, keepdims=True), ids


def pick(probabilities, ids, draws) -> tf.Tensor:
    """One of the ids a row, by inverting the cumulative distribution.

    Args:
        probabilities, ids: (batch, count).
        draws: (batch,), each from 0 to below 1.

    Returns:
        (batch,) of the ids' type.
    """
    # Places whose cumulative probability the draw has passed; rounding must not pass the last one.
    passed = tf.cast(tf.cumsum(probabilities, -1) <= draws[:, None], tf.int32)
    places = tf.range(probabilities.shape[-1])
    last = tf.reduce_max(tf.where(probabilities > 0, places, 0), -1)
    return tf.gather(ids, tf.minimum(tf.reduce_sum(passed, -1), last), batch_dims=1)


def sample_tokens(logits, temperature, top_k, top_p, min_p, draws) -> tf.Tensor:
    """One token a row.

    Args:
        logits: (batch, vocab_size).
        temperature, top_k, top_p, min_p: as for `filtered_probabilities`.
        draws: (batch,), each from 0 to below 1; what is random about the tokens.

    Returns:
        (batch,) int32.
    """
    settings = (temperature, top_k, top_p, min_p)
    if logits.shape[-1] <= FEW:
        return pick(*filtered_probabilities(logits, *settings), draws)
    few, few_ids = filtered_probabilities(logits, *settings, count=FEW)
    are_enough = (top_k <= FEW) & tf.reduce_all(tf.reduce_min(few, -1) == 0)
    return tf.cond(
        are_enough,
        lambda: pick(few, few_ids, draws),
        lambda: pick(*filtered_probabilities(logits, *settings), draws),
    )
