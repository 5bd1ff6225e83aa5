"""What the processes do that share the work on a large text: this module alone is loaded there."""

import hashlib
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_lm.data.cleaning import cleaned
from keras_lm.data.tokenizers import SeparatedTokenizer, Tokenizer, tokenizer_from_dict
from keras_lm.data.tokenizers.base import VocabularyTokenizer
from keras_lm.storage.files import write_atomically


class Chunk(NamedTuple):
    """A part of a text, as it was read.

    Attributes:
        index: its number, from 0 on.
        text: its characters.
        cleaning: what is done to it.
        separator: what is between documents; "": nothing.
    """

    index: int
    text: str
    cleaning: str
    separator: str

    def cleaned(self) -> str:
        """The text as it is tokenized."""
        documents = self.text.split(self.separator) if self.separator else [self.text]
        return self.separator.join(cleaned(document, self.cleaning) for document in documents)


_tokenizers: list[Tokenizer] = []  # of this process


def begin(tokenizer: dict[str, Any] | None) -> None:
    """Prepares a process: Ctrl-C is its parent's, without which it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if tokenizer:
        _tokenizers[:] = [tokenizer_from_dict(tokenizer)]


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
        os._exit(1)


def survey(chunk: Chunk) -> dict[str, Any]:
    """The sizes of a chunk, and which characters it has beside separators."""
    text = chunk.cleaned()
    documents = text.split(chunk.separator) if chunk.separator else [text]
    alphabet = "".join(sorted(set().union(*documents)))
    sizes = {"chars": len(text), "bytes": len(text.encode())}
    return {"index": chunk.index, **sizes, "alphabet": alphabet}


def shard(chunk: Chunk, folder: Path, dtype: str) -> dict[str, Any]:
    """Writes a chunk's tokens into a file of the folder; returns what is known of it."""
    text = chunk.cleaned()
    file = f"{chunk.index:06}"
    found = write_tokens(folder / file, ids_of(_tokenizers[0], text), dtype)
    sizes = {"chars": len(text), "bytes": len(text.encode())}
    return {"index": chunk.index, **sizes, **found}


def ids_of(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The ids of a text, (num_tokens,) int32, with those of its separators."""
    if not isinstance(tokenizer, SeparatedTokenizer):
        assert isinstance(tokenizer, VocabularyTokenizer)  # as are all but the separated
        return tokenizer.rows(text)
    stop = np.array([tokenizer.stop], "int32")
    parts = (tokenizer.inner.rows(document) for document in text.split(tokenizer.separator))
    return np.concatenate([ids for part in parts for ids in (part, stop)][:-1])


def write_tokens(path: Path, ids: np.ndarray, dtype: str) -> dict[str, Any]:
    """Writes ids as a shard; returns its name, its tokens and its hash."""
    content = np.ascontiguousarray(ids.astype(dtype)).data.cast("B")
    write_atomically(path, content)
    return {"file": path.name, "tokens": len(ids), "sha256": hashlib.sha256(content).hexdigest()}
