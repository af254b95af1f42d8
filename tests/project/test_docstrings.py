"""Docstrings of public functions are imperative, structured, and state the shapes of arrays and tensors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: A shape as docstrings write it: (N, C, H, W), (positions,), (..., n, m).
_SHAPE = re.compile(r"\([^()]*,[^()]*\)")
_ARRAYS = re.compile(r"Tensor|ndarray|NDArray|FloatArray|\bArray\b")
#: Words that begin a sentence without a verb in the imperative.
_NOT_VERBS = re.compile(
    r"(A|All|An|Each|Every|For|From|How|If|In|Its|No|None|Of|On|One|That|The|This|True|What|When|Where|Whether|"
    r"Which|While|With)"
)
_SECTION = re.compile(r"^Args:\n((?:(?: {4}.*)?\n?)+)", re.MULTILINE)
#: A paragraph that begins "name: text", as runs of parameters were once written.
_RUN = re.compile(r"\n\n[a-z_]+(, [a-z_]+)*: ")

Functions = list[tuple[str, ast.FunctionDef, str]]


def functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef, str]]:
    """Yield the public functions and methods of a module or class that have a docstring, with name and docstring."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef) and not child.name.startswith("_"):
            text = ast.get_docstring(child)
            if text is not None:
                yield f"{prefix}{child.name}", child, text


@pytest.fixture(scope="module")
def documented() -> Functions:
    return [
        found
        for folder in ("zoo", "techniques", "cli")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for found in functions(ast.parse(path.read_text()), f"{path.relative_to(ROOT)}: ")
    ]


@pytest.fixture(scope="module")
def classes() -> list[tuple[str, ast.ClassDef, str]]:
    return [
        (f"{path.relative_to(ROOT)}: {node.name}", node, ast.get_docstring(node) or "")
        for folder in ("zoo", "techniques", "cli")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


def is_imperative(summary: str) -> bool:
    verb = re.match(r"[A-Z][a-z]+(?=[\s,.:])", summary)
    if verb is None or _NOT_VERBS.fullmatch(verb[0]) or re.search(r"\bgives\b", summary):
        return False
    return not verb[0].endswith("ing") and (not verb[0].endswith("s") or verb[0].endswith("ss"))


def parameters(function: ast.FunctionDef) -> list[ast.arg]:
    given = function.args
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, [given.vararg, given.kwarg])]


def takes_arrays(function: ast.FunctionDef) -> bool:
    return any(
        _ARRAYS.search(ast.unparse(each.annotation)) for each in parameters(function) if each.annotation
    )


def described(text: str) -> set[str]:
    """Return the names that the section Args describes."""
    section = _SECTION.search(text)
    return set(re.findall(r"^ {4}\*{0,2}(\w+): ", section[1], re.MULTILINE)) if section else set()


def test_a_docstring_begins_with_a_verb_in_the_imperative(documented: Functions) -> None:
    assert [
        f"{name}: {text.splitlines()[0]}"
        for name, _, text in documented
        if not is_imperative(text.splitlines()[0])
    ] == []


def test_parameters_and_errors_are_described_in_sections(documented: Functions) -> None:
    assert [
        name for name, _, text in documented if _RUN.search(text) or re.search(r"\bRaises\b(?!:)", text)
    ] == []


def test_sections_describe_parameters_that_exist(documented: Functions) -> None:
    assert [
        f"{name}: {missing}"
        for name, function, text in documented
        if (missing := described(text) - {each.arg for each in parameters(function)})
    ] == []


def test_what_takes_arrays_or_tensors_names_their_shapes(documented: Functions) -> None:
    assert [
        name
        for name, function, text in documented
        if function.name != "forward"  # the class says it
        and takes_arrays(function)
        and not _SHAPE.search(text)
    ] == []


def test_fields_of_a_class_are_described_under_attributes(
    classes: list[tuple[str, ast.ClassDef, str]],
) -> None:
    assert [
        name
        for name, node, text in classes
        for part in node.body
        if isinstance(part, ast.AnnAssign)
        and re.search(rf"(?:^|[.;] |\n){ast.unparse(part.target)}(?:, \w+)*: ", text)
    ] == []
