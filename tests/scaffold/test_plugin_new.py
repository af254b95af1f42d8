"""`zoo plugin new` writes a package that installs and passes its tests as it is."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from support.environments import fresh_environment, install_editable, run
from zoo.errors import OutputError, UsageError
from zoo.scaffold import KINDS, write_plugin

#: Tests each package from its own folder, with its own settings. One process: each imports torch for seconds.
IN_TURN = """
import os, sys, pytest
failed = 0
for package in sys.argv[1:]:
    os.chdir(package)
    failed |= pytest.main(["-q", "-p", "no:cacheprovider"])
sys.exit(failed)
"""


@pytest.mark.slow
@pytest.mark.network
def test_packages_of_all_kinds_install_into_a_fresh_environment_and_pass_at_once(tmp_path: Path) -> None:
    zoo = Path(sys.executable).with_name("zoo")
    packages = {}
    for kind in KINDS:
        made = run(zoo, "plugin", "new", f"zoo-my-{kind}", "--kind", kind, "--json", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        packages[kind] = tmp_path / json.loads(made.stdout)["folder"]
    python = fresh_environment(tmp_path / "env")
    install_editable(python, *packages.values())
    tested = run(python, "-c", IN_TURN, *packages.values(), cwd=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    passed = [int(number) for number in re.findall(r"(\d+) passed", tested.stdout)]
    for kind, number in zip(packages, passed, strict=True):
        assert number > 10, f"the kit for {kind} did not run"
    checked = run(python, "-m", "zoo_cli", "plugins", "--check", "--json", cwd=tmp_path)
    found = {each["id"]: each for each in json.loads(checked.stdout)["plugins"] if "my-" in each["id"]}
    assert {each["distribution"] for each in found.values()} == {f"zoo-my-{kind}" for kind in KINDS}
    assert {each["state"] for each in found.values()} == {"ok"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_of_a_package_are_python_and_toml(tmp_path: Path, kind: str) -> None:
    package = write_plugin("zoo-two-words", tmp_path, kind=kind)
    for name in package.files:
        text = (package.folder / name).read_text()
        assert "<<" not in text
        if name.endswith(".py"):
            compile(text, name, "exec")
    assert package.id == "two-words"
    assert package.source in package.files
    assert package.source.startswith("src/zoo_two_words/two")


def test_the_id_can_be_chosen_by_either_name_of_the_option(tmp_path: Path) -> None:
    zoo = Path(sys.executable).with_name("zoo")
    for option in ("--id", "--technique"):
        made = run(zoo, "plugin", "new", f"zoo-by{option[1:]}", option, "mine", "--json", cwd=tmp_path)
        assert json.loads(made.stdout)["technique"] == "mine"


@pytest.mark.parametrize("name", ["mine", "zoo-", "zoo-Mine", "zoo-../x", "zoo-a/b", "zoo--x", "../zoo-mine"])
def test_a_name_that_cannot_be_a_package_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="must be zoo-NAME"):
        write_plugin(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_id_that_cannot_be_a_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'lambda' is not an id"):
        write_plugin("zoo-lambda", tmp_path)


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        ("technique", "depthwise"),
        ("architecture", "unet"),
        ("dataset", "masks"),
        ("task", "detection"),
        ("engine", "cuda"),
        ("device", "jetson-nano"),
    ],
)
def test_an_id_that_is_taken_is_refused_with_its_holder(tmp_path: Path, kind: str, taken: str) -> None:
    with pytest.raises(UsageError, match=f"{kind} '{taken}' already exists, in compression-zoo"):
        write_plugin(f"zoo-{taken}", tmp_path, kind=kind)


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "zoo-mine").mkdir()
    (tmp_path / "zoo-mine" / "work").write_text("of weeks")
    with pytest.raises(OutputError):
        write_plugin("zoo-mine", tmp_path)
    assert (tmp_path / "zoo-mine" / "work").read_text() == "of weeks"
