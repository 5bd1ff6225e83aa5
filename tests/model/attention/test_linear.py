"""Linear attention against its equations and its limits, at the edges of chunks."""

import numpy as np
import pytest
import tensorflow as tf

from keras_lm.model.attention import LinearAttention, StandardAttention, rotate
from keras_lm.model.attention.chunks import decayed_sum
from keras_lm.model.attention.linear import GATE_SPEED, Projected, attend_to_window_and_slots
from tests.reference import decode, draw

BATCH, HEADS, HEAD_DIM, CHUNK, SLOTS = 2, 3, 6, 4, 5
D_MODEL = HEADS * HEAD_DIM
SHORT = [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK]
LONG = [2 * CHUNK + 1, 3 * CHUNK - 1, 3 * CHUNK, 3 * CHUNK + 1, 7 * CHUNK + 2]


@pytest.fixture
def make_layer(randomize):
    def make(**arguments):
        layer = LinearAttention(HEADS, **{"chunk_length": CHUNK, "num_slots": SLOTS} | arguments)
        layer.build((None, None, D_MODEL))
        return randomize(layer)

    return make


def softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def reference(queries, keys, values, slot_queries, slot_keys, shares, gate, log_decay, chunk):
    """The equations, token by token and slot by slot, in float64; arrays of one head."""
    out = np.zeros(values.shape)
    for t in range(len(values)):
        begin = max(0, t // chunk - 1) * chunk  # of the window
        old = np.arange(begin)
        chunks_ago = begin // chunk - 1 - old // chunk
        weights = shares[:begin] * np.exp(log_decay) ** chunks_ago[:, None]  # (old, slots)
        logits, entries = list(keys[begin : t + 1] @ queries[t]), list(values[begin : t + 1])
        for slot in range(len(gate)) if begin else ():
            count = weights[:, slot].sum()
            mean_key = weights[:, slot] @ slot_keys[:begin] / count
            logits.append(mean_key @ slot_queries[t] + np.log(count) + gate[slot])
            entries.append(weights[:, slot] @ values[:begin] / count)
        out[t] = softmax(np.array(logits)) @ np.array(entries)
    return out


@pytest.mark.parametrize("length", SHORT + LONG)
@pytest.mark.parametrize(
    "arguments",
    [{}, {"qk_norm": True, "use_bias": True}, {"positions": "learned"}],
    ids=["rotary", "qk_norm", "no rotary"],
)
def test_it_agrees_with_its_equations(make_layer, length, arguments):
    layer = make_layer(**arguments)
    x = draw(BATCH, length, D_MODEL)
    unturned = [np.array(part) for part in layer.split_heads(x)]
    turned = unturned[:2]
    if layer.positions == "rotary":
        turned = [np.array(rotate(part, np.arange(length))) for part in turned]
    kernel, gate, log_rate = layer.slots.get_weights()
    logits = (x @ kernel).reshape(BATCH, length, HEADS, SLOTS)
    shares = softmax(np.moveaxis(logits, 2, 1))
    per_slot = GATE_SPEED * gate.reshape(HEADS, SLOTS), -np.exp(log_rate.reshape(HEADS, SLOTS))
    per_token = [*turned, unturned[2], *unturned[:2], shares]
    mixed = [
        [
            reference(
                *(part[b, h].astype("float64") for part in per_token),
                *(part[h].astype("float64") for part in per_slot),
                CHUNK,
            )
            for h in range(HEADS)
        ]
        for b in range(BATCH)
    ]
    expected = layer.merge_heads(np.array(mixed, "float32"))
    np.testing.assert_allclose(layer(x), expected, rtol=0, atol=5e-6)


def output_and_gradients(layer, x):
    """Of the input and of the weights that all variants share."""
    x = tf.constant(x)
    shared = [weight.value for weight in layer.qkv.weights + layer.output_projection.weights]
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = layer(x)
        loss = tf.reduce_sum(out * draw(*out.shape, seed=1))
    return [out, *tape.gradient(loss, [x, *shared])]


@pytest.mark.parametrize("length", SHORT)
def test_up_to_two_chunks_it_equals_standard_attention(make_layer, length):
    layer, standard = make_layer(), StandardAttention(HEADS)
    standard.build((None, None, D_MODEL))
    standard.set_weights(layer.get_weights()[: len(standard.weights)])
    x = draw(BATCH, length, D_MODEL)
    pairs = zip(output_and_gradients(layer, x), output_and_gradients(standard, x), strict=True)
    for part, expected in pairs:
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-5)


