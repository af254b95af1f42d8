"""The scripts in examples/ run as they are shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.sid_tree import write_tree

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
#: A network in a file of its own: the one that the examples compress takes minutes.
SMALL = """
from torch import nn
from zoo.architectures.unet import UNetArchitecture
from zoo.contracts import InputSpec

class Small(UNetArchitecture):
    contract = 1
    id = "small"
    input = InputSpec("packed-raw", 4, 2, (32, 32), mosaic="bayer", white_balance=True)

    def build(self):
        first, second = nn.Conv2d(4, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Conv2d(64, 12, 1), nn.PixelShuffle(2))

    def stages(self):
        return ()
"""
QUICK = ("--architecture", "small.py:Small", "--steps", "1", "--images", "1")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a script to its end in `cwd`, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_network_is_compressed(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(SMALL)
    printed = run(EXAMPLES / "compress_unet.py", "ptq", *QUICK, "--out", "made", cwd=tmp_path)
    assert "of the bytes" in printed
    assert (tmp_path / "made" / "model.onnx").is_file()


@pytest.mark.slow
def test_a_network_of_ones_own_is_compressed(tmp_path: Path) -> None:
    printed = run(EXAMPLES / "own_model.py", "made", "--quick", cwd=tmp_path)
    assert re.search(r"top-1: [\d.]+% before, [\d.]+% after", printed)
    assert re.search(r"tells [\d.]+% of 397 digits", printed)


@pytest.mark.slow
def test_the_cells_of_the_notebook_run_in_order(tmp_path: Path) -> None:
    """They are executed as a program: neither Jupyter nor IPython is needed, and they use nothing of either."""
    notebook = json.loads((EXAMPLES / "compress_a_model.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    program = "\n".join(cells).replace("range(10)", "range(1)").replace("(150, 100)", "(2, 2)")
    shown = "\nprint(result.metrics['top1']['after'] == round((logits.argmax(1) == testing[1].numpy()).mean(), 5))"
    assert run("-c", program + shown, cwd=tmp_path).strip() == "True"
    assert all(
        cell["outputs"] or "result" not in "".join(cell["source"])[:7]
        for cell in notebook["cells"]
        if "outputs" in cell
    )


def test_a_raw_file_is_developed(tmp_path: Path) -> None:
    write_tree(tmp_path)
    shot, broken = next(tmp_path.glob("Sony/short/*.ARW")), tmp_path / "broken.dng"
    broken.write_bytes(b"not a RAW file")
    printed = run(EXAMPLES / "develop_raw.py", shot, broken, "-o", "images", cwd=tmp_path)
    image = Path("images", shot.name).with_suffix(".png")
    assert (tmp_path / image).is_file()
    assert f"{image}: 192 x 128" in printed
    assert "broken.dng" in printed


@pytest.mark.slow
def test_a_technique_in_one_file_works_and_keeps_the_contract(tmp_path: Path) -> None:
    # The rest of the kit applies it once more, which is done already.
    quick = "importing or option or shape or full_rank"
    kit = ["-q", "-p", "no:cacheprovider", "-k", quick, str(EXAMPLES / "test_my_technique.py")]
    script = str(EXAMPLES / "my_technique.py")
    program = (
        f"import runpy, sys, pytest\nsys.path.insert(0, {str(EXAMPLES)!r})\n"
        f"runpy.run_path({script!r}, run_name='__main__')\n"
        f"sys.exit(pytest.main({kit!r}))"
    )
    printed = run("-c", program, cwd=tmp_path)
    assert "the file agrees to" in printed
    assert re.search(r"[1-9]\d* passed", printed)


@pytest.mark.slow
def test_recipes_are_compared(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(SMALL)
    rows = run(EXAMPLES / "compare_recipes.py", "ptq", *QUICK, cwd=tmp_path).splitlines()
    assert rows[0].startswith("| recipe | MB |")
    assert {row.split("|")[1].strip() for row in rows[2:]} == {"(as it is)", "ptq"}
    assert any(row.endswith("| yes |") for row in rows)


def test_a_checkpoint_is_pulled_and_verified(tmp_path: Path) -> None:
    assert "lighter-unet-int8" in run(EXAMPLES / "pull_and_verify.py", cwd=tmp_path).split()
    printed = run(EXAMPLES / "pull_and_verify.py", "lighter-unet-int8", "--out", "made", cwd=tmp_path)
    assert "model.onnx" in printed
    assert "agrees with its maker to" in printed


def test_every_example_is_listed_and_run() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert [name for name in names if f"`{name}`" not in (EXAMPLES / "README.md").read_text()] == []
    assert [name for name in names if f'"{name}"' not in Path(__file__).read_text()] == []
