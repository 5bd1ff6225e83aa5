"""The architecture: who may import whom, and that the page never loads TensorFlow."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_lm"
RANKS = {
    "keras_lm.backend": 0,
    "keras_lm.checks": -1,
    "keras_lm.config": 0,
    "keras_lm.files": 0,
    "keras_lm.progress": 0,
    "keras_lm.records": 0,
    "keras_lm.signals": 0,
    "keras_lm.machine": 0,
    "keras_lm.memorization": 0,
    "keras_lm.reading": 0,
    "keras_lm.run_folder": 1,
    "keras_lm.tokenizer": 0,
    "keras_lm.attention": 1,
    "keras_lm.cache": 1,
    "keras_lm.corpus": 2,
    "keras_lm.estimates": 1,
    "keras_lm.text_work": 3,
    "keras_lm.model_file": 1,
    "keras_lm.presets": 1,
    "keras_lm.products": 1,
    "keras_lm.tracing": 1,
    "keras_lm.dataset": 2,
    "keras_lm.model_reader": 2,
    "keras_lm.layers": 2,
    "keras_lm.losses": 2,
    "keras_lm.model": 3,
    "keras_lm.bundle": 4,
    "keras_lm.checkpoint": 4,
    "keras_lm.generation": 4,
    "keras_lm.optimizers": 3,
    "keras_lm.sampling": 2,
    "keras_lm.inspection": 4,
    "keras_lm.training": 4,
    "keras_lm.trainer": 5,
    "keras_lm.worker": 5,
    "keras_lm.runs": 6,
    "keras_lm.__main__": 7,
    "keras_lm.ui": 7,
    "streamlit_app": 8,
}
SIDEWAYS = {"keras_lm.attention", "keras_lm.runs", "keras_lm.ui"}  # inside these folders
EXCEPTIONS = {("keras_lm.bundle", "keras_lm.generation")}  # a bundle carries its generator
STANDARD_LIBRARY_ONLY = [
    "checks",
    "config",
    "files",
    "progress",
    "reading",
    "records",
    "run_folder",
    "signals",
]
TENSORFLOW_FREE = [
    "__init__",
    "cache",
    "checkpoint",
    "checks",
    "config",
    "corpus",
    "estimates",
    "machine",
    "files",
    "memorization",
    "model_file",
    "model_reader",
    "presets",
    "progress",
    "reading",
    "records",
    "run_folder",
    "signals",
    "text_work",
    "tokenizer",
]

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in [*PACKAGE.rglob("*.py"), ROOT / "streamlit_app.py"]
    if path.exists()
}
MODULES = {name: path for name, path in FILES.items() if name != "keras_lm.__init__"}


def row(module: str) -> str:
    """The row of the table that `module` belongs to: itself, or its folder."""
    return next((name for name in (module, module.rpartition(".")[0]) if name in RANKS), module)


def imported(path: Path) -> Iterator[str]:
    """Every module that the file imports anywhere when it runs, by its full name."""
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            pending += node.orelse  # what is for type checkers never runs
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = name in FILES or f"{name}.__init__" in FILES
                yield name if is_module else node.module


def top_level(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_rank(module):
    assert row(module) in RANKS


@pytest.mark.parametrize("name", RANKS)
def test_every_row_of_the_table_exists(name):
    assert name in FILES or f"{name}.__init__" in FILES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_lower_ranks_only(module):
    own = row(module)
    for name in imported(FILES[module]):
        if name.partition(".")[0] not in ("keras_lm", "streamlit_app"):
            continue
        other = row(name)
        allowed = (own == other and own in SIDEWAYS) or (own, other) in EXCEPTIONS
        assert allowed or RANKS[other] < RANKS[own], f"{module} imports {name}"


def test_tensorflow_and_keras_are_imported_in_one_place():
    heavy = {"keras", "tensorflow"}
    assert [row(name) for name, path in FILES.items() if top_level(path) & heavy] == [
        "keras_lm.backend"
    ]


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_the_lowest_modules_need_the_standard_library_only(name):
    assert top_level(PACKAGE / f"{name}.py") <= sys.stdlib_module_names | {"keras_lm"}


def test_streamlit_is_imported_by_the_page_only():
    users = {row(module) for module, path in MODULES.items() if "streamlit" in top_level(path)}
    assert users == {"keras_lm.ui", "streamlit_app"}


@pytest.mark.parametrize("group", ["keras_lm", "keras_lm.runs", "keras_lm.ui"])
def test_the_page_and_what_it_imports_load_neither_tensorflow_nor_keras(group):
    if group == "keras_lm":
        names = [f"keras_lm.{name}" for name in TENSORFLOW_FREE]
    else:
        names = [name for name in FILES if name.startswith(f"{group}.")]
    assert names
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name.removesuffix('.__init__'))\n"
        "print(*sorted({'tensorflow', 'keras'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", program, *names]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == ""


def test_the_public_names_are_found_where_they_live():
    program = "import keras_lm\nfor name in dir(keras_lm): getattr(keras_lm, name)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
