"""The examples in docstrings give what they show."""

import doctest
import importlib
from pathlib import Path

import pytest

import keras_lm

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(ROOT.glob("keras_lm/**/*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", keras_lm.__all__)
def test_every_name_of_the_library_has_an_example(name):
    assert ">>> " in (getattr(keras_lm, name).__doc__ or "")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_show(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0, "an example stands where doctest does not look"
    assert result.failed == 0
