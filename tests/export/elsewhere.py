"""Where keras_lm is not: python elsewhere.py FOLDER... runs exports and prints what is wrong."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np

sys.modules["keras_lm"] = None  # type: ignore[assignment]  # an import of it fails from here on
CLOSE = 1e-4


def check(folder: Path) -> None:
    """Loads one export and compares it with what is expected."""
    expected = json.loads((folder / "expected.json").read_text())
    sys.path[0] = str(folder)
    for name in ("generate", "forward", "tokens"):
        sys.modules.pop(name, None)
    generate = importlib.import_module("generate")
    assert Path(generate.__file__).parent == folder
    arrays = np.load(folder / "expected.npz")
    for index in range(len(arrays.files) // 2):
        logits = generate.logits(arrays[f"ids{index}"])
        assert logits.shape == arrays[f"logits{index}"].shape, logits.shape
        difference = float(np.abs(logits - arrays[f"logits{index}"]).max())
        assert difference < CLOSE, (folder.name, index, difference)
        print(folder.name, arrays[f"ids{index}"].shape, f"{difference:.1e}")
    count = len(expected["continuation"])
    assert [*generate.continue_ids(expected["prompt"], count)] == expected["continuation"]
    tokens = generate.Tokens(folder)
    for text, ids, decoded in zip(
        expected["texts"], expected["ids"], expected["decoded"], strict=True
    ):
        assert tokens.encode(text) == ids, (folder.name, text)
        assert tokens.decode(ids) == decoded, (folder.name, text)


for word in sys.argv[1:]:
    check(Path(word))
