"""The house's rules: imports point down only, and each heavy library has one home."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "onnxplain"

# From bottom to top; a module may import from its own layer and those before it.
LAYERS = [
    {"errors", "version", "files", "memory", "session_cache"},
    {"graph", "preprocess", "results", "executor", "target", "bundled", "hierarchy"},
    {"backward", "render"},
    {"program", "ablation", "feeds", "batching"},
    {"model"},
    {"dataset"},
    {"methods"},
    {"metrics"},
    {
        "doctor",
        "explain",
        "decompose_files",
        "evaluate_files",
        "filter_files",
        "monitor_files",
        "occlude_files",
        "predictions_files",
        "verify",
        "page",
    },
    {"checks"},
    {"pytest_plugin"},
    {"embed"},
    {"serve"},
    {"cli", "__main__", "__init__"},
]
HOMES = {
    "onnx_graphsurgeon": {"graph", "backward"},
    "onnxruntime": {"executor"},
    "networkx": {"hierarchy"},
    "ray": {"dataset"},
    "pyarrow": {"dataset"},
    "matplotlib": {"render"},
    "typer": {"cli"},
    "pytest": {"pytest_plugin"},
    "rich": {"cli"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "pydantic": {"serve"},
    "uvicorn": {"serve"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """Return a module's part of the package: its first folder, or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names a module imports at run time, inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_only(path: Path) -> None:
    level = {part: i for i, parts in enumerate(LAYERS) for part in parts}
    mine = part_of(path)
    for name in imports(path):
        if name.startswith("onnxplain."):
            other = name.split(".")[1]
            assert level[other] <= level[mine], f"{mine} must not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_stay_at_home(path: Path) -> None:
    where = str(path.relative_to(PACKAGE))
    for name in imports(path):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or part_of(path) in homes or where in homes, f"{where} imports {name}"


def test_every_module_is_in_a_layer() -> None:
    placed = set().union(*LAYERS)
    assert {part_of(p) for p in MODULES} <= placed
