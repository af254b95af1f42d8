"""Where modules lie, what they are called and which imports which; import-linter checks the layers."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "zoo": ROOT / "zoo",
    "zoo_techniques": ROOT / "techniques/zoo_techniques",
    "zoo_cli": ROOT / "cli/zoo_cli",
}
#: Modules directly in `zoo`: what every part may need, each one subject.
LOOSE_MODULES = {"errors", "extras", "formatting", "lazy_exports", "options", "suggest", "version"}
#: Base names that say what a module is within its package, and so recur.
RECURRING_MODULES = {"__init__", "__main__", "api", "technique", "fit"}


def modules() -> dict[str, Path]:
    """Return the file of each module by the module's full name; a package's file is its `__init__`."""
    return {
        ".".join((name, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): path
        for name, folder in PACKAGES.items()
        for path in sorted(folder.rglob("*.py"))
    }


MODULES = modules()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that a module imports, whether when loaded, when called or for its types."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield from [full] if full in MODULES else [node.module] if node.module in MODULES else []


def loops(graph: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """Return the sets of nodes that reach each other."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = set(graph.get(waiting.pop(), ())) - seen
            seen |= new
            waiting += new
        return seen

    reach = {node: reachable(node) for node in graph}
    found = {frozenset(b for b in reach[a] if a in reach.get(b, ())) for a in graph}
    return [set(loop) for loop in sorted(found, key=sorted) if len(loop) > 1]


@pytest.fixture(scope="module")
def module_graph() -> dict[str, set[str]]:
    return {name: set(imports(tree)) - {name} for name, tree in TREES.items()}


def test_no_modules_import_each_other_even_for_types(module_graph: dict[str, set[str]]) -> None:
    assert loops(module_graph) == []


def test_no_packages_import_each_other_even_for_types(module_graph: dict[str, set[str]]) -> None:
    parts: dict[str, set[str]] = defaultdict(set)
    for name, imported in module_graph.items():
        part = ".".join(name.split(".")[:2])
        parts[part] |= {".".join(each.split(".")[:2]) for each in imported} - {part, "zoo"}
    assert loops(parts) == []


def test_loops_are_found() -> None:
    assert loops({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}) == [{"b", "c"}]
    assert loops({"a": ["b", "c"], "b": ["c"], "c": []}) == []


def test_only_what_every_part_needs_lies_directly_in_zoo() -> None:
    loose = {path.stem for path in PACKAGES["zoo"].glob("*.py")} - {"__init__"}
    assert loose == LOOSE_MODULES
    assert len(loose) <= 7


def test_no_module_shares_its_name_with_another() -> None:
    """Commands are left out: each is called what the user types."""
    places: dict[str, list[str]] = defaultdict(list)
    for name, path in MODULES.items():
        if path.stem not in RECURRING_MODULES and not name.startswith("zoo_cli.commands."):
            places[path.stem].append(name)
    assert {stem: names for stem, names in places.items() if len(names) > 1} == {}


def test_no_public_class_shares_its_name_with_another() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for name, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name[0] != "_":
                places[node.name].append(name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
