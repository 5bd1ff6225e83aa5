"""Which text a run learns from, and how it becomes tokens."""

from dataclasses import dataclass
from pathlib import Path

from keras_lm.settings.checks import field
from keras_lm.settings.options import WithOptions
from keras_lm.settings.variants import TOKENIZERS

CLEANINGS = ("none", "classic")
BETWEEN_CHARACTERS, BETWEEN_TOKENS = "characters", "tokens"


@dataclass(frozen=True)
class DataConfig(WithOptions):
    """Which text, and how it becomes tokens."""

    registries = {"tokenizer": TOKENIZERS}
    data: str = field(
        "sense-and-sensibility",
        "Name of a built-in or catalogue text, or the path of a file, maybe gzip's, of a folder, "
        "or a pattern such as 'books/*.txt'.",
        hidden="The form has a field of its own for the text, which also takes uploads.",
    )
    encoding: str = field(
        "",
        "Of the text's files, such as latin-1; empty: UTF-8, or UTF-16 with a byte order mark.",
        hidden="The texts that the form takes are UTF-8 or UTF-16.",
    )
    title: str = field(
        "",
        "What lists call the text; empty: its name, or its file's.",
        hidden="It follows from the text.",
    )
    tokenizer: str = field(
        "char",
        "How the text becomes tokens.",
        choices=TOKENIZERS,
        label="Tokenizer",
    )
    cleaning: str = field(
        "none",
        "none keeps the text as it is; classic lower-cases it, keeps letters, digits and . , ! ? "
        "and puts a space before punctuation.",
        choices=CLEANINGS,
        label="Cleaning",
    )
    separator: str = field(
        "",
        "What stands between documents, such as <|endoftext|>; \\n is a new line. It becomes a "
        "token of its own, is put between several files, and a generated text ends at it.",
        label="Separator of documents",
    )
    validation_fraction: float = field(
        0.1,
        "The text's last part, never trained on, that measures progress: usual 0.1.",
        low=0.0,
        high=0.5,
        label="Validation fraction",
        step=0.05,
    )
    cut: str = field(
        BETWEEN_CHARACTERS,
        "Where training and validation text are cut apart: between characters, which is the same "
        "for all tokenizers, or between tokens, as runs of earlier versions did.",
        choices=(BETWEEN_CHARACTERS, BETWEEN_TOKENS),
        hidden="Only runs of earlier versions need another value.",
    )
    max_text_mb: float = field(
        50.0,
        "Largest text accepted, in megabytes.",
        low=0.001,
        high=1024,
        hidden="The form takes texts up to the default; the command line also larger ones.",
    )

    @property
    def separator_text(self) -> str:
        """The separator itself, with new lines in place of their signs."""
        return self.separator.replace("\\n", "\n")

    @property
    def label(self) -> str:
        """What lists call the text."""
        first, *others = self.data.split("\n")
        more = f" and {len(others)} more" if others else ""
        return self.title or f"{Path(first).stem}{more}"
