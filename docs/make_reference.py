"""Makes docs/reference.md from the docstrings of the library: python -m docs.make_reference"""

import inspect
import math
import re
import textwrap
from collections.abc import Iterator
from dataclasses import Field
from pathlib import Path
from typing import Any

import keras_lm
from keras_lm.model.attention.base import CausalSelfAttention
from keras_lm.settings.checks import Checked, show_number

FILE = Path(__file__).with_name("reference.md")
BEGINNING = """# Reference

What `import keras_lm` gives. `python -m docs.make_reference` makes this file from the docstrings,
and a test says when to make it again. Of each method it has the first paragraph, and `help` in
Python shows the rest.
"""
LINE = 88  # characters of a signature that stays on one line
PART = re.compile(r"^([A-Z][\w ]+):\n((?: {4}.*(?:\n|\Z)|\n)+)", re.MULTILINE)
ENTRY = re.compile(r"(\*{0,2}\w[\w, .]*): (.+)", re.DOTALL)


def reference() -> str:
    """The text of the file."""
    return "\n".join([BEGINNING, *map(describe, keras_lm.__all__)])


def describe(name: str) -> str:
    """One name: signature, docstring, and what a class has."""
    value = getattr(keras_lm, name)
    parts = [f"## {name}\n"]
    if inspect.isclass(value) and issubclass(value, Checked):
        settings = "".join(map(describe_setting, value.specs()))
        parts += [as_markdown(docstring(value)), f"**Settings**, each an argument\n\n{settings}"]
    else:
        parts += [as_code(signature(name, value)), as_markdown(docstring(value))]
    # The methods of an attention are for those who write another one.
    if inspect.isclass(value) and not issubclass(value, CausalSelfAttention):
        if members := "".join(describe_members(value)):
            parts.append(f"**Methods and properties**\n\n{members}")
    return "\n".join(parts)


def docstring(value: Any) -> str:
    """Its docstring; of an attention without arguments of its own also what its base class says."""
    text = inspect.getdoc(value) or ""
    if inspect.isclass(value) and issubclass(value, CausalSelfAttention) and "\nArgs:" not in text:
        shared = (inspect.getdoc(CausalSelfAttention) or "").partition("\n\n")[2]
        text = text.replace("\nExample:\n", f"\n{shared}\n\nExample:\n")
    return text


def as_markdown(text: str) -> str:
    """A docstring with its parts as lists, and its example as code.

    Example:
        >>> print(as_markdown("Adds.\\n\\nArgs:\\n    a: a number,\\n        or two."))
        Adds.
        <BLANKLINE>
        **Args**
        <BLANKLINE>
        - `a`: a number, or two.
        <BLANKLINE>
    """
    return PART.sub(_part_as_markdown, text.strip()).strip() + "\n"


def _part_as_markdown(part: re.Match) -> str:
    title, content = part[1], textwrap.dedent(part[2]).strip()
    if title == "Example":
        return f"**{title}**\n\n{as_code(content)}\n"
    # An entry begins at the margin, and what goes on is indented.
    entries = [" ".join(entry.split()) for entry in re.split(r"\n(?=\S)", content)]
    found = [ENTRY.fullmatch(entry) for entry in entries]
    if all(found):
        lines = "\n".join(f"- `{entry[1]}`: {entry[2]}" for entry in found if entry)
    else:
        lines = " ".join(entries)
    return f"**{title}**\n\n{lines}\n\n"


def as_code(text: str) -> str:
    """A block of Python."""
    return f"```python\n{text}\n```\n"


def signature(name: str, value: Any, most: float = LINE) -> str:
    """How it is called, without the modules of types; beyond `most` with a line per argument."""
    if inspect.isclass(value) and value.__init__ is ValueError.__init__:
        return f"{name}(message)"
    found = str(inspect.signature(value)).replace("'", '"')
    found = re.sub(r"^\(self(, )?", "(", found)
    found = re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z])", "", found)
    parameters, result = found[1:].removesuffix(" -> None").rsplit(")", 1)
    short = f"{name}({parameters}){result}"
    if len(short) <= most:
        return short
    lines = re.sub(r", (?=\*{0,2}\w+(?::|=|,|$))", ",\n    ", parameters)
    return f"{name}(\n    {lines},\n){result}"


def describe_setting(spec: Field) -> str:
    """A line of a list about one field of a config."""
    low, high, choices = (spec.metadata[key] for key in ("low", "high", "choices"))
    default = f'"{spec.default}"' if isinstance(spec.default, str) else spec.default
    allowed = f"; one of {', '.join(choices)}" if choices else ""
    if low is not None and high is not None:
        allowed = f"; {show_number(low)} to {show_number(high)}"
    return f"- `{spec.name} = {default}`{allowed}: {spec.metadata['help']}\n"


def describe_members(value: type) -> Iterator[str]:
    """Lines of a list about its public methods and properties that have a docstring of ours."""
    ours = [base for base in value.__mro__ if is_ours(base)]
    names = dict.fromkeys(name for base in reversed(ours) for name in vars(base))
    for name in names:
        if name.startswith("_"):
            continue
        docs = (getattr(vars(base).get(name), "__doc__", None) for base in ours)
        text = next((doc for doc in docs if doc), "")
        member = inspect.getattr_static(value, name)
        if text and hasattr(member, "__get__"):
            own = getattr(value, name)
            call = signature(name, own, most=math.inf) if callable(own) else name
            yield f"- `{call}`: {first_paragraph(text)}\n"


def first_paragraph(text: str) -> str:
    """The first paragraph of a docstring on one line.

    Example:
        >>> first_paragraph("Adds\\n    two.\\n\\n    More.")
        'Adds two.'
    """
    return " ".join(text.split("\n\n")[0].split())


def is_ours(value: type) -> bool:
    """Whether a class is defined here, and not in Keras or Python."""
    return value.__module__.startswith("keras_lm")


if __name__ == "__main__":
    FILE.write_text(reference())
