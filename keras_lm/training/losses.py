"""The cross-entropy of the next token, some rows of logits at a time.

Of the logits (tokens, vocab_size) only a chunk of rows exists at once, in the forward pass, where
its gradient is known already: softmax minus one-hot. So nothing as large as the logits is kept for
the backward pass, and none of it is computed twice.
"""

from keras_lm.model.backend import tf

CHUNK_LOGITS = 2**22  # at once: 16 MB; fewer cost time, more cost memory


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
    """

    @tf.custom_gradient
    def loss_and_accuracy(x, kernel):
        num_tokens = tf.maximum(tf.reduce_sum(tf.cast(targets >= 0, tf.float32)), 1.0)
        loss, right, dx, d_kernel = _sums(x, kernel, targets, soft_cap)

        def gradient(upstream, _):
            scale = upstream / num_tokens
            return tf.cast(dx * scale, x.dtype), d_kernel * scale

        return (loss / num_tokens, right / num_tokens), gradient

    return loss_and_accuracy(x, kernel)


def _sums(x, kernel, targets, soft_cap):
    """Sums over all tokens of loss and hits, and the sum's gradients, in float32."""
    num_tokens, vocab_size = x.shape[0], kernel.shape[1]
    num_chunks = -(-num_tokens * vocab_size // CHUNK_LOGITS)
    rows = -(-num_tokens // num_chunks)
    if num_chunks == 1:
        return _chunk(x, kernel, targets, soft_cap)
    missing = num_chunks * rows - num_tokens
    x_chunks = tf.reshape(tf.pad(x, [[0, missing], [0, 0]]), (num_chunks, rows, -1))
    target_chunks = tf.reshape(tf.pad(targets, [[0, missing]], constant_values=-1), (-1, rows))

    def add_chunk(index, loss, right, dx, d_kernel):
        more = _chunk(x_chunks[index], kernel, target_chunks[index], soft_cap)
        dx = tf.tensor_scatter_nd_update(dx, [[index]], more[2][None])
        return index + 1, loss + more[0], right + more[1], dx, d_kernel + more[3]

    start = (0, 0.0, 0.0, tf.zeros(x_chunks.shape), tf.zeros(kernel.shape))
    _, loss, right, dx, d_kernel = tf.while_loop(
        lambda index, *_: index < num_chunks, add_chunk, start
    )
    return loss, right, tf.reshape(dx, (num_chunks * rows, -1))[:num_tokens], d_kernel


def _chunk(x, kernel, targets, soft_cap):
    """`_sums` of some rows at once."""
    weights = tf.cast(kernel, x.dtype)
    logits = tf.cast(tf.matmul(x, weights), tf.float32)  # (rows, vocab_size)
    if soft_cap:
        squashed = tf.tanh(logits / soft_cap)
        logits = soft_cap * squashed
    counts = tf.cast(targets >= 0, tf.float32)[:, None]
    target_logits = tf.gather(logits, tf.maximum(targets, 0)[:, None], batch_dims=1)
    maxima = tf.reduce_max(logits, -1, keepdims=True)
    exponentials = tf.exp(logits - maxima)
    totals = tf.reduce_sum(exponentials, -1, keepdims=True)
    loss = tf.reduce_sum(counts * (tf.math.log(totals) + maxima - target_logits))
    # An argmax would take longer than all else.
    is_right = target_logits == maxima
    if kernel.shape[1] > 1:  # where all are equally likely, none is right
        is_right &= tf.reduce_min(logits, -1, keepdims=True) < maxima
    right = tf.reduce_sum(counts * tf.cast(is_right, tf.float32))
    is_target = tf.range(kernel.shape[1]) == targets[:, None]
    d_logits = counts * (exponentials / totals - tf.cast(is_target, tf.float32))
    if soft_cap:
        d_logits *= 1.0 - tf.square(squashed)
    d_logits = tf.cast(d_logits, x.dtype)
    dx = tf.cast(tf.matmul(d_logits, weights, transpose_b=True), tf.float32)
    d_kernel = tf.cast(tf.matmul(x, d_logits, transpose_a=True), tf.float32)
    return loss, right, dx, d_kernel
