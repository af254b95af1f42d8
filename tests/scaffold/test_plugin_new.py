"""`zoo plugin new` writes a package that installs and passes its tests as it is."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from support.environments import fresh_environment, run
from zoo.errors import OutputError, UsageError
from zoo.scaffold import write_plugin


@pytest.mark.slow
@pytest.mark.network
def test_the_package_installs_into_a_fresh_environment_and_passes_at_once(tmp_path: Path) -> None:
    zoo = Path(sys.executable).with_name("zoo")
    made = run(zoo, "plugin", "new", "zoo-mine", "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    package = tmp_path / json.loads(made.stdout)["folder"]
    python = fresh_environment(tmp_path / "env")
    installed = run(python, "-m", "pip", "install", "--quiet", "-e", ".", cwd=package)
    assert installed.returncode == 0, installed.stderr
    tested = run(python, "-m", "pytest", "-q", cwd=package)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    passed = re.search(r"(\d+) passed", tested.stdout)
    assert passed is not None
    assert int(passed[1]) > 10
    info = run(python, "-m", "zoo_cli", "info", "mine", "--json", cwd=tmp_path)
    assert json.loads(info.stdout)["distribution"] == "zoo-mine"


def test_the_files_of_a_package_are_python_and_toml(tmp_path: Path) -> None:
    package = write_plugin("zoo-two-words", tmp_path)
    for name in package.files:
        text = (package.folder / name).read_text()
        assert "<<" not in text
        if name.endswith(".py"):
            compile(text, name, "exec")
    assert package.technique == "two-words"
    assert "src/zoo_two_words/two_words.py" in package.files


@pytest.mark.parametrize("name", ["mine", "zoo-", "zoo-Mine", "zoo-../x", "zoo-a/b", "zoo--x", "../zoo-mine"])
def test_a_name_that_is_no_package_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="must be zoo-NAME"):
        write_plugin(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_id_that_is_taken_is_refused_with_its_holder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'depthwise' already, in compression-zoo"):
        write_plugin("zoo-depthwise", tmp_path)


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "zoo-mine").mkdir()
    (tmp_path / "zoo-mine" / "work").write_text("of weeks")
    with pytest.raises(OutputError):
        write_plugin("zoo-mine", tmp_path)
    assert (tmp_path / "zoo-mine" / "work").read_text() == "of weeks"
