"""ONNX (https://onnx.ai)."""

from pathlib import Path

from keras_lm.export.exported import Exported
from keras_lm.export.traced import write_traced

LOADER = '''"""The model of this folder in ONNX Runtime: token ids (batch, length) to logits."""

from pathlib import Path

import onnxruntime

SESSION = onnxruntime.InferenceSession(Path(__file__).parent / "model.onnx")


def logits(ids):
    """Token ids (batch, length) in int32 to logits (batch, length, vocab_size)."""
    return SESSION.run(None, {"ids": ids})[0]
'''


def write(model: Exported, folder: Path) -> None:
    """Writes `model.onnx`, whose attention has no loops."""
    write_traced(model, folder / "model.onnx", "onnx", without_loops=True)
    (folder / "forward.py").write_text(LOADER, "utf-8")