def test_beyond_two_chunks_it_is_another_function(make_layer):
    layer, standard = make_layer(), StandardAttention(HEADS)
    standard.build((None, None, D_MODEL))
    standard.set_weights(layer.get_weights()[: len(standard.weights)])
    x = draw(BATCH, 2 * CHUNK + 1, D_MODEL)
    distance = np.abs(np.array(layer(x)) - np.array(standard(x))).max(axis=-1)
    assert distance[:, :-1].max() < 1e-5 and distance[:, -1].min() > 1e-3


NO_GATE = np.zeros((HEADS, 1), "float32")


def mixture_and_gradients(attend, *tensors):
    tensors = [tf.constant(tensor) for tensor in tensors]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        out = attend(*tensors)
        loss = tf.reduce_sum(out * draw(*out.shape, seed=1))
    return [out, *tape.gradient(loss, tensors)]


@pytest.mark.parametrize("length", SHORT + LONG)
@pytest.mark.parametrize("spare_slots", [0, 2])
def test_with_a_slot_for_each_token_it_equals_standard_attention(length, spare_slots):
    queries, keys, values = draw(3, BATCH, HEADS, length, HEAD_DIM)
    shares = np.eye(length, length + spare_slots, dtype="float32")
    shares = np.broadcast_to(shares, (BATCH, HEADS, *shares.shape))
    ungated = NO_GATE.repeat(length + spare_slots, axis=1)

    def attend(queries, keys, values):
        projected = Projected(queries, keys, values, queries, keys, shares)
        return attend_to_window_and_slots(projected, ungated, ungated, CHUNK)

    expected = mixture_and_gradients(StandardAttention(HEADS).attend, queries, keys, values)
    actual = mixture_and_gradients(attend, queries, keys, values)
    for part, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(part, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", LONG)
def test_tokens_of_one_key_may_share_a_slot_without_loss(length):
    kinds = np.random.default_rng(3).integers(0, SLOTS, length)
    queries, values = draw(2, BATCH, HEADS, length, HEAD_DIM)
    keys = draw(BATCH, HEADS, SLOTS, HEAD_DIM, seed=2)[:, :, kinds]
    shares = np.broadcast_to(np.eye(SLOTS, dtype="float32")[kinds], (*keys.shape[:3], SLOTS))
    ungated = NO_GATE.repeat(SLOTS, axis=1)
    projected = Projected(queries, keys, values, queries, keys, shares)
    mixed = attend_to_window_and_slots(projected, ungated, ungated, CHUNK)
    expected = StandardAttention(HEADS).attend(*map(tf.constant, (queries, keys, values)))
    np.testing.assert_allclose(mixed, expected, rtol=0, atol=1e-5)


def test_weights_sum_to_one(make_layer):
    layer = make_layer()
    projected = layer.project(draw(BATCH, 7 * CHUNK + 2, D_MODEL), np.arange(7 * CHUNK + 2))
    projected = projected._replace(values=tf.ones_like(projected.values))
    np.testing.assert_allclose(layer.attend(*projected), 1.0, rtol=0, atol=1e-6)


EDGES = [1, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK - 1, 3 * CHUNK]
EDGES += [3 * CHUNK + 1, 6 * CHUNK - 1, 6 * CHUNK, 6 * CHUNK + 1]


@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
def test_the_future_changes_no_bit_of_the_past(make_layer, xla):
    length = 6 * CHUNK + 2
    attend = tf.function(make_layer(), jit_compile=xla)
    x = draw(BATCH, length, D_MODEL)
    before = attend(tf.constant(x)).numpy()
    for t in EDGES:
        other = x.copy()
        other[:, t:] = 50 * draw(BATCH, length - t, D_MODEL, seed=t)
        after = attend(tf.constant(other)).numpy()
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (np.abs(after[:, t:] - before[:, t:]).max(axis=-1) > 1e-3).all()


def input_gradients(layer, rows):
    """How large row t's gradient is at each position of the input: {t: (length,)}."""
    x = tf.constant(draw(1, 6 * CHUNK + 2, D_MODEL))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        outputs = tf.unstack(tf.reduce_sum(layer(x) * draw(D_MODEL, seed=1), axis=(0, 2)))
    return {t: np.abs(tape.gradient(outputs[t], x)[0]).max(axis=-1) for t in rows}


def test_gradients_reach_all_of_the_past_and_none_of_the_future(make_layer):
    for t, size in input_gradients(make_layer(), EDGES).items():
        assert (size[: t + 1] > 0).all()
        assert (size[t + 1 :] == 0).all()


def test_closed_gates_leave_the_window(make_layer):
    layer = make_layer()
    layer.slots.gate.assign(tf.fill(layer.slots.gate.shape, -1e6))
    for t, size in input_gradients(layer, EDGES).items():
        window = max(0, t // CHUNK - 1) * CHUNK
        assert (size[:window] == 0).all()
        assert (size[window : t + 1] > 0).all()


def test_fresh_slots_learn_and_weigh_less_in_each_further_head():
    layer = LinearAttention(HEADS, chunk_length=CHUNK, num_slots=SLOTS)
    layer.build((None, None, D_MODEL))
    x = tf.constant(draw(BATCH, 16 * CHUNK, D_MODEL))
    with tf.GradientTape() as tape:
        out = layer(x)
        loss = tf.reduce_sum(out * draw(*out.shape, seed=1))
    for gradient in tape.gradient(loss, [weight.value for weight in layer.slots.weights]):
        assert np.isfinite(gradient).all() and (np.abs(gradient) > 0).all()
    projected = layer.project(x, np.arange(16 * CHUNK))
    values = np.ones(projected.values.shape, "float32")
    values[:, :, 14 * CHUNK :] = 0.0  # so that the last chunk's outputs are the slots' weight
    projected = projected._replace(values=values)
    weights = np.array(layer.attend(*projected))[:, :, 15 * CHUNK :].mean(axis=(0, 2, 3))
    assert 1e-5 < weights[2] < weights[1] / 5 < weights[0] / 25 < 0.05 / 25


@pytest.mark.parametrize("length", [2, 2 * CHUNK, 2 * CHUNK + 1, 7 * CHUNK + 2])
def test_under_xla_every_weight_has_a_finite_gradient(make_layer, length):
    layer = make_layer(use_bias=True)
    x = tf.constant(draw(BATCH, length, D_MODEL))
    # So sure of its slots that most of them hold exactly nothing.
    layer.slots.kernel.assign(1e4 * layer.slots.kernel)

    @tf.function(jit_compile=True)
    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True) * draw(D_MODEL, seed=1))
        return tape.gradient(loss, [weight.value for weight in layer.trainable_weights])

    parts = gradients()
    assert len(parts) == len(layer.weights)
    for weight, part in zip(layer.weights, parts, strict=True):
        assert np.isfinite(part).all(), weight.path


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("xla", [False, True], ids=["eager", "xla"])
def test_decoding_token_by_token_equals_the_full_pass(make_layer, positions, xla):
    layer = make_layer(positions=positions, qk_norm=True, use_bias=True)
    x = draw(BATCH, 6 * CHUNK + 2, D_MODEL)
    np.testing.assert_allclose(decode(layer, x, 1000, xla), layer(x), rtol=0, atol=5e-6)


