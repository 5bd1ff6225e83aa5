"""Windows: their order is a pure function of (seed, step), and every token gets its turn."""

import numpy as np
import pytest
import tensorflow as tf

from keras_lm.training.windows import WindowOrder, cut_windows

CONTEXT = 7
# Texts of one window per epoch, of two or three, and of many.
ONE_WINDOW = [CONTEXT + 1, CONTEXT + 2, 2 * CONTEXT, 3 * CONTEXT - 1]
SEVERAL_WINDOWS = [3 * CONTEXT, 3 * CONTEXT + 1, 4 * CONTEXT - 1, 4 * CONTEXT, 83, 211]
LENGTHS = ONE_WINDOW + SEVERAL_WINDOWS


def epoch(order, number=0):
    """All windows of one epoch, one by one."""
    count = order.windows_per_epoch
    return [order.offsets(number * count + index, 1)[0] for index in range(count)]


def test_the_lengths_here_have_one_window_or_several():
    counts = [WindowOrder(length, CONTEXT, 0).windows_per_epoch for length in LENGTHS]
    assert counts == [1] * len(ONE_WINDOW) + [2, 2, 2, 3, 10, 29]


def test_windows_depend_on_seed_and_step_only():
    steps = [5, 0, 40, 5, 3, 0]
    asked = [WindowOrder(211, CONTEXT, seed=3).offsets(step, 5) for step in steps]
    order = WindowOrder(211, CONTEXT, seed=3)
    for step, windows in zip(steps, asked, strict=True):
        assert (windows.dtype, windows.shape) == (np.dtype("int32"), (5,))
        np.testing.assert_array_equal(order.offsets(step, 5), windows)


@pytest.mark.parametrize("num_tokens", SEVERAL_WINDOWS)
def test_steps_of_another_size_read_the_same_windows_in_the_same_order(num_tokens):
    order = WindowOrder(num_tokens, CONTEXT, seed=3)
    one_by_one = np.concatenate([order.offsets(step, 1) for step in range(60)])
    for count in (2, 3, 5):
        together = np.concatenate([order.offsets(step, count) for step in range(60 // count)])
        np.testing.assert_array_equal(together, one_by_one)
    assert len(set(one_by_one.tolist())) > 1


@pytest.mark.parametrize("num_tokens", LENGTHS)
def test_every_window_lies_inside_the_text(num_tokens):
    for seed in range(20):
        offsets = WindowOrder(num_tokens, CONTEXT, seed).offsets(0, 100)
        assert offsets.min() >= 0
        assert offsets.max() + CONTEXT + 1 <= num_tokens


@pytest.mark.parametrize("num_tokens", SEVERAL_WINDOWS)
def test_no_token_is_predicted_twice_in_an_epoch(num_tokens):
    order = WindowOrder(num_tokens, CONTEXT, seed=3)
    for number in range(5):
        starts = np.sort(epoch(order, number))
        assert (np.diff(starts) == CONTEXT).all()


@pytest.mark.parametrize("num_tokens", LENGTHS)
def test_an_epoch_leaves_less_than_two_windows_of_the_text_unread(num_tokens):
    order = WindowOrder(num_tokens, CONTEXT, seed=3)
    assert num_tokens - 1 - order.windows_per_epoch * CONTEXT < 2 * CONTEXT


@pytest.mark.parametrize("num_tokens", LENGTHS)
def test_every_token_but_the_first_is_predicted_in_some_epoch(num_tokens):
    order = WindowOrder(num_tokens, CONTEXT, seed=3)
    starts = np.concatenate([epoch(order, number) for number in range(200)])
    predicted = np.unique(starts[:, None] + 1 + np.arange(CONTEXT))
    np.testing.assert_array_equal(predicted, np.arange(1, num_tokens))


def test_seeds_and_epochs_differ():
    orders = [epoch(WindowOrder(211, CONTEXT, seed)) for seed in range(5)]
    order = WindowOrder(211, CONTEXT, seed=0)
    orders += [epoch(order, number) for number in range(1, 5)]
    assert len({tuple(offsets) for offsets in orders}) == len(orders)


def test_an_epoch_is_shuffled():
    starts = epoch(WindowOrder(10_007, CONTEXT, seed=3))
    assert abs(np.corrcoef(starts, np.arange(len(starts)))[0, 1]) < 0.1


def test_windows_are_cut_where_they_begin_and_the_end_is_repeated():
    tokens = tf.constant(np.arange(100, 113), tf.int32)
    windows = cut_windows(tokens, tf.constant([[0, 5, 8], [9, 12, 13]]), 5).numpy()
    assert windows.shape == (2, 3, 5)
    np.testing.assert_array_equal(windows[0, 0], [100, 101, 102, 103, 104])
    np.testing.assert_array_equal(windows[0, 2], [108, 109, 110, 111, 112])
    np.testing.assert_array_equal(windows[1, 0], [109, 110, 111, 112, 112])
    np.testing.assert_array_equal(windows[1, 2], [112] * 5)
