"""Model files made to take time, memory or disk: each a function of a sound file's path."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MEGABYTE = 2**20


def members(sound: Path) -> dict[str, bytes]:
    """The members of a sound file."""
    with zipfile.ZipFile(sound) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(contents: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of these members."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return packed.getvalue()


def with_json(sound: Path, content: bytes) -> bytes:
    """The sound file with another `config.json`."""
    return pack(members(sound) | {CONFIG: content})


def with_tokenizer(sound: Path, tokenizer: object) -> bytes:
    """The sound file with another tokenizer."""
    config = json.loads(members(sound)[CONFIG])
    config["config"]["tokenizer"] = tokenizer
    return with_json(sound, json.dumps(config).encode())


def with_model(sound: Path, change, weights: bytes | None = None, **fields) -> bytes:
    """The sound file with other fields of the model and a changed weights file."""
    contents = members(sound)
    config = json.loads(contents[CONFIG])
    config["config"]["config"].update(fields)
    content = io.BytesIO(contents[WEIGHTS] if weights is None else weights)
    with h5py.File(content, "r+") as file:
        change(file)
    changed = {CONFIG: json.dumps(config).encode(), WEIGHTS: content.getvalue()}
    return pack(contents | changed)


def add_groups(count: int):
    def change(file):
        for number in range(count):
            file.create_group(f"g{number}")

    return change


def nest_groups(depth: int):
    def change(file):
        group = file
        for _ in range(depth):
            group = group.create_group("g")

    return change


def link_often(file):
    for name in "abcdefgh":
        for other in "ijklmnop":
            file[f"embedding/{name}{other}"] = file["/"]


def unwritten(file):
    """Arrays of the right shape that take no room in the file."""
    del file["embedding/vars/0"]
    file.create_dataset("embedding/vars/0", (23, 30), "<f4")


def chunked(file):
    values = file["embedding/vars/0"][()]
    del file["embedding/vars/0"]
    file.create_dataset("embedding/vars/0", data=values, chunks=(1, 1))


def huge_array(file):
    del file["embedding/vars/0"]
    file.create_dataset("embedding/vars/0", (1_000_000, 1_000_000), "<f4")


def many_members(sound: Path, count: int, lie: bool) -> bytes:
    """An archive with a long list of members, whose end may count three only."""
    extra = {f"{number}": b"" for number in range(count)}
    content = bytearray(pack(members(sound) | extra))
    if lie:
        content[-14:-10] = (3).to_bytes(2, "little") * 2
    return bytes(content)


def stretch(sound: Path, size: int) -> bytes:
    """The sound file with `size` zero bytes at the end of its weights."""
    contents = members(sound)
    return pack(contents | {WEIGHTS: contents[WEIGHTS] + bytes(size)})


def scattered(seed: int, flips: int):
    """Bytes changed at random in the weights file, its checksum made right again."""

    def change(sound: Path) -> bytes:
        contents = members(sound)
        weights = bytearray(contents[WEIGHTS])
        generator = np.random.default_rng(seed)
        for offset in generator.integers(0, 4000, flips):  # where HDF5 keeps its own structure
            weights[offset] = generator.integers(256)
        return pack(contents | {WEIGHTS: bytes(weights)})

    return change


BOMBS = {
    "lists within 16 MB of JSON": lambda s: with_json(s, b"[" + b"[]," * 5_500_000 + b"[]]"),
    "objects within 16 MB of JSON": lambda s: with_json(s, b"[" + b"{}," * 5_500_000 + b"{}]"),
    "digits": lambda s: with_json(s, b"1" * 15_000_000),
    "a tokenizer of lists": lambda s: with_tokenizer(s, {"kind": "gpt2", "ids": [[]] * 3_000_000}),
    "a tokenizer of all characters": lambda s: with_tokenizer(
        s, {"kind": "char", "characters": "".join(map(chr, range(0xE000, 0x110000)))}
    ),
    "JSON deep": lambda s: with_json(s, b'{"config":' * 1_000_000),
    "a zip bomb": lambda s: pack(
        members(s) | {CONFIG: bytes(400 * MEGABYTE)}, zipfile.ZIP_DEFLATED
    ),
    "a bomb in the weights": lambda s: pack(
        members(s) | {WEIGHTS: bytes(400 * MEGABYTE)}, zipfile.ZIP_DEFLATED
    ),
    "50,000 members": lambda s: many_members(s, 50_000, lie=False),
    "50,000 members counted as three": lambda s: many_members(s, 50_000, lie=True),
    "50 MB of zeros in the weights": lambda s: stretch(s, 50 * MEGABYTE),
    "50 MB of nothing": lambda s: bytes(50 * MEGABYTE),
    "50 MB of archive ends": lambda s: b"PK\5\6" * (50 * MEGABYTE // 4),
    "100,000 groups": lambda s: with_model(s, add_groups(100_000)),
    "2,000 groups deep": lambda s: with_model(s, nest_groups(2_000)),
    "links in circles": lambda s: with_model(s, link_often),
    "arrays that were never written": lambda s: with_model(s, unwritten),
    "arrays in chunks": lambda s: with_model(s, chunked),
    "an array of 4 TB": lambda s: with_model(s, huge_array),
    "128 blocks": lambda s: with_model(s, lambda file: None, num_blocks=128),
}
