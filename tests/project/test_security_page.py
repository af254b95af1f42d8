"""docs/security.md lists every abuse case, each with tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_test_that_the_page_names_exists() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 40
    there = {
        (file, node.name)
        for file in {file for file, _ in named}
        for node in ast.parse((ROOT / file).read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert sorted(set(named) - there) == []


def test_every_abuse_case_has_a_test() -> None:
    rows = re.findall(r"^\| (\d+) \|(.*)$", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= 16
    for number, row in rows:
        assert NAMED.search(row), number


def test_every_test_of_an_attack_module_is_in_a_module_that_the_page_names() -> None:
    attacks = {f"tests/attacks/{path.name}" for path in ROOT.glob("tests/attacks/test_attack_*.py")}
    assert attacks <= {file for file, _ in NAMED.findall(PAGE)}


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    from zoo.artifacts.manifest import LARGEST_MANIFEST
    from zoo.artifacts.safetensors_check import LARGEST_HEADER, MOST_TENSORS
    from zoo.onnx.operator_sets import NEWEST_OPSET, OLDEST_OPSET
    from zoo.raw.subprocess_decoder import DecodeLimits
    from zoo.registry.registry_toml import LARGEST

    assert LARGEST_MANIFEST == LARGEST == 1 << 20
    assert f"header at most {LARGEST_HEADER >> 20} MiB and {MOST_TENSORS:,} tensors" in PAGE
    assert f"operator sets other than {OLDEST_OPSET} to {NEWEST_OPSET}" in PAGE
    limits = DecodeLimits()
    assert f"take {limits.seconds:g} s and {limits.memory_mb} MB" in PAGE
    assert f"{limits.memory_per_byte} bytes more, {limits.most_memory_mb >> 10} GB at most" in PAGE
