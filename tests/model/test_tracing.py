"""Tracing without the Python stacks of operations."""

import pytest
import tensorflow as tf

from keras_lm.model.tracing import traced

pytestmark = pytest.mark.xla


def stack_of_a_product(function):
    graph = function.get_concrete_function(tf.constant([2.0, 3.0])).graph
    return next(op.traceback for op in graph.get_operations() if op.type == "Mul")


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_a_traced_function_computes_the_same(jit_compile):
    function = traced(lambda x: x * x + 1.0, jit_compile)
    assert function(tf.constant([2.0, 3.0])).numpy().tolist() == [5.0, 10.0]
    assert function.experimental_get_tracing_count() == 1


def test_only_operations_made_in_it_keep_no_stack():
    assert stack_of_a_product(traced(lambda x: x * x)) is None
    assert stack_of_a_product(tf.function(lambda x: x * x, autograph=False)) is not None


def test_an_error_while_tracing_brings_the_stacks_back():
    with pytest.raises(ZeroDivisionError):
        traced(lambda x: x / (1 // 0))(tf.constant(1.0))
    assert stack_of_a_product(tf.function(lambda x: x * x, autograph=False)) is not None


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_failed_operation_is_told(jit_compile):
    function = traced(lambda x, shape: tf.reshape(x, shape), jit_compile)
    with pytest.raises(tf.errors.InvalidArgumentError, match="(?i)reshape"):
        function(tf.constant([1.0, 2.0, 3.0]), tf.constant([2, 5]))
