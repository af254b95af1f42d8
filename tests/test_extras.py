"""Packages that only some installs have: missing, broken, interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import MissingDependencyError
from zoo.extras import require


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_missing_package_is_named_with_the_command_that_brings_it() -> None:
    with pytest.raises(
        MissingDependencyError, match="needs the package 'absent_one', which is not installed"
    ) as caught:
        require("absent_one", "This", extra="hub")
    assert "pip install '.[hub]'" in str(caught.value.hint)


def test_a_package_that_is_there_but_does_not_load_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken_one.py").write_text(
        "raise ImportError('libcudart.so.12: cannot open shared object file')\n"
    )
    with pytest.raises(
        MissingDependencyError, match=r"'broken_one', which cannot be loaded here: libcudart\.so\.12"
    ):
        require("broken_one", "This")


def test_what_a_present_package_lacks_is_named_instead(tmp_path: Path) -> None:
    (tmp_path / "needy_one.py").write_text("import absent_two\n")
    with pytest.raises(MissingDependencyError, match="'absent_two', which is not installed"):
        require("needy_one", "This")


def test_an_interrupt_while_a_package_loads_stays_an_interrupt(tmp_path: Path) -> None:
    (tmp_path / "stopped_one.py").write_text(
        "try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt:\n    raise ImportError('start failed')\n"
    )
    with pytest.raises(KeyboardInterrupt):
        require("stopped_one", "This")
