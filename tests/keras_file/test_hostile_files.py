"""Files that are no sound model of ours are refused in words, and nothing of them is run."""

import io
import json
import os
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_lm.generation import bundle
from keras_lm.generation.bundle import load
from keras_lm.keras_file.opening import ModelFileError
from tests.bombs import BOMBS

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


# Files that are no sound model of ours. Each of these takes the members of a sound file, a dict of
# name to bytes, and returns the members of a bad one.


def with_config(members, change):
    config = json.loads(members[CONFIG])
    change(config)
    return members | {CONFIG: json.dumps(config).encode()}


def with_weights(members, change):
    content = io.BytesIO(members[WEIGHTS])
    with h5py.File(content, "r+") as file:
        change(file)
    return members | {WEIGHTS: content.getvalue()}


def set_model_field(**fields):
    return lambda m: with_config(m, lambda c: c["config"]["config"].update(fields))


def set_config(**fields):
    return lambda m: with_config(m, lambda c: c.update(fields))


def set_tokenizer(value):
    return lambda m: with_config(m, lambda c: c["config"].update(tokenizer=value))


def some_array(file):
    """The group and the name of one array that has two dimensions."""
    found = []
    file.visititems(
        lambda name, item: (
            found.append(name) if isinstance(item, h5py.Dataset) and item.ndim == 2 else None
        )
    )
    group, _, name = found[0].rpartition("/")
    return file[group], name


def swap_array(make):
    """Replaces one array by what `make(group, name, values)` puts there."""

    def change(file):
        group, name = some_array(file)
        values = group[name][()]
        del group[name]
        make(group, name, values)

    return lambda members: with_weights(members, change)


def set_value(value):
    def make(group, name, values):
        values[-1, -1] = value
        group[name] = values

    return swap_array(make)


def put(make):
    """Adds an entry that no model has."""
    return lambda members: with_weights(members, make)


def make_virtual(group, name, values):
    layout = h5py.VirtualLayout(values.shape, "float32")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", values.shape)
    group.create_virtual_dataset(name, layout)


def make_external(group, name, values):
    external = [("/etc/passwd", 0, values.nbytes)]
    group.create_dataset(name, values.shape, "float32", external=external)


def link_to_itself(file):
    file["loop"] = file["/"]


