"""Texts in records: .jsonl and .parquet files, packed ones, and what is said of damaged ones."""

import gzip
import json

import pyarrow
import pytest
from pyarrow import parquet

from keras_lm.data.corpus import cleaned_text
from keras_lm.data.reading import TextError, read_text, text_files
from keras_lm.data.texts import load_text
from keras_lm.settings.config import DataConfig

TEXTS = ["first line\nsecond", "", "né 😀", "third\r\ntext"]
JOINED = "first line\nsecond|né 😀|third\ntext"


def zstd(content):
    return pyarrow.compress(content, codec="zstd", asbytes=True)


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


RECORDS = lines(*({"id": 7, "text": text} for text in TEXTS), {"text": None})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", RECORDS),
        ("a.jsonl", b"\xef\xbb\xbf\n" + RECORDS),
        ("a.JSONL.gz", gzip.compress(RECORDS, mtime=0)),
        ("a.jsonl.zst", zstd(RECORDS)),
        ("a.jsonl.zst", zstd(RECORDS[:10]) + zstd(RECORDS[10:])),
    ],
    ids=["plain", "mark", "gzip", "zstd", "frames"],
)
def test_the_texts_of_json_lines_are_joined(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert load_text(str(tmp_path / name), separator="|", text_field="text") == JOINED


def test_the_texts_of_a_parquet_file_are_joined(tmp_path):
    table = pyarrow.table({"n": [1, 2, 3, 4, 5], "body": [*TEXTS, None]})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    data = DataConfig(str(tmp_path / "a.parquet"), separator="|", text_field="body")
    assert cleaned_text(data) == JOINED


def test_without_a_field_json_lines_are_plain_text(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(RECORDS)
    assert load_text(str(tmp_path / "a.jsonl")) == RECORDS.decode()
    earlier = DataConfig.from_dict({"data": "a", "text_field": ""})
    assert earlier.text_field == ""


def test_a_lone_surrogate_becomes_a_question_mark(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a\\ud800b \\ud83d\\ude00"}')
    assert load_text(str(tmp_path / "a.jsonl"), text_field="text") == "a?b 😀"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", lines({"a": 1, "b": 2}), "line 1, has no 'text', but 'a', 'b': name the one"),
        ("a.jsonl", lines({"text": "x"}, {"text": 5}), "line 2, must have a text in 'text', but"),
        ("a.jsonl", lines({"text": "x"}, ["x"]), "line 2, must be a JSON object, but is none"),
        ("a.jsonl", lines({"text": "x"}) + b"{", "but line 2 is none. Correct it"),
        ("a.jsonl", b"[" * 100_000, "but line 1 is none. Correct it"),
        ("a.jsonl", lines({"text": "x"}) + b"\xe9", "is not UTF-8 after line"),
        ("a.jsonl", lines({"text": "x\0"}), "a record has a NUL character"),
        ("a.jsonl", b"\n\n", "has no record with some text in 'text'"),
        ("a.jsonl", lines({"text": "x" * 2001}), "has at least 2,001 bytes, but at most 0.002 MB"),
        ("a.jsonl.gz", gzip.compress(RECORDS, mtime=0)[:-9], "is a damaged packed file. Copy it"),
        ("a.jsonl.zst", zstd(RECORDS)[:-9], "is a damaged packed file. Copy it again"),
        ("a.parquet", b"PAR1 and no more", "is a damaged .parquet file. Copy it again"),
        ("a.txt", zstd(b"a text")[:-5], "is a damaged zstd file. Copy it again, or unpack it"),
        ("a.txt", zstd(b"a" * 9000), "has at least 2,001 bytes, but at most 0.002 MB"),
    ],
)
def test_what_is_said_of_records_that_cannot_be_used(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError, match=message) as raised:
        load_text(str(tmp_path / name), 0.002, text_field="text")
    assert "\n" not in str(raised.value)


def test_what_is_said_of_columns_that_cannot_be_used(tmp_path):
    parquet.write_table(pyarrow.table({"n": [1, 2]}), tmp_path / "a.parquet")
    for field, message in [("text", "has no 'text', but 'n': name the"), ("n", "but got int64")]:
        with pytest.raises(TextError, match=message):
            load_text(str(tmp_path / "a.parquet"), text_field=field)


def test_a_text_packed_with_zstd_is_unpacked():
    assert read_text(zstd(b"a\r\ntext") + zstd(b" and more")) == "a\ntext and more"


def test_records_of_a_folder_are_read_where_it_has_no_texts(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(RECORDS)
    (tmp_path / "b.txt.zst").write_bytes(zstd(b"bb"))
    assert [path.name for path in text_files(str(tmp_path))] == ["a.jsonl", "b.txt.zst"]
    (tmp_path / "c.txt").write_text("cc")
    assert [path.name for path in text_files(str(tmp_path))] == ["c.txt"]
