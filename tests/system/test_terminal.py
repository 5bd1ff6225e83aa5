"""What is printed for people: never a character that a terminal obeys."""

import pytest

from keras_lm.system.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("café 👩‍👩‍👧 日本", "café 👩‍👩‍👧 日本"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x9b\x7f\0", "\\x9b\\x7f\\x00"),
        ("\u2028\ud800", "\\u2028\\ud800"),
    ],
)
def test_control_characters_are_escaped(text, shown):
    assert printable(text) == shown
    assert printable("a\r\nb\tc", keep="\n\t") == "a\\r\nb\tc"
