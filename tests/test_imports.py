"""The architecture: which package may import which, and where TensorFlow is."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_lm"

# Of each package, whether TensorFlow is loaded in it, and the packages that it may import. A name
# without a folder is a module.
PACKAGES: dict[str, tuple[bool, set[str]]] = {
    "system": (False, set()),
    "settings": (False, {"system"}),
    "storage": (False, {"system", "settings"}),
    "data": (False, {"system", "settings", "storage"}),
    "keras_file": (False, {"system", "settings", "storage", "data"}),
    "runs": (False, {"system", "settings", "storage", "data", "keras_file"}),
    "presentation": (
        False,
        {"system", "settings", "storage", "data", "keras_file", "runs"},
    ),
    "ui": (
        False,
        {"system", "settings", "storage", "data", "keras_file", "runs", "presentation"},
    ),
    "model": (True, {"settings"}),
    "generation": (True, {"system", "settings", "storage", "data", "keras_file", "model"}),
    "export": (True, {"system", "settings", "storage", "data", "model", "generation"}),
    "training": (
        True,
        {"system", "settings", "storage", "data", "keras_file", "model", "generation", "export"},
    ),
    "commands": (
        False,
        {"system", "settings", "storage", "data", "keras_file", "runs", "presentation"},
    ),
    "cli": (
        False,
        {
            "system",
            "settings",
            "storage",
            "data",
            "keras_file",
            "runs",
            "commands",
            "generation",
            "export",
            "training",
        },
    ),
    "__init__": (False, set()),
    "__main__": (False, {"cli"}),
}

SCRIPTS = ("keras_lm.__main__", "streamlit_app")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [*PACKAGE.rglob("*.py"), ROOT / "streamlit_app.py"]
}


def package_of(module: str) -> str:
    """The row of the table that a module of ours belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(path: Path) -> Iterator[str]:
    """Every module that the file imports anywhere, also for types only, by its full name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in FILES else str(node.module)


def ours(path: Path) -> set[str]:
    """The modules of this project that the file imports."""
    return {name for name in imported(path) if name.partition(".")[0] == "keras_lm"}


def top_level(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def test_the_table_has_all_packages_and_no_others():
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py"}
    found |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert found == set(PACKAGES)
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("module", [name for name in FILES if name != "streamlit_app"])
def test_a_module_imports_what_its_package_may_import(module):
    own = package_of(module)
    for name in ours(FILES[module]):
        other = package_of(name)
        assert other == own or other in PACKAGES[own][1], f"{module} imports {name}"


def test_no_modules_import_each_other():
    order = graphlib.TopologicalSorter({name: ours(path) for name, path in FILES.items()})
    order.prepare()  # raises CycleError, which names a circle


def test_tensorflow_and_keras_are_imported_in_one_module():
    heavy = {"keras", "tensorflow"}
    users = [name for name, path in FILES.items() if top_level(path) & heavy]
    assert users == ["keras_lm.model.backend"]


def test_streamlit_is_imported_by_the_page_only():
    users = {package_of(name) for name, path in FILES.items() if "streamlit" in top_level(path)}
    assert users == {"ui"}


@pytest.mark.parametrize("package", [name for name, (heavy, _) in PACKAGES.items() if not heavy])
def test_a_package_without_tensorflow_loads_neither_it_nor_keras(package):
    names = [name for name in FILES if package_of(name) == package and name not in SCRIPTS]
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "print(*sorted({'tensorflow', 'keras'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", program, *names]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == ""


def test_the_public_names_are_found_where_they_live():
    program = "import keras_lm\nfor name in dir(keras_lm): getattr(keras_lm, name)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