@pytest.mark.parametrize("context_length", [1, CHUNK + 1, 2 * CHUNK])
def test_a_context_within_the_window_is_decoded_like_standard_attention(make_layer, context_length):
    layer, standard = make_layer(), StandardAttention(HEADS)
    standard.build((None, None, D_MODEL))
    standard.set_weights(layer.get_weights()[: len(standard.weights)])
    x = draw(BATCH, 5 * CHUNK, D_MODEL)
    expected = decode(standard, x, context_length)
    np.testing.assert_array_equal(decode(layer, x, context_length), expected)


def test_the_state_does_not_grow_with_the_context(make_layer):
    layer = make_layer()
    shapes = [
        [tuple(part.shape) for part in layer.initial_state(BATCH, context_length)]
        for context_length in (2 * CHUNK + 1, 1_000_000)
    ]
    ring = (BATCH * HEADS, 2 * CHUNK, HEAD_DIM)
    assert shapes == [[ring] * 2 + [(BATCH * HEADS, SLOTS, 2 * HEAD_DIM + 1)] * 3] * 2
    assert layer.initial_state(BATCH, 3)[0].shape[1] == 3


def elements_in_graph(layer, length):
    """Elements of all tensors that the forward and the backward pass make."""

    @tf.function(input_signature=[tf.TensorSpec((1, length, D_MODEL))])
    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x))
        return tape.gradient(loss, [weight.value for weight in layer.trainable_weights])

    operations = gradients.get_concrete_function().graph.get_operations()
    shapes = [output.shape for operation in operations for output in operation.outputs]
    return sum(shape.num_elements() or 0 for shape in shapes if shape.rank is not None)


