"""What the page asks of a text and takes long for a large one: that is done in another process.

For a larger text `python -m keras_lm.data.text_work` reads one JSON line, {"do": "facts",
"data": {...}, "context_length": 64}, answers with one, and ends. One process works on each kind of
question at a time.
"""

import json
import os
import subprocess
import sys
import threading
from typing import Any

from keras_lm.data import texts
from keras_lm.data.copies import TrainingText
from keras_lm.data.large.streams import is_large
from keras_lm.data.preparation import prepare, training_text
from keras_lm.data.reading import TextError
from keras_lm.data.tokenizers import tokenizer_from_dict
from keras_lm.settings.config import DataConfig
from keras_lm.system.paths import PROJECT

SMALL_BYTES = 2_000_000
EXCERPT_TOKENS = 400


def check_not_large(data: DataConfig, what: str) -> None:
    """TextError when the text is one that only the command line takes.

    Args:
        data: which text.
        what: is not done with such texts.
    """
    if is_large(data):
        raise TextError(
            f"The text has more than {data.shard_from_mb:g} MB, {what}. Train on it from the "
            "command line: python -m keras_lm train --data FILE --max-text-mb 20000 --run-dir NEW."
        )


def facts(data: DataConfig, context_length: int, known: dict | None = None) -> dict[str, Any]:
    """What the page shows of a text: its tokens, counted, and its beginning.

    Args:
        data, context_length: as for `prepare`.
        known: the JSON object of the tokenizer that the run goes on with; None: there is none.
    """
    check_not_large(data, "which the page does not read")
    tokenizer = tokenizer_from_dict(known) if known else None
    prepared = prepare(data, context_length, known=tokenizer)
    return {
        "vocab_size": prepared.tokenizer.vocab_size,
        "train_tokens": len(prepared.train),
        "validation_tokens": len(prepared.validation),
        "unigram_entropy": prepared.unigram_entropy,
        "excerpt": prepared.tokenizer.decode(prepared.train[:EXCERPT_TOKENS].tolist()),
    }


def training_size(data: DataConfig) -> dict[str, int]:
    """How many bytes of the text are trained on; the rest validates."""
    check_not_large(data, "in which copies are not looked for")
    if data.init_from and data.separator_text not in training_text(data):
        data = data.changed(separator="")  # it is the model's, which another text need not have
    return {"num_bytes": prepare(data, context_length=1).train_bytes}


def copies(data: DataConfig, num_bytes: int, sample: str, run_length: int) -> dict[str, Any]:
    """What part of a sample is in the text's first `num_bytes`: see `TrainingText`."""
    check_not_large(data, "in which copies are not looked for")
    text = training_text(data)
    training = TrainingText(text.encode()[:num_bytes].decode(errors="ignore"))
    novelty = training.novelty(sample, run_length)
    return {"copy": training.longest_copy(sample), "novelty": novelty}


class ReadingEnded(TextError):
    """The process that was to read the text ended before it answered: another try may do."""


WORK = {work.__name__: work for work in (facts, training_size, copies)}
_one_at_a_time = {name: threading.Lock() for name in WORK}


def is_small(data: DataConfig) -> bool:
    """Whether the text is read sooner than a process starts."""
    return texts.size_on_disk(data.data) <= SMALL_BYTES


def ask(do: str, data: DataConfig, **values: Any) -> dict[str, Any]:
    """The result of one of WORK.

    Args:
        do: its name.
        data: which text, and how.
        **values: its other arguments.

    Raises ValueError with one sentence when the text cannot be used; it is ReadingEnded when
    that was not found out.
    """
    if is_small(data):
        return WORK[do](data, **values)
    request = json.dumps({"do": do, "data": data.to_dict(), **values})
    project = str(PROJECT)
    path = os.pathsep.join(filter(None, [project, os.environ.get("PYTHONPATH")]))
    with _one_at_a_time[do]:
        try:
            process = subprocess.run(
                [sys.executable, "-m", "keras_lm.data.text_work"],
                input=request.encode(),
                capture_output=True,
                env=os.environ | {"PYTHONPATH": path},
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):  # it could not start, or ended early
            raise ReadingEnded(
                "Expected to read the text, but the process that reads it ended, perhaps for lack "
                "of memory; choose a shorter text."
            ) from None
    answer = json.loads(process.stdout)
    if "error" in answer:
        raise TextError(answer["error"])
    return answer


def main() -> None:
    """Answers one request."""
    request = json.loads(sys.stdin.buffer.readline())
    data = DataConfig.from_dict(request.pop("data"))
    try:
        answer = WORK[request.pop("do")](data, **request)
    except ValueError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
