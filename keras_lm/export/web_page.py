"""A folder with the model and a page that runs it: plain JavaScript, no network, no Python."""

import shutil
from pathlib import Path

from keras_lm.export.exported import Exported, check_is_plain
from keras_lm.export.safetensors import write_safetensors

PAGE = Path(__file__).parent / "web"


def write(model: Exported, folder: Path) -> None:
    """Writes the page and the weights; ConfigError for a model that the page does not know."""
    check_is_plain(model.config, "The format web")
    write_safetensors(folder / "model.safetensors", model.named_arrays())
    shutil.copytree(PAGE, folder, dirs_exist_ok=True)
