"""Names from outside stay inside the folder they are meant for."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.storage.safe_names import clashing_names, unsafe_name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "/etc/passwd", "../a", "a/../b", "a/..", "a//b", "a/", "./a", "C:\\a", "C:a", "a\\b",
        "a\0b", "a\nb", "\u202eb", "\ud800", "a" * 201, "\u00e9" * 101, "nul",
        "NUL.txt", "x/com1", "lpt9.onnx", "a.", "a /b", " a",
        "a*", "a?", 'a"', "a|b", "<a>",
    ],
)  # fmt: skip
def test_hostile_names_are_refused(name: str) -> None:
    assert unsafe_name(name)


@pytest.mark.parametrize(
    "name", ["model.onnx", "README.md", "a/b.json", ".eval_results/x.yaml", "\u00e9t\u00e9.png", "..a"]
)
def test_ordinary_names_are_taken(name: str) -> None:
    assert unsafe_name(name) is None


@given(st.text(st.sampled_from("a./\\:C \0-"), max_size=12))
def test_a_safe_name_never_leaves_its_folder(name: str) -> None:
    if unsafe_name(name) is None:
        base = Path("/base/folder")
        assert (base / name).resolve().is_relative_to(base)
        assert not PureWindowsPath(name).drive
        assert not PureWindowsPath(name).is_absolute()


@pytest.mark.parametrize(
    "names",
    [("A.onnx", "a.onnx"), ("stra\u00dfe", "STRASSE"), ("e\u0301", "\u00e9"), ("a", "a/b"), ("x/y/z", "X")],
)
def test_names_that_some_file_systems_take_for_one_clash(names: tuple[str, str]) -> None:
    assert clashing_names(names)
    assert clashing_names(reversed(names))


def test_different_names_do_not_clash() -> None:
    assert clashing_names(["a", "b", "ab", "c/a", "c/b"]) is None
