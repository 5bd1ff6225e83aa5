"""What a GPU needs of the training step, as far as a machine without one can know."""

import numpy as np
import pytest
from tensorflow.python.framework import kernels

from keras_lm.model.backend import tf
from keras_lm.model.language_model import build_model
from keras_lm.settings.config import ModelConfig, TrainingConfig
from keras_lm.settings.variants import ATTENTIONS
from keras_lm.training.optimizers import create_optimizer
from keras_lm.training.train_step import STEPS_PER_CALL, CompiledSteps

pytestmark = pytest.mark.xla
NO_KERNEL = {"Placeholder"}  # an argument of a program


def without_gpu(program: tf.types.experimental.ConcreteFunction) -> list[str]:
    """The program's operations, in all its functions, that XLA cannot compile for a GPU."""
    graph = program.graph.as_graph_def()
    nodes = [*graph.node, *(node for part in graph.library.function for node in part.node_def)]
    names = sorted({node.op for node in nodes} - NO_KERNEL)
    assert "MatMul" in names or "BatchMatMulV2" in names or "StringJoin" in names
    devices = {
        name: {each.device_type for each in kernels.get_registered_kernels_for_op(name).kernel}
        for name in names
    }
    return [name for name in names if "XLA_GPU_JIT" not in devices[name]]


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_operation_of_step_and_validation_runs_on_a_gpu(attention):
    """With all that a step may have: 16 bits, accumulation, dropout, both ways of updating."""
    shape = {"d_model": 6, "num_heads": 1, "num_blocks": 1, "ffn_dim": 5, "dropout": 0.2}
    config = ModelConfig(vocab_size=23, context_length=80, attention=attention, **shape)
    model = build_model(config, "mixed_float16")
    optimizer = create_optimizer(TrainingConfig(optimizer="muon"), model)
    steps = CompiledSteps(model, optimizer, np.zeros(100, "int32"), gradient_accumulation=2)
    offsets = tf.TensorSpec((STEPS_PER_CALL, 2, 2), tf.int32)
    step = steps._compiled_steps.get_concrete_function(offsets, tf.TensorSpec((), tf.int32))
    assert without_gpu(step) == []
    text, starts = tf.TensorSpec((100,), tf.int32), tf.TensorSpec((3,), tf.int32)
    validation = steps._compiled_validation.get_concrete_function(text, starts)
    assert without_gpu(validation) == []


def test_an_operation_that_only_a_cpu_has_would_be_seen():
    joined = tf.function(lambda word: tf.strings.join([word, word]))
    program = joined.get_concrete_function(tf.TensorSpec((), tf.string))
    assert without_gpu(program) == ["StringJoin"]
