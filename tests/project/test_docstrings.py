"""Functions that take tensors say of what shape they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: A shape as docstrings write it: (N, C, H, W), (positions,), (..., n, m).
_SHAPE = re.compile(r"\([^()]*,[^()]*\)")


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the public functions and methods of a module or class, with their names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef) and not child.name.startswith("_"):
            yield f"{prefix}{child.name}", child


def takes_tensors(function: ast.FunctionDef) -> bool:
    arguments = [*function.args.args, *function.args.kwonlyargs]
    return any("Tensor" in ast.unparse(each.annotation) for each in arguments if each.annotation)


@pytest.mark.parametrize("folder", ["zoo/surgery", "zoo/modules", "zoo/quantization", "techniques"])
def test_what_takes_tensors_names_their_shapes(folder: str) -> None:
    silent = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name, function in functions(ast.parse(path.read_text()))
        if function.name != "forward"  # the class says it
        and takes_tensors(function)
        and not _SHAPE.search(ast.get_docstring(function) or "")
    ]
    assert silent == []