HOSTILE = {  # by the reason for which they are refused
    "it must hold exactly config.json, metadata.json, model.weights.h5": {
        "no metadata": lambda m: {n: c for n, c in m.items() if n != METADATA},
        "no config": lambda m: {n: c for n, c in m.items() if n != CONFIG},
        "no weights": lambda m: {n: c for n, c in m.items() if n != WEIGHTS},
        "extra member": lambda m: m | {"assets/code.py": b"print(1)"},
        "member outside": lambda m: m | {"../evil": b""},
    },
    "Expecting property name": {
        "config is no JSON": lambda m: m | {CONFIG: b"{"},
    },
    "codec can't decode": {
        "config is no UTF-8": lambda m: m | {CONFIG: b"\xff\xfe\xfd"},
    },
    "its config.json does not describe a keras_lm language model": {
        "config is a list": lambda m: m | {CONFIG: b"[]"},
        "config of another class": set_config(
            class_name="Sequential", registered_name="Sequential"
        ),
        "config of a lambda": set_config(
            class_name="Lambda", registered_name="Lambda", module="keras.layers"
        ),
        "registered name missing": set_config(registered_name=None),
    },
    "maximum recursion depth": {
        "config is deep": lambda m: m | {CONFIG: b"[" * 200_000},
    },
    "its config.json has no config": {
        "config has no values": set_config(config=None),
    },
    "ModelConfig must be a JSON object, but got None": {
        "model config missing": lambda m: with_config(m, lambda c: c["config"].pop("config")),
    },
    "ModelConfig has no field 'surprise'; remove it": {
        "unknown field": set_model_field(surprise=1),
    },
    "d_model must be a whole number, but got '30'": {
        "field of another type": set_model_field(d_model="30"),
    },
    "dropout must be a number, but got nan": {
        "field that is not a number": set_model_field(dropout=float("nan")),
    },
    "d_model must be between 2 and 8,192, but got 10,000,000,000": {
        "field beyond any float": set_model_field(d_model=10**400),
    },
    "num_blocks must be between 1 and 128, but got 0": {
        "field out of range": set_model_field(num_blocks=0),
    },
    "d_model must be a multiple of num_heads": {
        "heads that do not fit": set_model_field(num_heads=7),
    },
    "its tokenizer has 23 tokens and its model (0|22|24)": {
        "no vocabulary": set_model_field(vocab_size=0),
        "vocabulary larger than the tokenizer's": set_model_field(vocab_size=24),
        "vocabulary smaller than the tokenizer's": set_model_field(vocab_size=22),
    },
    "its model would have 240,453,543,330 weights": {
        "too large to build": set_model_field(d_model=8190, num_blocks=128, ffn_dim=65_536),
    },
    "its weights do not fit its config": {
        "another width": set_model_field(d_model=36),
        "more blocks": set_model_field(num_blocks=3),
        "fewer blocks": set_model_field(num_blocks=1),
        "another norm": set_model_field(norm="layernorm", use_bias=True),
        "tied embeddings": set_model_field(tie_embeddings=True),
        "weights are empty": lambda m: m | {WEIGHTS: b""},
        "weights lack an array": swap_array(lambda group, name, values: None),
        "weights of another shape": swap_array(
            lambda group, name, values: group.create_dataset(name, data=values[:-1])
        ),
        "weights of another type": swap_array(
            lambda group, name, values: group.create_dataset(name, data=values.astype("float64"))
        ),
        "weights as text": swap_array(
            lambda group, name, values: group.create_dataset(name, data=["x"] * 3)
        ),
        "weights without a shape": swap_array(
            lambda group, name, values: group.create_dataset(name, data=h5py.Empty("float32"))
        ),
        "weights as a group": swap_array(lambda group, name, values: group.create_group(name)),
        "an optimizer that is too large": put(
            lambda file: file.create_dataset("optimizer/vars/0", data=np.zeros(10**6, "float32"))
        ),
        "an optimizer that is not at the top": put(
            lambda file: file.create_dataset("vars/optimizer", data=np.zeros(3))
        ),
        "an extra array": put(lambda file: file.create_dataset("extra", data=np.zeros(3))),
    },
    "A stored tokenizer needs a JSON object": {
        "no tokenizer": set_tokenizer(None),
    },
    "must be one of char, bpe, gpt2, but got 'pickle'": {
        "unknown tokenizer": set_tokenizer({"kind": "pickle", "characters": "ab"}),
    },
    "needs ascending characters": {
        "tokenizer out of order": set_tokenizer({"kind": "char", "characters": "ba"}),
    },
    "is damaged: its weights cannot be read": {
        "weights are no HDF5": lambda m: m | {WEIGHTS: b"x" * len(m[WEIGHTS])},
        "weights are cut": lambda m: m | {WEIGHTS: m[WEIGHTS][: len(m[WEIGHTS]) // 2]},
    },
    "is not an array": {
        "weights as a type": swap_array(
            lambda group, name, values: group.__setitem__(name, np.dtype("float32"))
        ),
        "an extra type": put(lambda file: file.__setitem__("extra", np.dtype("float32"))),
    },
    "values that are not finite numbers": {
        "weights with nan": set_value(np.nan),
        "weights with inf": set_value(np.inf),
    },
    "too deeply nested": {
        "a group inside itself": put(link_to_itself),
    },
    "its weights hold a link": {
        "weights behind a soft link": swap_array(
            lambda group, name, values: group.__setitem__(name, h5py.SoftLink("/nowhere"))
        ),
        "weights behind an external link": swap_array(
            lambda group, name, values: group.__setitem__(
                name, h5py.ExternalLink("/etc/passwd", "/x")
            )
        ),
        "an optimizer behind a soft link": put(
            lambda file: file.__setitem__("optimizer", h5py.SoftLink("/vars"))
        ),
        "an optimizer in another file": put(
            lambda file: file.__setitem__("optimizer", h5py.ExternalLink("/etc/passwd", "/"))
        ),
        "an extra soft link": put(lambda file: file.__setitem__("extra", h5py.SoftLink("/vars"))),
    },
    "is compressed or kept elsewhere": {
        "weights in another file": swap_array(make_external),
        "weights put together": swap_array(make_virtual),
        "weights compressed": swap_array(
            lambda group, name, values: group.create_dataset(name, data=values, compression="gzip")
        ),
        "weights filtered": swap_array(
            lambda group, name, values: group.create_dataset(name, data=values, shuffle=True)
        ),
    },
}


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path, members, compression=zipfile.ZIP_STORED):
    with warnings.catch_warnings():  # of the doubled name
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in members:
                archive.writestr(name, content)
    return path


def keras_globals():
    return (
        keras.config.floatx(),
        keras.config.epsilon(),
        keras.config.image_data_format(),
        keras.config.dtype_policy().name,
        keras.config.is_traceback_filtering_enabled(),
        keras.config.is_interactive_logging_enabled(),
        dict(keras.saving.get_custom_objects()),
    )


def assert_refused(path, reason):
    before = keras_globals()
    with pytest.raises(ModelFileError, match=reason) as raised:
        load(path)
    message = str(raised.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < len(str(path)) + 300
    assert keras_globals() == before


def test_rewriting_the_members_alone_leaves_a_sound_file(sound, tmp_path):
    members = with_weights(with_config(members_of(sound), lambda c: None), lambda file: None)
    load(write_members(tmp_path / "model.keras", members.items()))


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        pytest.param(reason, change, id=name)
        for reason, changes in HOSTILE.items()
        for name, change in changes.items()
    ],
)
def test_a_file_that_is_no_sound_model_of_ours_is_refused(sound, tmp_path, reason, change):
    members = change(members_of(sound))
    assert members != members_of(sound)
    assert_refused(write_members(tmp_path / "model.keras", members.items()), reason)


