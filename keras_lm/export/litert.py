"""LiteRT, formerly TensorFlow Lite (https://ai.google.dev/edge/litert)."""

from pathlib import Path

from keras_lm.export.exported import Exported
from keras_lm.export.traced import write_traced

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


def write(model: Exported, folder: Path) -> None:
    """Writes `model.tflite`, whose attention has no loops."""
    write_traced(model, folder / "model.tflite", "litert", without_loops=True)
    (folder / "forward.py").write_text(LOADER, "utf-8")
