"""LiteRT, formerly TensorFlow Lite (https://ai.google.dev/edge/litert)."""

from pathlib import Path

import numpy as np

from keras_lm.export.cost import Logits, cost_in_words
from keras_lm.export.exported import Exported
from keras_lm.export.keras_int8 import logits_of
from keras_lm.export.traced import write_traced
from keras_lm.model.backend import tf

LOADER = '''"""The model of this folder in LiteRT: token ids (batch, length) to logits."""

from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

INTERPRETER = Interpreter(str(Path(__file__).parent / "model.tflite"))
INPUT, OUTPUT = (
    details[0]["index"]
    for details in (INTERPRETER.get_input_details(), INTERPRETER.get_output_details())
)


def logits(ids):
    """Token ids (batch, length) in int32 to logits (batch, length, vocab_size)."""
    INTERPRETER.resize_tensor_input(INPUT, ids.shape)
    INTERPRETER.allocate_tensors()
    INTERPRETER.set_tensor(INPUT, ids)
    INTERPRETER.invoke()
    return INTERPRETER.get_tensor(OUTPUT)
'''


def write_int8(model: Exported, folder: Path) -> str:
    """The same with weights of 8 bits; returns what they cost."""
    path, quantized = folder / "model.tflite", [tf.lite.Optimize.DEFAULT]
    write_traced(model, path, "litert", without_loops=True, optimizations=quantized)
    (folder / "forward.py").write_text(LOADER, "utf-8")
    return cost_in_words(model, logits_of(model, model.arrays), _run(path))


def _run(path: Path) -> Logits:
    """The function of a written model."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:  # TensorFlow has an older one of its own
        Interpreter = tf.lite.Interpreter
    interpreter = Interpreter(str(path))
    (ids_in,), (logits_out,) = interpreter.get_input_details(), interpreter.get_output_details()

    def logits(ids: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(ids_in["index"], ids.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(ids_in["index"], ids)
        interpreter.invoke()
        return interpreter.get_tensor(logits_out["index"])

    return logits


def write(model: Exported, folder: Path) -> None:
    """Writes `model.tflite`, whose attention has no loops."""
    write_traced(model, folder / "model.tflite", "litert", without_loops=True)
    (folder / "forward.py").write_text(LOADER, "utf-8")
