"""Networks made to do harm: one that traps, fills memory or gives nonsense costs its own pictures and no more."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support import hostile_models, tiny
from support.dngs import COLORCHART, dng, frame
from zoo.artifacts import Artifact, open_artifact
from zoo.artifacts.golden import check_golden
from zoo.contracts import Session
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo.errors import IntegrityError
from zoo.evaluation.evaluator import deployed_architecture
from zoo.evaluation.predict import make_predictor
from zoo.onnx.check import load_checked_model
from zoo.progress.lines import NoteReporter
from zoo.runner.api import load, run
from zoo.runner.runner import open_runner
from zoo.runner.settings import Settings
from zoo_cli.main import _APART, COMMANDS, main
from zoo_cli.output import print_note, print_table, print_text

SHARED = Path(__file__).parents[3] / "shared" / "hostile"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.onnx.check._passed", set())
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shots(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.dng", tmp_path / "b.dng"]
    for path in paths:
        path.write_bytes(dng(frame((120, 160))))
    return paths


def test_a_network_that_traps_costs_its_pictures_and_the_process_lives(
    tmp_path: Path, shots: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "zoo.onnx.check.check_divisions", lambda graph: None
    )  # as if nobody had thought of it
    made = hostile_models.artifact(tmp_path / "trap", hostile_models.trap())
    results = run(made, shots, tmp_path / "out")
    assert [str(result.error) for result in results] == ["The network makes onnxruntime crash (SIGFPE)."] * 2
    assert all(isinstance(result.error, IntegrityError) for result in results)
    assert run(tiny.bayer_artifact(tmp_path / "good"), shots, tmp_path / "out")[0].error is None


def test_a_network_that_would_trap_is_refused_before_an_engine_sees_it(
    tmp_path: Path, shots: list[Path]
) -> None:
    made = hostile_models.artifact(tmp_path / "trap", hostile_models.trap())
    for way in ("--isolate", "--no-isolate"):
        assert main(["run", str(made.path), str(shots[0]), "-o", str(tmp_path / "out"), way]) == 4


def test_a_network_that_fills_memory_is_stopped_within_its_limit(tmp_path: Path) -> None:
    shot = tmp_path / "large.dng"
    shot.write_bytes(dng(frame((400, 600))))
    made = hostile_models.artifact(tmp_path / "outer", hostile_models.outer_product())
    with load(made, memory="256MB") as runner:
        (result,) = runner.run([shot], tmp_path / "out")
        assert "takes more than the 256 MB" in str(result.error)
        assert runner.loaded.session.peak_bytes < 300 * 10**6


def test_a_golden_file_that_is_too_large_for_the_memory_is_refused_and_read_where_there_is_more(
    tmp_path: Path,
) -> None:
    made = tiny.bayer_artifact(tmp_path / "good")
    size = made.manifest.files["golden.safetensors"].size
    with pytest.raises(IntegrityError, match="too many for the"):
        check_golden(made_session(made), made, "it", memory=2 * size)
    assert check_golden(made_session(made), made, "it", memory=8 * size)


def made_session(made: Artifact) -> Session:
    return OnnxRuntimeEngine().open(load_checked_model(made), threads=1)


def test_an_engine_of_a_third_party_that_ends_its_process_costs_the_pictures_and_is_named(
    tmp_path: Path, shots: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaving_engine.py").write_text(LEAVING)
    monkeypatch.syspath_prepend(str(tmp_path))
    engine = importlib.import_module("leaving_engine").Leaving()
    monkeypatch.setattr("zoo.plugins.engine", lambda name: engine)
    made = _pinned(tiny.bayer_artifact(tmp_path / "good", golden=None).path)
    with load(made, engine="leaving") as runner:
        results = runner.run(shots, tmp_path / "out")
    assert [str(each.error) for each in results] == ["The engine leaving ended by itself with status 0."] * 2


LEAVING = """
import os
from zoo.contracts import Engine
class Session:
    def run(self, inputs):
        os._exit(0)
class Leaving(Engine):
    contract, id, summary = 1, "leaving", "ends its process"
    def available(self): return None
    def version(self): return "1"
    def open(self, model, *, threads=0, profile=None): return Session()
