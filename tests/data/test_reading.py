"""Bytes to text: encodings, packed files, and what is said of files that hold no text."""

import gzip
import re
import zipfile

import pytest

from keras_lm.data.reading import TextError, read_text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("né".encode(), "né"),
        ("né".encode("utf-8-sig"), "né"),
        (b"\xff\xfe" + "né😀".encode("utf-16-le"), "né😀"),
        (b"\xfe\xff" + "né😀".encode("utf-16-be"), "né😀"),
        ("a\ufeffb".encode(), "a\ufeffb"),
        (b"a\r\nb\rc\n\r\n\rd", "a\nb\nc\n\n\nd"),
        (b"\xff\xfe" + "a\r\nb".encode("utf-16-le"), "a\nb"),
        (b"aa", "aa"),
        (b"a\n", "a\n"),
        (b"tab\t\x0c\x1b", "tab\t\x0c\x1b"),
    ],
)
def test_read_text(source, text):
    assert read_text(source) == text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "x.txt is empty. Choose one with some text."),
        (b"\xef\xbb\xbf", "x.txt is empty. "),
        (b"\xff\xfe", "x.txt is empty. "),
        (b" \r\n\t", "x.txt has only spaces and line ends. "),
        (b"a", "x.txt has one character only. "),
        ("日".encode(), "x.txt has one character only. "),
        (b"ab\0c", "x.txt is not plain text: it has a NUL byte at offset 2. Save"),
        ("ab\0".encode("utf-16"), "x.txt is not plain text: it has a NUL character at position 2"),
        ("a text".encode("utf-16-le"), "x.txt is UTF-16 without a byte order mark, not UTF-8. ADV"),
        ("a text".encode("utf-16-be"), "x.txt is UTF-16 without a byte order mark, not UTF-8. "),
        ("a text".encode("utf-32"), "x.txt is UTF-32, not UTF-8. "),
        (b"a\xed\xa0\x80b", "not UTF-8 (byte 0xed at offset 1 looks like a lone surrogate). ADV"),
        (b"it\x92s", "not UTF-8 (byte 0x92 at offset 2 looks like Windows-1252). ADVICE"),
        (b"caf\xe9 au", "not UTF-8 (byte 0xe9 at offset 3 looks like Latin-1). ADVICE"),
        (b"caf\xe9", "not UTF-8 (byte 0xe9 at offset 3 looks like Latin-1). ADVICE"),
        (b"\xef\xbb\xbfcaf\xe9 au", "(byte 0xe9 at offset 6 looks like"),
        (b"ab\xed\xa0\x80", "(byte 0xed at offset 2 looks like"),
        (b"\xff\xfea\0b", "(byte 0x62 at offset 4 looks like a damaged UTF-16 file)"),
        (b"\xff\xfea\0\x00\xd8b\0", "at offset 4 looks like a damaged UTF-16 file)"),
        ("é日".encode()[:-1], "is cut within its last character (byte 0xe6 at offset 2). Copy it "),
        ("a😀".encode()[:-2], "offset 1). Copy it again, or delete its last 2 bytes."),
        ("café".encode()[:-1], "is cut within its last character (byte 0xc3 at offset 3). Copy it"),
        (b"\x89PNG\r\n\x1a\n\0\0", "x.txt is an image, not plain text. Save its text as"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "x.txt is an image"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "x.txt is a PDF, not plain text. "),
        (b"%PDF-1.4\nplain letters only", "x.txt is a PDF, not plain text. "),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "x.txt is an old Office document"),
        (b"BZh91AY&SY", "x.txt is a compressed file"),
        (gzip.compress(b"a text", mtime=0)[:-9], "x.txt is a damaged gzip file. Copy it again"),
        (b"\x1f\x8b", "x.txt is a damaged gzip file. Copy it again"),
        (gzip.compress(b"a" * 9000, mtime=0), "x.txt has at least 2,001 bytes, but at most 0.002"),
        (gzip.compress(gzip.compress(b"a text", mtime=0), mtime=0), "x.txt is a compressed file"),
        (gzip.compress(b"%PDF-1.7", mtime=0), "x.txt is a PDF"),
    ],
)
def test_read_text_refuses_in_words(source, message):
    with pytest.raises(TextError, match=re.escape(message)) as caught:
        read_text(source, "x.txt", 0.002, advice="ADVICE")
    assert "\n" not in str(caught.value)


def test_a_document_is_called_that(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.docx", "w") as file:
        file.writestr("word/document.xml", "text")
    with pytest.raises(TextError, match="This file is a zip archive, as docx, odt and epub"):
        read_text((tmp_path / "x.docx").read_bytes())


def test_the_page_says_to_upload_it_again():
    with pytest.raises(TextError) as caught:
        read_text(b"caf\xe9 au")
    assert str(caught.value) == (
        "This file is not UTF-8 (byte 0xe9 at offset 3 looks like Latin-1). "
        "Save it as UTF-8 and upload it again."
    )


def test_a_packed_text_is_unpacked():
    assert read_text(gzip.compress(b"a\r\ntext")) == "a\ntext"


@pytest.mark.parametrize(
    ("encoding", "source", "text"),
    [
        ("latin-1", b"caf\xe9", "café"),
        ("utf-16-le", "né\0".encode("utf-16-le")[:4], "né"),
        ("utf-8", "\ufeffné".encode(), "né"),
        ("cp1251", "мир".encode("cp1251"), "мир"),
        ("shift-jis", "日本".encode("shift-jis"), "日本"),
        ("unicode_escape", b"a\\ud800", "a?"),
    ],
)
def test_another_encoding_can_be_named(encoding, source, text):
    assert read_text(source, encoding=encoding) == text


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("no-such", "encoding must be one that Python knows, such as utf-8 .* but got 'no-such'"),
        ("zlib", "encoding must be one that Python knows"),
        ("a\0b", "encoding must be one that Python knows"),
        ("utf-8", "This file is not utf-8 at offset 3. Name another encoding."),
        ("idna", "This file is not idna"),
        ("undefined", "This file is not undefined. Name another encoding."),
    ],
)
def test_an_encoding_that_does_not_fit_is_refused(encoding, message):
    with pytest.raises(TextError, match=message):
        read_text(b"caf\xe9 au", encoding=encoding)
