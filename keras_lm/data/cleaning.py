"""What is done to a text before it becomes tokens."""

import re

from keras_lm.data.reading import TextError
from keras_lm.settings.data_config import CLEANINGS


def clean(text: str, cleaning: str, separator: str = "") -> str:
    """The text after `cleaning`: none keeps it; classic has small letters and marks apart.

    Classic keeps a-z, 0-9, space, newline and .,!? after lower-casing, puts a space before each of
    these marks and makes runs of spaces one. Separators stay. TextError when nothing is left, or
    for another name.

    Example:
        >>> clean("The Man, who?", "classic")
        'the man , who ?'
    """
    parts = text.split(separator) if separator else [text]
    found = separator.join(cleaned(part, cleaning) for part in parts)
    if cleaning != "none" and not re.search(r"[a-z0-9]", found):
        raise TextError(
            "Classic cleaning keeps a-z and 0-9 only, but the text has none of them; "
            "set cleaning to none."
        )
    return found


def cleaned(text: str, cleaning: str) -> str:
    """`clean` of what may be a part of a text, of which nothing may be left.

    Example:
        >>> cleaned("Ωμέγα", "classic")
        ''
    """
    if cleaning not in CLEANINGS:
        raise TextError(f"cleaning must be one of {', '.join(CLEANINGS)}, but got {cleaning!r}.")
    if cleaning == "none":
        return text
    kept = re.sub(r"[^a-z0-9.,!? \n]", "", text.lower())
    for mark in ".,!?":
        kept = kept.replace(mark, f" {mark}")
    return re.sub(" {2,}", " ", kept)
