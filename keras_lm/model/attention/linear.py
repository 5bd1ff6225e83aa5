"""Attention in time that grows with the length: the recent past exactly, the rest in slots.

A causal Linformer (https://arxiv.org/abs/2006.04768) in chunks, whose low-rank projection along the
sequence is a running sum and so never sees the future; the slots are written as in ABC
(https://arxiv.org/abs/2110.02488), fade as in GSA (https://arxiv.org/abs/2409.07146), and are
joined with a window as in Transformer-VQ (https://arxiv.org/abs/2309.16354). For one head, chunks
of C tokens, c = floor(t / C), and r slots:

    phi_i = softmax over the slots of W_phi x_i                              (r,)
    S^K_c = sum over chunks j <= c - 2 of gamma^(c - 2 - j) Phi_j^T K_j      (r, head_dim)
    S^V_c, Z_c: likewise of Phi_j^T V_j and of Phi_j^T 1
    K~_c = S^K_c / Z_c,  V~_c = S^V_c / Z_c
    a_t = softmax of [q_t K~_c / sqrt(d) + log Z_c + beta] joined with
          [q_t k_i / sqrt(d) for i in the window: chunks c - 1 and c, i <= t]
    o_t = a_t [V~_c; V_window]

So a slot counts as the Z tokens it stands for, times e^beta. Rotary positions turn the queries and
keys of the window only, since a mean over turned keys has no position. The softmax, log Z and the
sums are in float32.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_lm.model.attention.base import MASKED, CausalSelfAttention, Rings
from keras_lm.model.attention.chunks import (
    decayed_sum,
    decayed_sum_at_once,
    shift_chunks,
    split_chunks,
)
from keras_lm.model.backend import keras, ops, tf
from keras_lm.settings.checks import check_value

# At e^0 slots drown the window in averages, so their gates beta begin nearly closed, spread over
# the heads between these two. They move fast, so that useful slots open soon.
FIRST_GATES = (-6.0, -10.0)
GATE_SPEED = 8.0  # beta is this times its weight
LONGEST_MEMORY = 64.0  # chunks; the slots' first time constants go from 1 to this
EMPTY = 1e-20  # a slot that holds less than this part of a token counts as empty


class Projected(NamedTuple):
    """What the window and the slots need of a sequence.

    Attributes:
        queries, keys, values: (batch, num_heads, length, head_dim), queries scaled, both turned.
        slot_queries, slot_keys: the same queries and keys, unturned.
        shares: phi, (batch, num_heads, length, num_slots), in float32.
    """

    queries: tf.Tensor
    keys: tf.Tensor
    values: tf.Tensor
    slot_queries: tf.Tensor
    slot_keys: tf.Tensor
    shares: tf.Tensor

    def split(self, chunk_length: int) -> "Projected":
        """The same in chunks: each (batch, num_heads, chunks, chunk_length, size)."""
        return Projected(*(split_chunks(part, chunk_length) for part in self))


class WindowAndSlots(NamedTuple):
    """A state for generation: the rings of a window of two chunks, and sums over slots.

    Attributes:
        keys, values: as in `Rings`.
        slots: S^K, S^V and Z side by side, (batch * num_heads, num_slots, 2 * head_dim + 1) in
            float32.
        previous: what the chunk before will add to the slots, the same shape.
        own: what the chunk in progress will add to them, the same shape.
    """

    keys: tf.Tensor
    values: tf.Tensor
    slots: tf.Tensor
    previous: tf.Tensor
    own: tf.Tensor


@keras.saving.register_keras_serializable(package="keras_lm")
class LinearAttention(CausalSelfAttention):
    """A causal Linformer (https://arxiv.org/abs/2006.04768): a window, and slots for what is older.

    Up to a length of 2 * chunk_length it equals StandardAttention. Time and memory grow with the
    length, and what generation keeps does not grow at all.

    Args:
        num_heads, ...: as StandardAttention's.
        chunk_length: C, tokens per chunk; a token sees its own chunk and the one before exactly.
        num_slots: r, slots per head.

    Example:
        >>> LinearAttention(num_heads=2, chunk_length=2)(ops.ones((1, 7, 8))).shape
        TensorShape([1, 7, 8])
    """

    def __init__(self, *args, chunk_length: int = 64, num_slots: int = 32, **kwargs):
        super().__init__(*args, **kwargs)
        self.chunk_length = check_value("chunk_length", chunk_length, int, 1)
        self.num_slots = check_value("num_slots", num_slots, int, 1)

    def build(self, input_shape):
        super().build(input_shape)
        # A layer of its own, as a layer's own weights would come before those of qkv and output.
        self.slots = Slots(self.num_heads, self.num_slots, dtype=self.dtype_policy, name="slots")
        self.slots.build(input_shape)

    def project(self, x, positions):
        """What `attend` takes: `Projected`."""
        heads = self.split_heads(x)
        turned = self.turn_heads(heads, positions)
        return Projected(*turned, heads.queries, heads.keys, self.slots(x))

    def attend(self, queries, keys, values, slot_queries, slot_keys, shares):
        chunk_length, length = self.chunk_length, queries.shape[2]
        if length is not None:  # two chunks are exact however short, and short ones are cheaper
            chunk_length = min(chunk_length, (length + 1) // 2)
        return attend_to_window_and_slots(
            Projected(queries, keys, values, slot_queries, slot_keys, shares),
            self.slots.scaled_gate(),
            self.slots.log_decay(),
            chunk_length,
        )

    def attend_without_loops(self, *projected):
        gate, log_decay = self.slots.scaled_gate(), self.slots.log_decay()
        return attend_to_window_and_slots(
            Projected(*projected), gate, log_decay, self.chunk_length, decayed_sum_at_once
        )

    def attention_weights(self, x):
        """Weights on the slots, then on the tokens: (batch, num_heads, length, num_slots + length).

        A slot stands for everything before the window; a token outside the window has 0.
        """
        length = x.shape[1]
        chunk_length = min(self.chunk_length, (length + 1) // 2)  # as in `attend`
        projected = self.project(x, ops.arange(length))
        chunks = projected.split(chunk_length)
        sums = slot_sums(chunks, self.slots.log_decay())
        # All keys for every chunk.
        keys = ops.repeat(projected.keys[:, :, None], sums.shape[2], axis=2)
        row = ops.reshape(ops.arange(sums.shape[2] * chunk_length), (-1, chunk_length, 1))
        column = ops.arange(length)
        allowed = (column <= row) & (column // chunk_length >= row // chunk_length - 1)
        means = slot_means(sums, keys.dtype)
        scores = score_together(chunks.queries, keys, chunks.slot_queries, means.keys)
        weights = weigh(scores, allowed, means.counts, self.slots.scaled_gate()[:, None, None, :])
        # (batch, num_heads, chunks, chunk_length, num_slots + length)
        weights = ops.reshape(weights, (*scores.shape[:2], -1, weights.shape[-1]))
        return weights[:, :, :length]

    @property
    def at_once(self) -> int:
        """How many tokens `decode` may be given at once: they never cross a chunk's border."""
        return math.gcd(super().at_once, self.chunk_length)

    def initial_state(self, batch_size: int, context_length: int):
        """The empty state: WindowAndSlots; Rings where the context is no longer than the window."""
        window = 2 * self.chunk_length
        rings = super().initial_state(batch_size, min(context_length, window))
        if context_length <= window:  # the slots were never used nor trained
            return rings
        shape = (batch_size * self.num_heads, self.num_slots, 2 * self.head_dim + 1)
        return WindowAndSlots(*rings, *(ops.zeros(shape, "float32") for _ in range(3)))

    def attend_to_state(
        self, queries, keys, values, slot_queries, slot_keys, shares, state, position
    ):
        """Attention of each token to itself, the window and the slots."""
        if isinstance(state, Rings):  # without slots
            return super().attend_to_state(queries, keys, values, state, position)
        window, in_chunk = 2 * self.chunk_length, position % self.chunk_length
        all_keys, all_values, slots, previous, own = state
        all_keys = ops.slice_update(all_keys, (0, position % window, 0), keys)
        all_values = ops.slice_update(all_values, (0, position % window, 0), values)
        gate, log_decay = (  # (batch * num_heads, num_slots)
            ops.tile(x, (queries.shape[0] // self.num_heads, 1))
            for x in (self.slots.scaled_gate(), self.slots.log_decay())
        )
        begins = ops.equal(in_chunk, 0)  # a new chunk
        slots = ops.where(begins, ops.exp(log_decay)[:, :, None] * slots + previous, slots)
        previous = ops.where(begins, own, previous)
        own = ops.where(begins, 0.0, own) + write_slots(slot_keys, values, shares)
        later = ops.arange(queries.shape[1])[:, None]  # how many tokens of this call precede each
        age = (position + later - ops.arange(window)) % window  # of the token at each ring index
        allowed = age <= ops.minimum(position, self.chunk_length + in_chunk) + later
        # Two products here, as few rows are not worth copying the rings.
        means = slot_means(slots, all_keys.dtype)
        scores = ops.concatenate(
            [ops.matmul(slot_queries, ops.swapaxes(means.keys, 1, 2))]
            + [ops.matmul(queries, ops.swapaxes(all_keys, 1, 2))],
            axis=-1,
        )  # (batch * num_heads, tokens, num_slots + window)
        weights = ops.cast(weigh(scores, allowed, means.counts, gate[:, None]), values.dtype)
        mixed = ops.matmul(weights[:, :, : self.num_slots], means.values)
        mixed += ops.matmul(weights[:, :, self.num_slots :], all_values)
        return mixed, WindowAndSlots(all_keys, all_values, slots, previous, own)

    def get_config(self):
        sizes = {"chunk_length": self.chunk_length, "num_slots": self.num_slots}
        return super().get_config() | sizes


@keras.saving.register_keras_serializable(package="keras_lm")
class Slots(keras.layers.Layer):
    """phi, the share of a token that each slot of a head takes; and the slots' gate and decay.

    Gate and decay are vectors, which optimizers neither decay to zero nor orthogonalize.

    Call arguments:
        x: (batch, length, d_model).

    Returns:
        (batch, num_heads, length, num_slots) in float32, summing to 1 over the slots.
    """

    def __init__(self, num_heads: int, num_slots: int, **kwargs):
        super().__init__(**kwargs)
        self.num_heads, self.num_slots = num_heads, num_slots
        self.supports_masking = True

    def build(self, input_shape):
        d_model, size = input_shape[-1], self.num_heads * self.num_slots
        # Normed inputs give logits of about 1: slots that differ from the start.
        self.kernel = self.add_weight(
            (d_model, size), keras.initializers.RandomNormal(stddev=d_model**-0.5), name="kernel"
        )
        self.gate = self.add_weight((size,), self._first_gates, autocast=False, name="gate")
        self.log_rate = self.add_weight((size,), self._first_rates, autocast=False, name="log_rate")

    def _first_gates(self, shape, dtype):
        gates = np.linspace(*FIRST_GATES, self.num_heads)
        return ops.convert_to_tensor(np.repeat(gates / GATE_SPEED, self.num_slots), dtype)

    def _first_rates(self, shape, dtype):
        memories = np.geomspace(1.0, LONGEST_MEMORY, self.num_slots)
        return ops.convert_to_tensor(np.tile(-np.log(memories), self.num_heads), dtype)

    def call(self, x):
        batch, length = ops.shape(x)[0], ops.shape(x)[1]
        logits = ops.reshape(
            ops.matmul(x, self.kernel), (batch, length, self.num_heads, self.num_slots)
        )
        return ops.softmax(ops.cast(ops.transpose(logits, (0, 2, 1, 3)), "float32"), axis=-1)

    def compute_output_shape(self, input_shape):
        batch, length, _ = input_shape
        return batch, self.num_heads, length, self.num_slots

    def scaled_gate(self):
        """beta, (num_heads, num_slots)."""
        return GATE_SPEED * ops.reshape(self.gate, (self.num_heads, self.num_slots))

    def log_decay(self):
        """log gamma, (num_heads, num_slots); gamma lies in [0, 1] and reaches both ends."""
        return ops.reshape(-ops.exp(self.log_rate), (self.num_heads, self.num_slots))


def attend_to_window_and_slots(
    projected: Projected, gate, log_decay, chunk_length: int, add_up: Callable = decayed_sum
):
    """The equations above for a whole sequence.

    Args:
        projected: of the sequence.
        gate: beta, (num_heads, num_slots).
        log_decay: log gamma, (num_heads, num_slots), at most 0.
        chunk_length: C.
        add_up: `decayed_sum`, or what gives the same.

    Returns:
        (batch, num_heads, length, head_dim).
    """
    batch, num_heads, length, head_dim = ops.shape(projected.queries)
    chunks = projected.split(chunk_length)
    sums = slot_sums(chunks, log_decay, add_up)
    num_chunks = ops.shape(sums)[2]
    chunk = ops.arange(num_chunks)[:, None, None]
    row, column = ops.arange(chunk_length)[:, None], ops.arange(2 * chunk_length)
    has_previous = chunk > 0
    allowed = (column <= row + chunk_length) & (has_previous | (column >= chunk_length))
    means = slot_means(sums, chunks.keys.dtype)
    keys = ops.concatenate([shift_chunks(chunks.keys, 1), chunks.keys], axis=3)
    scores = score_together(chunks.queries, keys, chunks.slot_queries, means.keys)
    values = chunks.values
    weights = ops.cast(weigh(scores, allowed, means.counts, gate[:, None, None, :]), values.dtype)
    values = ops.concatenate([means.values, shift_chunks(values, 1), values], axis=3)
    mixed = ops.matmul(weights, values)  # (batch, num_heads, chunks, chunk_length, head_dim)
    mixed = ops.reshape(mixed, (batch, num_heads, num_chunks * chunk_length, head_dim))
    return mixed[:, :, :length]


def score_together(queries, keys, slot_queries, slot_keys):
    """Scores of slots, then of a window's keys, by one product of vectors side by side with zeros.

    Args:
        queries, slot_queries: (..., rows, head_dim).
        keys: (..., window, head_dim).
        slot_keys: K~, (..., num_slots, head_dim).

    Returns:
        (..., rows, num_slots + window).
    """
    queries = ops.concatenate([slot_queries, queries], axis=-1)  # (..., rows, 2 * head_dim)
    slot_keys = ops.concatenate([slot_keys, ops.zeros_like(slot_keys)], axis=-1)
    keys = ops.concatenate([ops.zeros_like(keys), keys], axis=-1)
    keys = ops.concatenate([slot_keys, keys], axis=-2)  # (..., num_slots + window, 2 * head_dim)
    return ops.matmul(queries, ops.swapaxes(keys, -1, -2))


def weigh(scores, allowed, counts, gate):
    """The weights of slots and allowed keys, in one softmax.

    Args:
        scores: (..., rows, num_slots + window).
        allowed: (..., rows, window).
        counts: Z, (..., num_slots, 1).
        gate: beta, (..., 1, num_slots).

    Returns:
        (..., rows, num_slots + window) in float32, summing to 1.
    """
    counts = ops.swapaxes(counts, -1, -2)  # (..., 1, num_slots)
    written = counts > EMPTY
    slot_bias = ops.where(written, ops.log(ops.where(written, counts, 1.0)) + gate, MASKED)
    window_bias = ops.where(allowed, 0.0, MASKED)
    num_slots, window = slot_bias.shape[-1], window_bias.shape[-1]
    biases = pad_last(slot_bias, 0, window) + pad_last(window_bias, num_slots, 0)
    return ops.softmax(ops.cast(scores, "float32") + biases)


def pad_last(x, before: int, after: int):
    """`x` with zeros added at both ends of the last axis.

    Example:
        >>> pad_last(ops.ones((1, 2)), 1, 2).numpy().tolist()
        [[0.0, 1.0, 1.0, 0.0, 0.0]]
    """
    return ops.pad(x, (*((0, 0),) * (len(x.shape) - 1), (before, after)))


class SlotMeans(NamedTuple):
    """K~ and V~, (..., num_slots, head_dim), and Z in float32, (..., num_slots, 1)."""

    keys: tf.Tensor
    values: tf.Tensor
    counts: tf.Tensor


def slot_means(sums, dtype) -> SlotMeans:
    """The means of `sums` over what the slots hold, keys and values in `dtype`."""
    head_dim, counts = sums.shape[-1] // 2, sums[..., -1:]
    # Empty slots are masked before the division, so that no gradient is NaN.
    means = ops.cast(sums[..., :-1] / ops.where(counts > EMPTY, counts, 1.0), dtype)
    return SlotMeans(means[..., :head_dim], means[..., head_dim:], counts)


def slot_sums(chunks: Projected, log_decay, add_up: Callable = decayed_sum):
    """S^K, S^V and Z of every chunk side by side: (batch, num_heads, chunks, num_slots, size)."""
    sums = shift_chunks(write_slots(chunks.slot_keys, chunks.values, chunks.shares), 2)
    return add_up(sums, log_decay[:, None, :, None])


def write_slots(keys, values, shares):
    """Phi^T [K, V, 1] in float32: (..., num_slots, 2 * head_dim + 1) of (..., tokens, size)."""
    keys, values = ops.cast(keys, "float32"), ops.cast(values, "float32")
    tokens = ops.concatenate([keys, values, ops.ones_like(keys[..., :1])], axis=-1)
    return ops.matmul(ops.swapaxes(shares, -1, -2), tokens)
