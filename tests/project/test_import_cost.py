"""Starting the command and what runs on a board imports little, and nothing of the extra 'compress'."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

from support.fake_distributions import python
from zoo.extras import COMPRESS_PACKAGES

#: What a board's program is made of; the import contracts in pyproject.toml name the same parts.
RUNNER_PATH = (
    "zoo.artifacts",
    "zoo.checkpoints",
    "zoo.download",
    "zoo.engines",
    "zoo.images",
    "zoo.machine",
    "zoo.onnx",
    "zoo.plugins",
    "zoo.publishing",
    "zoo.raw",
    "zoo.recipes",
    "zoo.registry",
    "zoo.runner",
    "zoo.storage",
)
#: What the extra 'hub' adds.
PUBLISHING_PACKAGES = ("huggingface_hub", "tomlkit")
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


def modules_of(name: str) -> list[str]:
    """A module and, if it is a package, all below it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    below = pkgutil.walk_packages(spec.submodule_search_locations or [], f"{name}.")
    return [name, *(module.name for module in below)]


def imported(*statement: str) -> set[str]:
    """Top-level names of what `python -X importtime -c STATEMENT` imports."""
    done = python("-X", "importtime", "-c", *statement)
    assert done.code == 0, done.err
    return {match[2].partition(".")[0] for match in _IMPORT.finditer(done.err)}


def test_the_command_is_imported_without_torch_numpy_onnxruntime_or_rich() -> None:
    names = imported("import zoo_cli.main")
    assert "zoo_cli" in names
    assert not names & {"torch", "numpy", "onnxruntime", "rich", "rawpy", "PIL", *PUBLISHING_PACKAGES}


def test_the_command_imports_nothing_but_click_and_the_standard_library() -> None:
    plain, command = imported("import click"), imported("import zoo_cli.main")
    third_party = {
        name
        for name in command - plain
        if (spec := importlib.util.find_spec(name)) and "site-packages" in str(spec.origin)
    }
    assert third_party <= {"zoo", "zoo_cli"}


@pytest.mark.parametrize("part", RUNNER_PATH)
def test_what_runs_on_a_board_is_imported_where_the_extra_is_missing(part: str) -> None:
    """Every module of the part, in a process in which the packages of the extra cannot be imported."""
    program = (
        "import importlib, sys\n"
        f"blocked = {(*COMPRESS_PACKAGES, *PUBLISHING_PACKAGES)!r}\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in blocked: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
    )
    done = python("-c", program, *modules_of(part))
    assert done.code == 0, done.err


def test_the_import_contracts_cover_every_part_that_runs_on_a_board() -> None:
    settings = Path(__file__).parents[2].joinpath("pyproject.toml").read_text()
    assert [part for part in RUNNER_PATH if f'    "{part}",\n' not in settings] == []


@pytest.mark.parametrize("by", ["argument", "file"])
def test_an_illegal_recipe_is_refused_without_importing_torch(by: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(
        'architecture = "unet"\n[[stage]]\ntechnique = "qat"\n[[stage]]\ntechnique = "depthwise"\n'
    )
    arguments = ["--recipe", str(file)] if by == "file" else ["qat+depthwise", "unet"]
    program = (
        "import sys\nfrom zoo_cli.main import main\n"
        "code = main(['apply', *sys.argv[1:]])\n"
        "print(code, sorted({'torch', 'numpy', 'onnx', 'accelerate'} & sys.modules.keys()))"
    )
    done = python("-c", program, *arguments)
    assert done.out == "2 []\n"
    assert "did you mean depthwise+qat?" in done.err
