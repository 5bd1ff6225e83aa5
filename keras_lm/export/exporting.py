"""A trained model becomes a folder, a zip file of it, or the model's file alone."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from keras_lm.export.card import write_card
from keras_lm.export.exported import Exported
from keras_lm.export.hub_tokenizer import hub_tokenizer
from keras_lm.settings.kinds import Format
from keras_lm.storage.files import partial_path, remove_partial, write_atomically
from keras_lm.system.terminal import quiet_stderr

__all__ = ["Exported", "write_export"]

ZIP = ".zip"
LOADER = Path(__file__).parent / "loader"


def write_export(model: Exported, format: Format, out: Path, say: Callable[[str], None]) -> None:
    """Writes the model, whole or not at all.

    Args:
        model: what to write.
        format: as what; not keras.
        out: a new name. With the format's own suffix it becomes the model's file alone, with .zip
            the zipped folder, else the folder, which has the model, its tokenizer, a card and a
            script that generates.
        say: is called with a line before each of the stages.

    Raises:
        ConfigError: when the format cannot express this model.
        OSError: when the disk refuses.
    """
    folder = partial_path(out.parent)
    folder.mkdir()
    try:
        say("2/4 The tokenizer is written.")
        (folder / "tokenizer.json").write_text(hub_tokenizer(model.tokenizer), "utf-8")
        model.write_config(folder)
        say(f"3/4 The model is written as {format.label}.")
        with quiet_stderr():
            remark = format.load()(model, folder) or ""
        if (folder / "forward.py").exists():
            for name in ("generate.py", "tokens.py"):
                shutil.copyfile(LOADER / name, folder / name)
        files = sorted(path.name for path in folder.iterdir())
        card = write_card(model, format, files, remark)
        (folder / "README.md").write_text(card, "utf-8")
        say(f"4/4 {out.name} is put together.")
        if format.suffix and out.suffix == format.suffix:
            write_atomically(out, (folder / format.file).read_bytes())
        elif out.suffix == ZIP:
            _zip(folder, out, remark)
        else:
            folder.rename(out)
        if remark:
            say(remark)
    finally:
        if folder.exists():
            remove_partial(folder)


def _zip(folder: Path, out: Path, remark: str) -> None:
    """Writes the zip file, in which everything is below one folder of its name.

    Its comment is the remark, for who offers it later.
    """
    temporary = partial_path(out.parent)
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, Path(out.stem, path.relative_to(folder)))
            archive.comment = remark.encode()
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
