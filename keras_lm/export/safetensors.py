"""The weights as a safetensors file (https://github.com/huggingface/safetensors), with NumPy."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_lm.export.exported import Exported, check_is_plain

LOADER = (Path(__file__).parent / "loader" / "forward.py").read_text("utf-8")


def write(model: Exported, folder: Path) -> None:
    """Writes the weights, and a model in NumPy that runs them; ConfigError if it cannot."""
    check_is_plain(model.config, "The format safetensors")
    write_safetensors(folder / "model.safetensors", model.named_arrays())
    (folder / "forward.py").write_text(LOADER, "utf-8")


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes float32 arrays: the length of a header, the header as JSON, then the values."""
    header, begin = {}, 0
    for name, array in arrays.items():
        end = begin + 4 * array.size
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [begin, end]}
        begin = end
    words = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    words += b" " * (-len(words) % 8)  # the values begin at a multiple of their size
    with open(path, "wb") as file:
        file.write(len(words).to_bytes(8, "little") + words)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, "<f4").data)
