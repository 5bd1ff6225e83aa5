"""Shared by the tests of texts."""

import gzip

import pytest


@pytest.fixture
def books(tmp_path):
    """A folder with texts, packed ones, others, and hidden ones."""
    contents = {
        "b.txt": "bb",
        "a.txt": "aa",
        "deep/er/c.md": "cc",
        "d.txt.gz": gzip.compress(b"dd"),
        "code.py": "print()",
        ".hidden.txt": "no",
        ".git/e.txt": "no",
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path
