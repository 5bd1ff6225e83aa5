"""Which text a run learns from, and how it becomes tokens."""

from dataclasses import dataclass
from pathlib import Path

from keras_lm.settings.checks import ConfigError, check_value, field
from keras_lm.settings.kinds import Task
from keras_lm.settings.options import WithOptions
from keras_lm.settings.variants import TASKS, TOKENIZERS

CLEANINGS = ("none", "classic")
TASK, TASK_PREFIX = "Task", "task:"  # a group of settings; how a task's name as `data` begins
TASK_NAMES = {TASK_PREFIX + name: task for name, task in TASKS.items()}
BETWEEN_CHARACTERS, BETWEEN_TOKENS = "characters", "tokens"
LARGEST_IN_MEMORY, LARGEST_TEXT = 1024, 100_000  # megabytes
MEASURED_TOKENS = 2**17  # of the validation part that measure the model, at most
# Where a stored config lacks the setting: texts were cut between tokens, .jsonl was plain text, all
# texts were held in memory.
EARLIER_DATA = {"cut": BETWEEN_TOKENS, "text_field": "", "shard_from_mb": LARGEST_IN_MEMORY}


@dataclass(frozen=True)
class DataConfig(WithOptions):
    """Which text, and how it becomes tokens.

    Example:
        >>> DataConfig("alice", tokenizer="char").changed(tokenizer="bpe").tokenizer
        'bpe'
    """

    registries = {"tokenizer": TOKENIZERS}
    data: str = field(
        "sense-and-sensibility",
        "Name of a built-in or catalogue text, or the path of a file (text, also with gzip or "
        "zstd, .jsonl or .parquet), of a folder, or a pattern such as 'books/*.txt', or a "
        "generated task, such as task:recall.",
        hidden="The form has a field of its own for the text, which also takes uploads.",
    )
    encoding: str = field(
        "",
        "Encoding of the text's files, such as latin-1; empty: UTF-8, or UTF-16 with a byte order "
        "mark.",
        hidden="The texts that the form takes are UTF-8 or UTF-16.",
    )
    text_field: str = field(
        "text",
        "Field with the text in the records of .jsonl files, or column of .parquet files; empty: "
        ".jsonl files are plain text.",
        hidden="The form takes plain texts.",
    )
    title: str = field(
        "",
        "Title of the text in lists; empty: its name, or that of its file.",
        hidden="It follows from the text.",
    )
    init_from: str = field(
        "",
        "A finished model's .keras file, whose weights the run begins with: its shape and its "
        "tokenizer are the model's, with further rows for what only this text has; empty: fresh "
        "weights.",
        hidden="The button Teach it more of a run sets it.",
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
        "Fraction of the text, its end, that is kept to measure progress: usually 0.1.",
        low=0.0,
        high=0.5,
        label="Validation fraction",
        step=0.05,
    )
    task_length: int = field(
        0,
        "Of a task: the size of what is asked; longer is harder. 0: the task's own.",
        low=0,
        high=500,
        label="Length of the task",
        step=1,
        group=TASK,
    )
    task_test_length: int = field(
        0,
        "Of a task: the size of what measures it, perhaps longer than what it learns from. 0: the "
        "same.",
        low=0,
        high=500,
        label="Length that is tested",
        step=1,
        group=TASK,
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
        high=LARGEST_TEXT,
        hidden="The form takes texts up to the default; the command line also larger ones.",
    )
    shard_from_mb: float = field(
        50.0,
        "Texts of more megabytes are tokenized once, by several processes, and kept in shards on "
        "the disk; others are held in memory.",
        low=0.001,
        high=LARGEST_IN_MEMORY,
        hidden="The form takes smaller texts.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if "" in self.data.split("\n"):
            raise ConfigError("must name a text, but got an empty name.", "data")
        if not self.data.startswith(TASK_PREFIX):
            return
        if self.init_from:
            got = f"the task {self.data!r:.60}"
            raise ConfigError(f"must be used with a text, but got {got}: name a text.", "init_from")
        if self.task is None:
            known = ", ".join(TASK_PREFIX + name for name in TASKS)
            got = f"{self.data!r:.60}"
            raise ConfigError(f"must be one of the tasks {known}, but got {got}.", "data")
        for name in ("task_length", "task_test_length"):
            if length := getattr(self, name):
                check_value(name, length, int, self.task.shortest, self.task.longest)

    @property
    def task(self) -> Task | None:
        """The generated task that `data` names; None when it names a text."""
        name = self.data.removeprefix(TASK_PREFIX)
        return TASKS.get(name) if name != self.data else None

    @property
    def task_lengths(self) -> tuple[int, int]:
        """Of a task: the length that is trained, and the one that is tested."""
        own = self.task.length if self.task else 0
        trained = self.task_length or own
        return trained, self.task_test_length or trained

    @property
    def separator_text(self) -> str:
        """The separator itself: each \\n that was typed is a new line."""
        return self.separator.replace("\\n", "\n")

    @property
    def label(self) -> str:
        """What lists call the text."""
        if self.task:
            return self.title or f"Task: {self.task.label.lower()}"
        first, *others = self.data.split("\n")
        more = f" and {len(others)} more" if others else ""
        return self.title or f"{Path(first).stem}{more}"
