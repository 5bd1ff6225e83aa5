"""SavedModel (https://www.tensorflow.org/guide/saved_model)."""

from pathlib import Path

from keras_lm.export.exported import Exported
from keras_lm.export.traced import write_traced

LOADER = '''"""The model of this folder in TensorFlow: token ids (batch, length) to logits."""

from pathlib import Path

import tensorflow as tf

MODEL = tf.saved_model.load(str(Path(__file__).parent))


def logits(ids):
    """Token ids (batch, length) in int32 to logits (batch, length, vocab_size)."""
    return MODEL.serve(ids).numpy()
'''


def write(model: Exported, folder: Path) -> None:
    """Writes `saved_model.pb` and its variables; attention is as it was trained."""
    write_traced(model, folder, "tf_saved_model", without_loops=False)
    (folder / "forward.py").write_text(LOADER, "utf-8")
