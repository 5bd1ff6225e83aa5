"""Continues a text with the model of this folder: python generate.py "The man" --tokens 100

It always takes the likeliest token. It needs NumPy, and what forward.py imports.
"""

import argparse
import codecs
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from forward import logits
from tokens import Tokens

FOLDER = Path(__file__).parent
CONFIG = json.loads((FOLDER / "config.json").read_text("utf-8"))


def continue_ids(ids: list[int], count: int, stop: int | None = None) -> Iterator[int]:
    """The likeliest tokens after `ids`, at most `count`, until the text ends."""
    ids = list(ids)
    for _ in range(count):
        seen = np.array([ids[-CONFIG["context_length"] :]], "int32")  # (1, length)
        ids.append(int(np.argmax(logits(seen)[0, -1])))
        if ids[-1] == stop:
            break
        yield ids[-1]


def main() -> None:
    """Prints the continuation as it is made."""
    parser = argparse.ArgumentParser(description="Continues a text.")
    parser.add_argument("prompt", help="The text to continue.")
    parser.add_argument("--tokens", type=int, default=100, help="At most this many tokens.")
    arguments = parser.parse_args()
    tokens = Tokens(FOLDER)
    ids, made = tokens.encode(arguments.prompt), []
    if not ids:  # it begins as a document does, or with some token
        ids = [tokens.first if tokens.stop is None else tokens.stop]
        made = ids if tokens.stop is None else []
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for id in chain(made, continue_ids(ids, arguments.tokens - len(made), tokens.stop)):
        print(decoder.decode(tokens.token_bytes(id)), end="", flush=True)
    print(decoder.decode(b"", final=True))


if __name__ == "__main__":
    main()
