"""docs/toolbox.md documents the public toolbox, all of it and nothing else, and its examples work."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zoo.surgery.dependency
import zoo.surgery.reconstruction

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "toolbox.md").read_text()
PACKAGES = (zoo.surgery, zoo.surgery.reconstruction, zoo.surgery.dependency)
#: Modules that only their own package uses, and the former names that contract 1 keeps.
INTERNAL = {
    "dependency.axes",
    "dependency.channel_ops",
    "dependency.layer_checks",
    "dependency.shape_arithmetic",
    "capture",
    "example_values",
    "graph_code",
    "mutation",
    "recorded_call",
    "tracer",
    "walk",
}


def rows(*, members: bool) -> dict[str, dict[str, str | None]]:
    """The documented names, or members of classes, of each package, with the parameters shown."""
    found: dict[str, dict[str, str | None]] = defaultdict(dict)
    for section in PAGE.split("\n## ")[1:]:
        package = re.search(r"^From `(zoo\.surgery[.\w]*)`", section, re.MULTILINE)
        assert package, f"the section '{section.splitlines()[0]}' does not say where its tools are"
        heads = r"\| (?:method|member) \|[^\n]*" if members else r"\| \| \|"
        for table in re.findall(rf"^{heads}\n\|---\|---\|\n((?:\|[^\n]*\n)+)", section, re.MULTILINE):
            for line in table.splitlines():
                name, _, parameters = line.split("`")[1].partition("(")
                found[package[1]][name] = parameters.rstrip(")") if _ else None
    return found


def parameters_of(tool: Any) -> str:
    return ", ".join(name for name in inspect.signature(tool).parameters if name != "self")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_is_documented_and_nothing_else(package: Any) -> None:
    assert sorted(rows(members=False)[package.__name__]) == sorted(package.__all__)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_signatures_are_those_of_the_code(package: Any) -> None:
    shown = {
        name: given for name, given in rows(members=False)[package.__name__].items() if given is not None
    }
    assert len(shown) > 3
    assert shown == {name: parameters_of(getattr(package, name)) for name in shown}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_method_is_documented_with_its_parameters(package: Any) -> None:
    expected = {
        f"{name}.{member}": parameters_of(value) if inspect.isfunction(value) else None
        for name in package.__all__
        if inspect.isclass(kind := getattr(package, name)) and name != "LayerRefit"
        for member, value in vars(kind).items()
        if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    }
    shown = rows(members=True)[package.__name__]
    attributes = {name for name, given in shown.items() if given is None and name not in expected}
    assert {name: given for name, given in shown.items() if name not in attributes} == expected
    for name in attributes:
        kind, _, attribute = name.partition(".")
        assert f"    {attribute}:" in (inspect.getdoc(getattr(package, kind)) or ""), name


def test_the_examples_work() -> None:
    scope: dict[str, Any] = {}
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(examples) > 8
    for number, example in enumerate(examples):
        exec(compile(example, f"example {number} of docs/toolbox.md", "exec"), scope)


def modules() -> Iterator[tuple[str, ast.Module]]:
    folder = ROOT / "zoo" / "surgery"
    for path in sorted(folder.rglob("*.py")):
        name = ".".join(path.relative_to(folder).with_suffix("").parts)
        if not name.endswith("__init__"):
            yield name, ast.parse(path.read_text())


def test_what_a_module_defines_is_public_unless_the_module_is_internal() -> None:
    """A tool of one technique alone belongs into that technique's room."""
    public = {name for package in PACKAGES for name in package.__all__}
    known = set()
    for module, tree in modules():
        known.add(module)
        defined = {
            node.name
            for node in tree.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_"
        }
        assert module in INTERNAL or defined <= public, f"{module}: {sorted(defined - public)}"
    assert known > INTERNAL


def test_techniques_use_the_toolbox_through_its_face() -> None:
    faces = {package.__name__ for package in PACKAGES}
    for path in [*(ROOT / "techniques").rglob("*.py"), *(ROOT / "plugins").rglob("src/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zoo.surgery"):
                assert node.module in faces, f"{path}:{node.lineno} reaches past the toolbox's face"
