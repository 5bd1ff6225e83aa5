"""The cross-entropy of the next token, some rows of logits at a time.

Of the logits (tokens, vocab_size) only a chunk of rows exists at once, in the forward pass, where
its gradient is known already: softmax minus one-hot. So nothing as large as the logits is kept for
the backward pass, and none of it is computed twice.
"""

from typing import NamedTuple

from keras_lm.model.backend import tf

CHUNK_LOGITS = 2**22  # at once: 16 MB; fewer cost time, more cost memory


class LossSums(NamedTuple):
    """Sums over some tokens, in float32.

    Attributes:
        loss: scalar, nats.
        hits: scalar, how many targets are the likeliest token.
        dx: (tokens, d_model), the loss's gradient by the stream; of each token, no sum.
        d_kernel: (d_model, vocab_size), by the output layer's kernel.
    """

    loss: tf.Tensor
    hits: tf.Tensor
    dx: tf.Tensor
    d_kernel: tf.Tensor


def next_token_loss(
    x: tf.Tensor, kernel: tf.Tensor, targets: tf.Tensor, soft_cap: float = 0.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean cross-entropy and accuracy of the tokens that follow; differentiable once.

    Args:
        x: (tokens, d_model), the normed stream.
        kernel: (d_model, vocab_size), of the output layer, in float32.
        targets: (tokens,) ids; a token of -1 does not count.
        soft_cap: logits are cap * tanh(logits / cap); 0: as they are.

    Returns:
        Scalars in float32: nats per token, and the part of tokens whose target is the likeliest.

    Example:
        >>> x, kernel = tf.constant([[1.0, 0.0]]), tf.constant([[9.0, 0.0], [0.0, 0.0]])
        >>> loss, accuracy = next_token_loss(x, kernel, tf.constant([0]))
        >>> round(float(loss), 4), float(accuracy)
        (0.0001, 1.0)
    """

    @tf.custom_gradient
    def loss_and_accuracy(x, kernel):
        num_tokens = tf.maximum(tf.reduce_sum(tf.cast(targets >= 0, tf.float32)), 1.0)
        sums = _sums(x, kernel, targets, soft_cap)

        def gradient(upstream, _):
            scale = upstream / num_tokens
            return tf.cast(sums.dx * scale, x.dtype), sums.d_kernel * scale

        return (sums.loss / num_tokens, sums.hits / num_tokens), gradient

    return loss_and_accuracy(x, kernel)


def _sums(x: tf.Tensor, kernel: tf.Tensor, targets: tf.Tensor, soft_cap: float) -> LossSums:
    """The sums over all tokens; arguments as for `next_token_loss`."""
    num_tokens, vocab_size = x.shape[0], kernel.shape[1]
    num_chunks = -(-num_tokens * vocab_size // CHUNK_LOGITS)
    rows = -(-num_tokens // num_chunks)
    if num_chunks == 1:
        return _chunk(x, kernel, targets, soft_cap)
    missing = num_chunks * rows - num_tokens
    # (tokens, d_model) -> (num_chunks, rows, d_model)
    x_chunks = tf.reshape(tf.pad(x, [[0, missing], [0, 0]]), (num_chunks, rows, -1))
    # (tokens,) -> (num_chunks, rows); what is added does not count
    target_chunks = tf.reshape(tf.pad(targets, [[0, missing]], constant_values=-1), (-1, rows))

    def add_chunk(index, sums):
        more = _chunk(x_chunks[index], kernel, target_chunks[index], soft_cap)
        dx = tf.tensor_scatter_nd_update(sums.dx, [[index]], more.dx[None])
        d_kernel = sums.d_kernel + more.d_kernel
        return index + 1, LossSums(sums.loss + more.loss, sums.hits + more.hits, dx, d_kernel)

    zeros = LossSums(
        tf.constant(0.0), tf.constant(0.0), tf.zeros(x_chunks.shape), tf.zeros(kernel.shape)
    )
    _, sums = tf.while_loop(lambda index, _: index < num_chunks, add_chunk, (0, zeros))
    # (num_chunks, rows, d_model) -> (tokens, d_model)
    return sums._replace(dx=tf.reshape(sums.dx, (num_chunks * rows, -1))[:num_tokens])


def _chunk(x: tf.Tensor, kernel: tf.Tensor, targets: tf.Tensor, soft_cap: float) -> LossSums:
    """`_sums` of some rows at once: (rows, d_model) and their targets (rows,)."""
    weights = tf.cast(kernel, x.dtype)
    logits = tf.cast(tf.matmul(x, weights), tf.float32)  # (rows, vocab_size)
    if soft_cap:
        squashed = tf.tanh(logits / soft_cap)
        logits = soft_cap * squashed
    counts = tf.cast(targets >= 0, tf.float32)[:, None]  # (rows, 1), as all sums of a row
    target_logits = tf.gather(logits, tf.maximum(targets, 0)[:, None], batch_dims=1)
    maxima = tf.reduce_max(logits, -1, keepdims=True)
    exponentials = tf.exp(logits - maxima)
    totals = tf.reduce_sum(exponentials, -1, keepdims=True)
    loss = tf.reduce_sum(counts * (tf.math.log(totals) + maxima - target_logits))
    # An argmax would take longer than all else.
    is_right = target_logits == maxima
    if kernel.shape[1] > 1:  # where all are equally likely, none is right
        is_right &= tf.reduce_min(logits, -1, keepdims=True) < maxima
    hits = tf.reduce_sum(counts * tf.cast(is_right, tf.float32))
    is_target = tf.range(kernel.shape[1]) == targets[:, None]  # (rows, vocab_size)
    d_logits = counts * (exponentials / totals - tf.cast(is_target, tf.float32))
    if soft_cap:
        d_logits *= 1.0 - tf.square(squashed)
    d_logits = tf.cast(d_logits, x.dtype)
    dx = tf.cast(tf.matmul(d_logits, weights, transpose_b=True), tf.float32)
    d_kernel = tf.cast(tf.matmul(x, d_logits, transpose_a=True), tf.float32)
    return LossSums(loss, hits, dx, d_kernel)
