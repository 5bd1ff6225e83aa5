"""The shards of a text: made once, found again, and gone on with where a process was killed.

A folder below the cache holds what became of one text with one way to tokenize it. Each chunk that
is done is a file and a line of a log, so whoever comes next makes only those that are missing.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_lm.data.corpus import split_at, validation_size
from keras_lm.data.large import work
from keras_lm.data.large.chunks import CHUNK, chunks
from keras_lm.data.large.pool import check_begins_here, shared_work
from keras_lm.data.large.shards import Shard
from keras_lm.data.large.streams import TextStream
from keras_lm.data.reading import TextError, check_size
from keras_lm.data.tokenizers import (
    SeparatedTokenizer,
    Survey,
    Tokenizer,
    VocabularyTokenizer,
    check_occurs,
    rows_within,
    tokenizer_class,
    tokenizer_from_dict,
)
from keras_lm.settings.config import DataConfig
from keras_lm.storage.files import DamagedFile, read_json, sha256, write_atomically
from keras_lm.system.machine import num_cores
from keras_lm.system.paths import cache_folder

VERSION = 1  # of the folder's content
SAMPLE = 50_000_000  # characters that byte pairs are learned from
MOST_MANIFEST_BYTES = 64 * 2**20
REPORT_SECONDS = 2.0
GIGABYTE = 1e9
_COUNTED = 1_000_000  # tokens at once

Report = Callable[[str], None]


class ShardMaker:
    """Makes the shards of one text, or finds them.

    Args:
        data: which text, and how it becomes tokens.
        known: the tokenizer of the model that the run goes on with; None: there is none.
        report: called now and then with a sentence about what is done and how long it takes.

    Attributes:
        folder: where the shards are.
    """

    def __init__(self, data: DataConfig, known: Tokenizer | None, report: Report):
        self._data, self._known, self._report = data, known, report
        self._separator = data.separator_text
        if isinstance(known, SeparatedTokenizer):
            self._separator = known.separator
        self._stream = TextStream(data)
        self.folder = cache_folder() / "texts" / self._key()
        self._chunk_size = CHUNK
        self._begin = self._last = 0.0
        self._first = 0.0  # the part of the text that was done before

    def manifest(self) -> dict[str, Any]:
        """What there is of the text: see `_finish`; made where it is missing or damaged.

        Raises TextError or TokenizerError with one sentence when the text cannot be used, the disk
        refuses or is too small.
        """
        check_begins_here()
        size = self._stream.text_size()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._alone():
                found = self._read_manifest()
                if found is None or not self._is_sound(found):
                    self._check_disk(size)
                    found = self._make()
                return found
        except OSError as error:
            raise TextError(
                f"The tokens of the text cannot be kept in {self.folder}: {error.strerror}. Make "
                "room, or name another folder in KERAS_LM_CACHE; what was done is kept."
            ) from error

    def _key(self) -> str:
        """A short name for the files as they are and for what is made of them."""
        data, options = self._data, self._data.own_options()
        files = [
            (str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns)
            for path in self._stream.paths
        ]
        how = [data.data, data.encoding, data.text_field, data.cleaning, data.tokenizer, options]
        known = self._known and self._known.to_dict()
        key = [VERSION, CHUNK, files, self._separator, data.validation_fraction, how, known]
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Waits until no other process works on the same shards."""
        with open(self.folder / "lock", "ab") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self._report("Another process reads the same text: waiting for it.")
                    time.sleep(REPORT_SECONDS)
                except OSError:  # a file system without locks
                    break
            yield

    def _check_disk(self, size: float) -> None:
        """Says how much room is needed; TextError where there is less."""
        made = sum(path.stat().st_size for path in self.folder.iterdir())
        free, needed = shutil.disk_usage(self.folder).free, max(0.0, size - made)
        room = f"{needed / GIGABYTE:.1f} GB in {self.folder}, where {free / GIGABYTE:.1f} GB"
        if needed > free:
            raise TextError(
                f"The tokens of the text need up to {room} are free. Make room, or name another "
                "folder in KERAS_LM_CACHE."
            )
        self._report(f"The text is tokenized once; that takes up to {room} are free.")

    def _read_manifest(self) -> dict[str, Any] | None:
        with contextlib.suppress(DamagedFile):
            return read_json(self.folder / "manifest.json", MOST_MANIFEST_BYTES)
        return None

    def _is_sound(self, manifest: dict[str, Any]) -> bool:
        """Whether each shard has its hash; those that have not are forgotten."""
        self._report("Verifying the text's tokens.")
        shards = [Shard(*shard) for part in ("train", "validation") for shard in manifest[part]]

        def is_bad(shard: Shard) -> bool:
            path = self.folder / shard.file
            return not path.is_file() or sha256(path) != shard.sha256

        with ThreadPoolExecutor(num_cores()) as threads:
            bad = {
                s.file
                for s, found in zip(shards, threads.map(is_bad, shards), strict=True)
                if found
            }
        if bad:
            log = self.folder / "shards.jsonl"
            kept = [line for line in _read_log(log) if line.get("file") not in bad | {None}]
            _write_log(log, kept)
        return not bad

    def _make(self) -> dict[str, Any]:
        full = self._full_tokenizer()
        vocab_size = full.vocab_size
        dtype = next(d for d in ("uint8", "uint16", "uint32") if vocab_size <= np.iinfo(d).max + 1)
        do = partial(work.shard, folder=self.folder, dtype=dtype)
        shards = self._each_chunk(do, "shards.jsonl", "Tokenizing the text", full.to_dict())
        manifest = self._finish(full, shards, dtype)
        if self.folder.name != self._key():
            raise TextError("The text's files changed while they were read: start again.")
        write_atomically(self.folder / "manifest.json", json.dumps(manifest).encode())
        return manifest

    def _chunks(self) -> Iterator[work.Chunk]:
        cleaning = self._data.cleaning
        texts = chunks(self._stream.pieces(), self._separator, cleaning == "none", CHUNK)
        for index, text in enumerate(texts):
            yield work.Chunk(index, text, cleaning, self._separator)

    def _each_chunk(
        self,
        do: Callable[[work.Chunk], dict[str, Any]],
        log_name: str,
        what: str,
        tokenizer: dict[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """What `do` finds in each chunk, in order; a log keeps it."""
        log = self.folder / log_name
        found = {line["index"]: line for line in _read_log(log)}
        if not found.pop(-1, None):  # the line that is written when all is done
            _write_log(log, found.values())
            missing = (chunk for chunk in self._chunks() if chunk.index not in found)
            self._begin = 0.0
            with open(log, "ab", buffering=0) as file:
                for line in shared_work(do, self._noted(missing), tokenizer):
                    file.write(json.dumps(line).encode() + b"\n")
                    found[line["index"]] = line
                    size = sum(each["bytes"] for each in found.values())
                    check_size(size, "The text", self._data.max_text_mb, is_all=False)
                    self._report_progress(what)
                file.write(json.dumps({"index": -1}).encode() + b"\n")
        return [found[index] for index in sorted(found)]

    def _noted(self, missing: Iterator[work.Chunk]) -> Iterator[work.Chunk]:
        """The chunks, noting when the first of them begins: what is skipped takes no time."""
        for chunk in missing:
            if not self._begin:
                self._begin, self._first = time.monotonic(), self._part_read()
            yield chunk

    def _part_read(self) -> float:
        return min(1.0, self._stream.read / max(1, self._stream.size))

    def _report_progress(self, what: str) -> None:
        now, part = time.monotonic(), self._part_read()
        if now - self._last < REPORT_SECONDS or part <= self._first:
            return
        self._last = now
        left = (now - self._begin) * (1 - part) / (part - self._first)
        words = f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"
        self._report(f"{what}: {part:.0%}, about {words} left.")

    def _full_tokenizer(self) -> Tokenizer:
        """The tokenizer that the shards are made by; it may have tokens that never occur."""
        path = self.folder / "tokenizer.json"
        with contextlib.suppress(DamagedFile):
            if stored := read_json(path, MOST_MANIFEST_BYTES):
                return tokenizer_from_dict(stored)
        kind, known = tokenizer_class(self._data.tokenizer), _inner(self._known)
        survey = Survey("", lambda: (), 0)
        if (known or kind).needs_survey:
            survey = self._survey()
        if known:
            made = known.for_further_text(survey)
        else:
            made = kind.for_large_text(survey, **self._data.own_options())
        tokenizer = SeparatedTokenizer(made, self._separator) if self._separator else made
        write_atomically(path, json.dumps(tokenizer.to_dict()).encode())
        return tokenizer

    def _survey(self) -> Survey:
        found = self._each_chunk(work.survey, "survey.jsonl", "Looking through the text")
        alphabet = "".join(sorted(set().union(*(line["alphabet"] for line in found))))
        sizes = [line["chars"] for line in found]
        train = sum(sizes) - validation_size(sum(sizes), self._data.validation_fraction)
        num_bytes = sum(line["bytes"] for line in found) * train // max(1, sum(sizes))
        return Survey(alphabet, lambda: self._sample(sizes, train), num_bytes)

    def _sample(self, sizes: list[int], train: int) -> list[str]:
        """Of each chunk that is trained on the beginning, at most SAMPLE characters in all.

        Args:
            sizes: of the chunks, in characters.
            train: characters that are trained on.
        """
        self._report("Learning byte pairs from a part of the text.")
        share, start, found = min(1.0, SAMPLE / max(1, train)), 0, []
        for chunk, size in zip(self._chunks(), sizes, strict=False):
            if start >= train:
                break
            part = chunk._replace(text=chunk.text[: math.ceil(share * len(chunk.text))])
            text = part.cleaned()[: train - start]
            found += text.split(self._separator) if self._separator else [text]
            start += size
        return found

    def _finish(self, full: Tokenizer, shards: list[dict[str, Any]], dtype: str) -> dict[str, Any]:
        """Cuts off the validation part, counts tokens, and leaves out those that never occur.

        Returns:
            "train" and "validation": the shards; "dtype" of their ids; "rows": of each id, -1 where
            it never occurs; "tokenizer"; "train_bytes", "validation_bytes"; "counts": of the
            rows in the part that measures.
        """
        parts = self._split(full, shards, dtype)
        self._report("Counting the text's tokens.")
        counts = [self._count(part, dtype, full.vocab_size) for part in parts]
        inner, occurs = _inner(full), np.sum(counts, axis=0) > 0
        assert inner is not None  # as there is a tokenizer
        if self._separator:
            check_occurs(self._separator, bool(occurs[-1]))
        if known := _inner(self._known):
            occurs[rows_within(inner, known)] = True
        compact = inner.compact(occurs[: inner.vocab_size])
        made: Tokenizer = compact
        rows = np.arange(full.vocab_size)
        if compact.vocab_size < inner.vocab_size:
            rows = np.where(occurs, np.cumsum(occurs) - 1, -1)
        if self._separator:
            made = SeparatedTokenizer(compact, self._separator)
            rows[-1] = compact.vocab_size
        sizes = np.array([len(full.token_bytes(id)) for id in range(full.vocab_size)])
        train, validation = parts
        used = counts[1] if validation else counts[0]
        return {
            "train": train,
            "validation": validation,
            "dtype": dtype,
            "rows": rows.tolist(),
            "tokenizer": made.to_dict(),
            "train_bytes": int(counts[0] @ sizes),
            "validation_bytes": int(counts[1] @ sizes),
            "counts": used[used > 0].tolist(),
        }

    def _split(
        self, full: Tokenizer, shards: list[dict[str, Any]], dtype: str
    ) -> tuple[list[Shard], list[Shard]]:
        """The shards of what is trained on and of what validates; one that has both is cut."""
        sizes = np.array([shard["chars"] for shard in shards], "int64")
        total = int(sizes.sum())
        cut = total - validation_size(total, self._data.validation_fraction)
        index = int(np.searchsorted(np.cumsum(sizes), cut))
        of_all = [Shard(shard["file"], shard["tokens"], shard["sha256"]) for shard in shards]
        first = cut - int(sizes[:index].sum())
        if first == sizes[index]:
            return of_all[: index + 1], of_all[index + 1 :]
        path = self.folder / of_all[index].file
        text = full.decode(np.fromfile(path, dtype).tolist())
        halves = []
        for name, half in zip(("t", "v"), split_at(text, first, self._separator), strict=True):
            path = self.folder / f"{of_all[index].file}-{name}"
            halves.append(Shard(**work.write_tokens(path, work.ids_of(full, half), dtype)))
        return [*of_all[:index], halves[0]], [halves[1], *of_all[index + 1 :]]

    def _count(self, shards: list[Shard], dtype: str, num_ids: int) -> np.ndarray:
        """How often each id occurs, (num_ids,)."""
        counts = np.zeros(num_ids, "int64")
        for shard in shards:
            ids = np.fromfile(self.folder / shard.file, dtype)
            for start in range(0, len(ids), _COUNTED):
                counts += np.bincount(ids[start : start + _COUNTED], minlength=num_ids)
        return counts


def _inner(tokenizer: Tokenizer | None) -> VocabularyTokenizer | None:
    """The tokenizer of what is between separators."""
    found = tokenizer.inner if isinstance(tokenizer, SeparatedTokenizer) else tokenizer
    assert found is None or isinstance(found, VocabularyTokenizer)  # as are all but the separated
    return found


def _read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; what a killed process left half written is none."""
    lines = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines(keepends=True):
            with contextlib.suppress(ValueError):
                if line.endswith(b"\n"):
                    lines.append(json.loads(line))
    return lines


def _write_log(path: Path, lines) -> None:
    write_atomically(path, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
