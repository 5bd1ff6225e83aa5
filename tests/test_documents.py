"""The documents: what they name exists, and the README stays short."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_imports import PACKAGES

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = r"(?:keras_lm|tests|benchmarks|docs|data|\.ci|\.github|\.streamlit)/"
CODE_PATH = re.compile(rf"`({FOLDERS}[\w./-]*)`")
LINK = re.compile(r"\]\((?!\w+:)([^)#]+)")
MODULE = re.compile(r"python -m ((?:benchmarks|tests)[\w.]*)")
PACKAGE_ROW = re.compile(
    r"^\| `keras_lm/(\w+)(?:/|\.py)` \|.*\| (yes|no|when needed) \| (.*) \|$", re.M
)


def tree_paths(text: str) -> Iterator[str]:
    """The paths in the README's tree, where a folder's content is indented by two spaces."""
    [block] = re.findall(r"```\n(streamlit_app\.py.*?)```", text, re.DOTALL)
    folder = ""
    for line in block.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name if name.endswith("/") else ""
            yield name
        else:
            yield folder + name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_exists(path):
    text = path.read_text()
    named = [ROOT / name for name in CODE_PATH.findall(text)]
    named += [path.parent / name for name in LINK.findall(text)]
    modules = [ROOT / name.rstrip(".").replace(".", "/") for name in MODULE.findall(text)]
    missing = [str(name) for name in named if not name.exists()]
    missing += [str(name) for name in modules if not name.with_suffix(".py").exists()]
    assert missing == []


def test_the_readme_is_short_and_its_tree_is_the_true_one():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    paths = set(tree_paths(text)) - {"runs/"}  # which the first run makes
    assert [name for name in paths if not (ROOT / name).exists()] == []
    packages = {f"keras_lm/{folder.parent.name}/" for folder in ROOT.glob("keras_lm/*/__init__.py")}
    assert packages <= paths


def test_the_table_of_packages_is_the_one_that_is_tested():
    rows = PACKAGE_ROW.findall((ROOT / "docs" / "architecture.md").read_text())
    table = {name: (answer == "yes", set(re.findall(r"\w+", used))) for name, answer, used in rows}
    assert {name: (heavy, used - {"none"}) for name, (heavy, used) in table.items()} == {
        name: row for name, row in PACKAGES.items() if not name.startswith("__")
    }
