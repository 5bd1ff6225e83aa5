"""The cross-entropy in chunks: value, accuracy and gradients against a plain one."""

import numpy as np
import pytest
import tensorflow as tf

from keras_lm.training import losses
from keras_lm.training.losses import next_token_loss

pytestmark = pytest.mark.xla

TOKENS, D_MODEL, VOCAB = 31, 7, 23


def arguments(seed: int = 3):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(TOKENS, D_MODEL)).astype("float32")
    kernel = generator.normal(size=(D_MODEL, VOCAB)).astype("float32")
    targets = generator.integers(0, VOCAB, TOKENS).astype("int32")
    targets[[4, 11, 30]] = -1
    return x, kernel, targets


def plain(x, kernel, targets, soft_cap):
    """Loss, accuracy and gradients with all logits at once, in float64."""
    x, kernel = tf.constant(x, tf.float64), tf.constant(kernel, tf.float64)
    rows = np.flatnonzero(targets >= 0)
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        logits = tf.gather(x, rows) @ kernel
        if soft_cap:
            logits = soft_cap * tf.tanh(logits / soft_cap)
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(targets[rows], logits)
        loss = tf.reduce_mean(each)
    accuracy = np.mean(np.argmax(logits, -1) == targets[rows])
    gradients = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, [x, kernel])]
    return loss, accuracy, *gradients


def chunked(x, kernel, targets, soft_cap=0.0, scale=1.0):
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        loss, accuracy = next_token_loss(x, kernel, targets, soft_cap)
        scaled = scale * loss
    return loss, accuracy, *tape.gradient(scaled, [x, kernel])


@pytest.mark.parametrize("soft_cap", [0.0, 2.5])
@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 5, TOKENS - 1, TOKENS, TOKENS + 1])
def test_chunks_of_any_size_give_the_plain_loss_and_gradients(monkeypatch, rows, xla, soft_cap):
    monkeypatch.setattr(losses, "CHUNK_LOGITS", rows * VOCAB)
    run = tf.function(chunked, jit_compile=True) if xla else chunked
    x, kernel, targets = arguments()
    tensors = tf.constant(x), tf.constant(kernel), tf.constant(targets)
    actual = run(*tensors, soft_cap=soft_cap)
    for ours, theirs in zip(actual, plain(x, kernel, targets, soft_cap), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


def test_gradients_scale_with_what_comes_from_above():
    tensors = [tf.constant(x) for x in arguments()]
    once, often = chunked(*tensors), chunked(*tensors, scale=1024.0)
    for small, large in zip(once[2:], often[2:], strict=True):
        np.testing.assert_array_equal(1024.0 * small, large)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_errs_by_no_more_than_its_inputs_do(dtype):
    x, kernel, targets = arguments()
    x_half, kernel_half = tf.cast(x, dtype), tf.constant(kernel)
    actual = chunked(x_half, kernel_half, tf.constant(targets), scale=2.0**12)
    assert actual[2].dtype == dtype and actual[3].dtype == tf.float32
    rounding = {"float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    expected = plain(tf.cast(x_half, tf.float64), kernel, targets, 0.0)
    np.testing.assert_allclose(actual[0], expected[0], rtol=0, atol=4 * rounding)
    for ours, theirs in zip(actual[2:], expected[2:], strict=True):
        error = np.abs(np.array(ours, "float64") / 2.0**12 - theirs).max()
        assert error < 4 * rounding * np.abs(theirs).max()


def test_where_all_tokens_are_alike_none_is_right():
    x, kernel, targets = arguments()
    loss, accuracy = next_token_loss(tf.constant(x), tf.zeros_like(kernel), tf.constant(targets))
    np.testing.assert_allclose(loss, np.log(VOCAB), rtol=1e-6)
    assert accuracy == 0.0


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("vocab_size", [1, 2, 3, 1000])
@pytest.mark.parametrize("lead", [1e-6, 0.1, 30.0])
def test_a_likeliest_token_is_right_however_small_its_lead(vocab_size, lead, xla):
    kernel = np.zeros((1, vocab_size), "float32")
    kernel[0, vocab_size // 2] = lead
    run = tf.function(next_token_loss, jit_compile=xla)
    targets = tf.constant([vocab_size // 2, 0, vocab_size // 2, -1])
    _, accuracy = run(tf.ones((4, 1)), tf.constant(kernel), targets)
    assert float(accuracy) == pytest.approx(1.0 if vocab_size == 1 else 2 / 3)


def test_without_a_token_that_counts_the_loss_is_zero():
    x, kernel, _ = arguments()
    results = chunked(tf.constant(x), tf.constant(kernel), tf.fill([TOKENS], -1))
    for value in results:
        np.testing.assert_array_equal(value, tf.zeros_like(value))
