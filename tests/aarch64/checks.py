"""What must hold of the base install on aarch64."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from aarch64 import Failed
from aarch64.environment import Environment, run
from aarch64.packages import HERE, ROOT
from support import dngs

CHECKPOINT = "lighter-unet-int8"
#: Steps of an 8-bit picture that float arithmetic in another order may move a sample by.
_STEPS = 1


@dataclass(frozen=True)
class Developed:
    """A picture that `zoo run` wrote, and the engine's name and version."""

    picture: Path
    engine: str


def photograph(scratch: Path) -> Path:
    """A camera's file of two megapixels where there is one, else a small one made here."""
    if dngs.COLORCHART.exists():
        return dngs.COLORCHART
    path = scratch / "made.dng"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dngs.dng(dngs.frame((250, 380))))
    return path


def develop(python: Path | str, scratch: Path, raw: Path) -> Developed:
    """`zoo pull` and `zoo run` by a Python. Raises Failed."""
    target = scratch / "pictures"
    shutil.rmtree(target, ignore_errors=True)
    _checked(run(python, "-m", "zoo_cli", "pull", CHECKPOINT, scratch=scratch))
    options = ("-o", target, "--engine", "onnxruntime", "--json")
    done = run(python, "-m", "zoo_cli", "run", CHECKPOINT, raw, *options, scratch=scratch)
    said = json.loads(_checked(done))
    return Developed(target / f"{raw.stem}.png", f"{said['engine']} {said['engine_version']}")


def doctor(environment: Environment) -> str:
    """What `zoo doctor` says of the board and of the engine. Raises Failed if it knows either not."""
    done = run(environment.python, "-m", "zoo_cli", "doctor", "--json", scratch=environment.scratch)
    found = {each["subject"]: each for each in json.loads(_checked(done))["findings"]}
    told = [found[subject] for subject in ("board", "processor", "engine onnxruntime")]
    words = "; ".join(each["found"] for each in told)
    known = f"profile {environment.board.id}" in words and told[-1]["state"] == "ok"
    if not known:
        raise Failed(f"zoo doctor says of the {environment.board.id}: {words}")
    return words


def same_pictures(first: Path, second: Path) -> str:
    """How two pictures compare, in words. Raises Failed if they differ by more than rounding does."""
    if first.read_bytes() == second.read_bytes():
        return "the same file, byte for byte"
    one, other = (np.asarray(Image.open(path)).astype(np.int16) for path in (first, second))
    if one.shape != other.shape:
        raise Failed(f"{first} is {one.shape}, {second} is {other.shape}")
    apart = np.abs(one - other)
    words = f"{np.count_nonzero(apart)} of {apart.size} samples differ, by at most {apart.max()} of 255"
    if apart.max() > _STEPS:
        raise Failed(words)
    return words


def outputs(python: Path | str, scratch: Path) -> dict[str, np.ndarray]:
    """What the network gives for a golden input, by the form of the file. Raises Failed."""
    target = scratch / "outputs.npz"
    _checked(run(python, HERE / "probe.py", CHECKPOINT, target, scratch=scratch))
    with np.load(target) as file:
        return dict(file)


def same_outputs(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> str:
    """How two runs compare, in words. Raises Failed if an 8-bit picture could show it."""
    words = []
    for name in first:
        apart = float(np.abs(first[name] - second[name]).max())
        words.append(f"{name}: " + ("the same bits" if apart == 0 else f"at most {apart:.1e} apart"))
        if not apart <= _STEPS / 255:  # neither is not a number
            raise Failed(f"{name}: {apart} apart")
    return "; ".join(words)


def run_tests(environment: Environment, tools: Path, tests: Sequence[str], but: Sequence[str]) -> None:
    """Run tests of the project there, in the terminal, but for some. Raises Failed."""
    done = run(
        environment.python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml",
        "-o", "addopts=-ra --strict-markers", "--rootdir", ROOT, "--basetemp", environment.scratch / "pytest",
        *(str(ROOT / "tests" / each) for each in tests),
        *(word for each in but for word in ("--deselect", f"tests/{each}")),
        scratch=environment.scratch, path=[tools], show=True,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"the tests end with exit status {done.returncode}")


def _checked(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        raise Failed(
            f"{' '.join(map(str, done.args))} ends with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout
