"""A sequence in chunks of equal length, and sums along them that fade, for linear attention."""

from keras_lm.model.backend import ops, tf


def split_chunks(x, chunk_length: int):
    """(batch, heads, length, size) -> (batch, heads, chunks, chunk_length, size), zeros at the end.

    Zero shares write nothing to a slot, and zero keys come after every row that counts.

    Example:
        >>> split_chunks(ops.ones((1, 1, 5, 8)), chunk_length=2).shape
        TensorShape([1, 1, 3, 2, 8])
    """
    batch, num_heads, length, size = ops.shape(x)
    num_chunks = (length + chunk_length - 1) // chunk_length
    missing = num_chunks * chunk_length - length
    x = ops.pad(x, ((0, 0), (0, 0), (0, missing), (0, 0)))
    return ops.reshape(x, (batch, num_heads, num_chunks, chunk_length, size))


def shift_chunks(x, count: int):
    """Every chunk (axis 2) gets what was `count` chunks before it, the first ones zeros.

    Example:
        >>> shift_chunks(ops.reshape(ops.arange(3), (1, 1, 3)), 1).numpy().tolist()
        [[[0, 0, 1]]]
    """
    return ops.concatenate([ops.zeros_like(x[:, :, :count]), x[:, :, :-count]], axis=2)


def decayed_sum(x, log_decay):
    """x_c + gamma x_{c-1} + gamma^2 x_{c-2} + ... along the chunks.

    Args:
        x: (batch, num_heads, chunks, num_slots, size) in float32.
        log_decay: log gamma; broadcasts to x with 1 chunk and size 1.

    Returns:
        The same shape as x.

    Example:
        >>> x = ops.ones((1, 1, 3, 1, 1))
        >>> decayed_sum(x, ops.log(ops.array([[[[[0.5]]]]]))).numpy().ravel().tolist()
        [1.0, 1.5, 1.75]
    """
    decay = ops.broadcast_to(ops.exp(log_decay), ops.shape(x[:, :, :1, :, :1]))
    return ops.moveaxis(_decayed_sum(ops.moveaxis(x, 2, 0), decay[:, :, 0]), 0, 2)


def decayed_sum_at_once(x, log_decay):
    """`decayed_sum` as one product, in time that grows with the square of the chunks.

    Example:
        >>> x = ops.ones((1, 1, 3, 1, 1))
        >>> decayed_sum_at_once(x, ops.log(ops.array([[[[0.5]]]]))).numpy().ravel().tolist()
        [1.0, 1.5, 1.75]
    """
    chunk = ops.arange(ops.shape(x)[2])
    age = ops.expand_dims(chunk, -1) - chunk  # (chunks, chunks)
    decayed = ops.exp(ops.swapaxes(log_decay, -3, -2) * ops.cast(age, "float32"))
    # An age of 0 by itself, since the logarithm may be minus infinity.
    weights = ops.where(age > 0, decayed, ops.cast(age == 0, "float32"))
    # (batch, num_heads, num_slots, chunks, size) and back
    return ops.swapaxes(ops.matmul(weights, ops.swapaxes(x, 2, 3)), 2, 3)


@tf.autograph.experimental.do_not_convert  # or AutoGraph may drop the next line
@tf.custom_gradient
def _decayed_sum(x, decay):
    """Of chunks first, (chunks, ...), with a gradient that is a sum from the end back."""
    sums = _scan_chunks(x, decay)

    def gradient(upstream):
        of_x = _scan_chunks(upstream, decay, reverse=True)
        of_decay = tf.reduce_sum(of_x[1:] * sums[:-1], axis=(0, -1))
        return of_x, tf.expand_dims(of_decay, -1)

    return sums, gradient


def _scan_chunks(x, decay, reverse=False):
    def add(total, chunk):
        total = decay * total + chunk
        return total, total

    return ops.scan(add, ops.zeros_like(x[0]), x, reverse=reverse)[1]