STATES = {
    "nothing": lambda file: file.create_group("optimizer"),
    "a link": lambda file: file.__setitem__("optimizer/vars", h5py.ExternalLink("/x", "/y")),
    "itself": lambda file: file.__setitem__("optimizer", file),
    "compressed": lambda file: file.create_dataset(
        "optimizer/vars/0", data=np.zeros(10**7), compression="gzip"
    ),
    "text": lambda file: file.__setitem__("optimizer", "x"),
}


@pytest.mark.parametrize("state", STATES)
def test_whatever_stands_for_an_optimizer_is_never_opened(sound, tmp_path, state):
    path = tmp_path / "model.keras"
    write_members(path, with_weights(members_of(sound), STATES[state]).items())
    for ours, theirs in zip(
        load(path).model.get_weights(), load(sound).model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", [CONFIG, METADATA, WEIGHTS])
def test_a_member_that_comes_twice_is_refused(sound, tmp_path, name):
    members = members_of(sound)
    twice = [*members.items(), (name, members[name])]
    assert_refused(write_members(tmp_path / "model.keras", twice), "must hold exactly")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_file_is_refused(sound, tmp_path, compression):
    members = members_of(sound).items()
    path = write_members(tmp_path / "model.keras", members, compression)
    assert_refused(path, "compressed or too large")


def test_a_member_that_claims_more_than_the_file_holds_is_refused(sound, tmp_path):
    content = bytearray(sound.read_bytes())
    entry = content.index(b"PK\x01\x02")
    while content[entry + 46 :][: len(WEIGHTS)] != WEIGHTS.encode():
        entry = content.index(b"PK\x01\x02", entry + 1)
    size = len(content) * 2
    content[entry + 20 : entry + 28] = size.to_bytes(4, "little") * 2
    (tmp_path / "model.keras").write_bytes(content)
    assert_refused(tmp_path / "model.keras", "EOFError|Overlapped")


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_is_refused(sound, tmp_path, kept):
    content = sound.read_bytes()
    (tmp_path / "model.keras").write_bytes(content[: int(kept * len(content))])
    assert_refused(tmp_path / "model.keras", "is not a keras_lm model, or it is damaged")


def test_a_flipped_bit_in_the_weights_is_noticed(sound, tmp_path):
    content = bytearray(sound.read_bytes())
    content[content.index(members_of(sound)[WEIGHTS]) + 5000] ^= 1
    (tmp_path / "model.keras").write_bytes(content)
    assert_refused(tmp_path / "model.keras", "CRC-32")


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    assert_refused(tmp_path / "missing.keras", "cannot be read: No such file or directory")
    assert_refused(tmp_path, "cannot be read: Is a directory")


def test_a_model_larger_than_its_weights_is_never_built(sound, tmp_path, monkeypatch):
    members = set_model_field(d_model=600, ffn_dim=1200, num_blocks=60)(members_of(sound))
    path = write_members(tmp_path / "model.keras", members.items())
    monkeypatch.setattr(bundle, "build_model", lambda *_: pytest.fail("it was built"))
    assert_refused(path, "its weights do not fit its config")


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_a_file_made_to_take_time_memory_or_disk_is_refused(sound, tmp_path, make):
    (tmp_path / "model.keras").write_bytes(make(sound))
    assert_refused(tmp_path / "model.keras", "is not a keras_lm model, or it is damaged")
    assert os.listdir(tmp_path) == ["model.keras"]
