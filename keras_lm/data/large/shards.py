"""Tokens on the disk, in many files, read window by window."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Shard(NamedTuple):
    """A file of tokens.

    Attributes:
        file: its name.
        tokens: how many it holds.
        sha256: of its bytes.
    """

    file: str
    tokens: int
    sha256: str


class Shards:
    """Tokens in files, one after the other, as one sequence of which any part can be read.

    Nothing stays in memory: what is read again comes from the system's cache of files.

    Args:
        folder: where the files are.
        shards: the files.
        dtype: of the ids in them.
        rows: the row of the embedding that each id stands for, (num_ids,) int32.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "a").write_bytes(bytes([0, 1])), (folder / "b").write_bytes(bytes([2]))
        >>> tokens = Shards(folder, [Shard("a", 2, ""), Shard("b", 1, "")], "uint8", np.arange(3))
        >>> len(tokens), tokens[1:].tolist(), tokens.windows(np.array([1, 0]), 2).tolist()
        (3, [1, 2], [[1, 2], [0, 1]])
    """

    def __init__(self, folder: Path, shards: Sequence[Shard], dtype: str, rows: np.ndarray):
        self._paths = [folder / shard.file for shard in shards]
        self._ends = np.cumsum([shard.tokens for shard in shards], dtype="int64")
        self._dtype, self._rows = np.dtype(dtype), rows.astype("int32")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, part: slice) -> np.ndarray:
        """The rows of a part without steps, (num_tokens,) int32."""
        start, stop, _ = part.indices(len(self))
        return self._rows[self._ids(start, max(start, stop))]

    def windows(self, offsets: np.ndarray, length: int) -> np.ndarray:
        """The rows from each of `offsets` (count,) on: (count, length) int32."""
        ids = np.empty((len(offsets), length), self._dtype)
        for row, offset in zip(ids, offsets.tolist(), strict=True):
            row[:] = self._ids(offset, offset + length)
        return self._rows[ids]

    def _ids(self, start: int, stop: int) -> np.ndarray:
        """The ids from `start` to below `stop`, as they are on the disk."""
        found = [np.empty(0, self._dtype)]
        index = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            end = int(self._ends[index])
            tokens = end - (int(self._ends[index - 1]) if index else 0)
            first, count = start - (end - tokens), min(stop, end) - start
            offset = first * self._dtype.itemsize
            found.append(np.fromfile(self._paths[index], self._dtype, count, offset=offset))
            start, index = min(stop, end), index + 1
        return np.concatenate(found)