"""


@pytest.mark.parametrize("supervised", [False, True])
def test_an_output_that_is_not_what_the_manifest_states_is_refused(
    tmp_path: Path, shots: list[Path], supervised: bool
) -> None:
    settings = Settings(tmp_path / "out", supervised=supervised)
    for what, model in hostile_models.wrong_outputs().items():
        made = hostile_models.artifact(tmp_path / what, model)
        with open_runner(made, settings=settings) as runner:
            (result,) = runner.run(shots[:1])
        assert isinstance(result.error, IntegrityError), what
        assert "its zoo.json states" in str(result.error) or "not finite" in str(result.error)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("way", ["", "--tile=48", "--format=tiff", "--no-isolate"])
def test_a_network_that_gives_nonsense_ends_with_exit_code_4(
    tmp_path: Path, shots: list[Path], way: str
) -> None:
    made = hostile_models.artifact(tmp_path / "made", hostile_models.wrong_outputs()["one-pixel"])
    assert main(["run", str(made.path), *map(str, shots), "-o", str(tmp_path / "out"), *way.split()]) == 4


#: `zoo` on a machine of 400 MB, with little patience, that nobody told of divisions.
UNPREPARED = """
import sys
import zoo.engines.patience, zoo.machine.cgroups, zoo.onnx.check
zoo.machine.cgroups.memory_limit = lambda root: 400 << 20
zoo.engines.patience._SECONDS = 1.0
zoo.onnx.check.check_divisions = lambda graph: None
from zoo_cli.main import program
program()
"""


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (hostile_models.outer_product, "takes more than"),
        (hostile_models.trap, "makes its engine crash (SIGFPE)"),
        (hostile_models.endless, "computed for longer than its size explains"),
    ],
)
def test_a_file_from_outside_costs_the_command_that_computes_it_and_is_told_of(
    tmp_path: Path, network: Callable[[], bytes], said: str
) -> None:
    (tmp_path / "hostile.onnx").write_bytes(network())
    # Without --output the file is run to see what it gives, by the command itself.
    command = [sys.executable, "-c", UNPREPARED, "eval", "hostile.onnx", "--input", "packed-raw:4x64x64"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert said in done.stderr


def test_every_command_that_computes_networks_does_so_apart() -> None:
    assert {"apply", "bench", "eval", "explain", "info", "search", "train"} <= set(_APART)
    # These compute through the runner, which does so itself, or nothing.
    assert set(COMMANDS) - set(_APART) == {
        "cache", "doctor", "list", "plugin", "plugins", "publish", "pull", "run", "survey", "techniques",
    }  # fmt: skip


def test_the_child_ends_with_the_runner(tmp_path: Path, shots: list[Path]) -> None:
    made = tiny.bayer_artifact(tmp_path / "good")
    with load(made) as runner:
        runner.develop(shots[0])
        child = runner.loaded.session._session._process._child.id  # type: ignore[attr-defined]
        assert Path(f"/proc/{child}").exists()
    assert not Path(f"/proc/{child}").exists()


def test_a_pinned_artifact_is_computed_in_this_process_and_gives_the_same_picture(
    tmp_path: Path, shots: list[Path]
) -> None:
    made = tiny.bayer_artifact(tmp_path / "good")
    pictures = []
    for pinned in (False, True):
        with load(open_artifact(made.path) if not pinned else _pinned(made.path)) as runner:
            assert (type(runner.loaded.session._session).__name__ == "SupervisedSession") is not pinned
            pictures.append(runner.develop(shots[0]))
    assert np.array_equal(*pictures)


def test_parts_that_are_put_together_are_those_that_were_computed(tmp_path: Path) -> None:
    made = tiny.bayer_artifact(tmp_path / "made")
    inputs = np.random.default_rng(0).random((4, 500, 400), dtype=np.float32)
    pictures = []
    for artifact in (_pinned(made.path), open_artifact(made.path)):
        with load(artifact) as runner:
            predict = make_predictor(runner.loaded.session, deployed_architecture(artifact))
            pictures.append(predict(inputs, None))
    assert np.array_equal(*pictures)


def _pinned(path: Path) -> Artifact:
    return dataclasses.replace(open_artifact(path), pinned=True)


def test_an_artifact_without_a_model_is_refused(tmp_path: Path, shots: list[Path]) -> None:
    made = tiny.bayer_artifact(tmp_path / "good")
    content = json.loads((made.path / "zoo.json").read_text())
    del content["files"]["model.onnx"]
    (made.path / "zoo.json").write_text(json.dumps(content))
    os.unlink(made.path / "model.onnx")
    for command in (
        ["run", str(made.path), str(shots[0]), "-o", str(tmp_path / "out")],
        ["explain", str(made.path)],
    ):
        assert main(command) == 4


def test_names_from_outside_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b]0;owned\x07 \x9b31m \u202e layer"
    print_text(name)
    print_table(["layer"], [[name]])
    print_note(name)
    NoteReporter().note(name)
    printed = capsys.readouterr()
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(printed.out + printed.err)
    assert (printed.out + printed.err).count("layer") == 5


@pytest.mark.skipif(
    not (SHARED.exists() and COLORCHART.exists()), reason="the hostile artifacts are not there"
)
@pytest.mark.parametrize("name", ["cos_const_2e31-1", "matmul_outer", "resize_sizes_big", "shape_batch0"])
def test_hostile_artifacts_are_refused_within_the_limit(tmp_path: Path, name: str) -> None:
    with load(SHARED / name, memory="256MB") as runner:
        (result,) = runner.run([COLORCHART], tmp_path / "out")
        assert isinstance(result.error, IntegrityError)
        assert runner.loaded.session.peak_bytes < 300 * 10**6