def test_its_cost_grows_with_the_length_only(make_layer):
    layer = make_layer()
    short, long = (elements_in_graph(layer, length) for length in (512, 1024))
    assert 1.9 < long / short < 2.2


@pytest.mark.parametrize("num_chunks", [1, 2, 3, 4, 7, 8, 9])
@pytest.mark.parametrize("static", [True, False])
def test_decayed_sums(num_chunks, static):
    x = draw(BATCH, HEADS, num_chunks, SLOTS, 1)
    log_decay = np.array([0.0, -0.01, -1.0, -30.0, -np.inf], "float32")[:, None]
    chunks = num_chunks if static else None
    signature = [tf.TensorSpec((BATCH, HEADS, chunks, SLOTS, 1))]
    total = tf.function(lambda x: decayed_sum(x, log_decay), input_signature=signature)(x)
    expected, last = [], 0.0
    for chunk in range(num_chunks):
        last = np.exp(log_decay.astype("float64")) * last + x[:, :, chunk]
        expected.append(last)
    np.testing.assert_allclose(total, np.stack(expected, 2), rtol=0, atol=2e-6)


def test_the_gradients_of_decayed_sums_are_those_of_the_plain_recurrence():
    x, upstream = (tf.constant(draw(BATCH, HEADS, 7, SLOTS, 3)) for _ in range(2))
    log_decay = tf.constant([[[[0.0], [-0.01], [-1.0], [-30.0], [-2.0]]]] * HEADS)

    def plain(x, log_decay):
        sums = [x[:, :, 0]]
        for chunk in range(1, 7):
            sums.append(tf.exp(log_decay[:, 0]) * sums[-1] + x[:, :, chunk])
        return tf.stack(sums, 2)

    gradients = []
    for function in (decayed_sum, plain):
        with tf.GradientTape() as tape:
            tape.watch((x, log_decay))
            total = function(x, log_decay)
        gradients.append(tape.gradient(total, (x, log_decay), upstream))
    for own, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-5)


def test_a_slot_can_learn_to_forget_nothing_and_to_forget_at_once(make_layer):
    slots = make_layer().slots
    slots.log_rate.assign(np.resize([-20.0, 6.0], slots.log_rate.shape))
    with tf.GradientTape() as tape:
        decay = tf.exp(slots.log_decay())
    np.testing.assert_array_equal(np.unique(decay), [0.0, 1.0])
    assert np.isfinite(tape.gradient(decay, slots.log_rate.value)).all()


def test_a_length_known_only_when_it_runs_gives_the_same(make_layer):
    layer = make_layer()
    attend = tf.function(layer, input_signature=[tf.TensorSpec((None, None, D_MODEL))])
    for length in SHORT + LONG:
        x = draw(BATCH, length, D_MODEL)
        np.testing.assert_allclose(attend(x), layer(x), rtol=0, atol=3e-6)


@pytest.mark.parametrize(
    ("policy", "dtype", "tolerance"),
    [("mixed_float16", "float16", 1e-2), ("mixed_bfloat16", "bfloat16", 8e-2)],
)
def test_16_bits_are_close_to_32_beyond_the_window(make_layer, policy, dtype, tolerance):
    x = draw(BATCH, 7 * CHUNK + 2, D_MODEL)
    layer = make_layer(qk_norm=True, dtype=policy)
    out = layer(x)
    assert out.dtype == dtype
    expected = make_layer(qk_norm=True)(x)
    np.testing.assert_allclose(tf.cast(out, "float32"), expected, rtol=0, atol=tolerance)
    assert layer.initial_state(BATCH, 1000)[2].dtype == "float32"
    assert layer.slots.scaled_gate().dtype == layer.slots.log_decay().dtype == "float32"


def test_the_weights_of_the_slots_come_last(make_layer):
    names = [weight.path.split("/")[-2:] for weight in make_layer().weights]
    assert names == [
        ["qkv", "kernel"],
        ["output", "kernel"],
        ["slots", "kernel"],
        ["slots", "gate"],
        ["slots", "log_rate"],
    ]
