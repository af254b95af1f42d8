"""The promises of the engine contract, one test each."""

from __future__ import annotations

import os
import tempfile
import time
import unittest
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoo import plugins
from zoo.artifacts import open_artifact
from zoo.artifacts.golden import all_outputs, check_golden, output_psnr
from zoo.contracts import DeviceProfile, Engine, Session
from zoo.contracts.input_parts import packing_of_file
from zoo.engines.opening import open_session_for
from zoo.errors import ZooError
from zoo.extras import COMPRESS_PACKAGES
from zoo.machine.processors import usable_processors
from zoo.registry import shipped_folder
from zoo.testing import onnx_files
from zoo.testing.declarations import PluginChecks, loaded_by, refusal_of

if TYPE_CHECKING:
    from zoo.contracts import FloatArray

#: Checkpoints whose golden outputs are compared: in float32 and in int8.
_CHECKPOINTS = ("lighter-unet", "lighter-unet-int8")
#: PSNR in dB against numpy; engines that compute in float16 reach 60 and more
_AGREEMENT = 50.0
_TASKS = Path("/proc/self/task")
#: A thread counts as one that computes from this share of what all computed together.
_SHARE = 0.1
_SECONDS = 0.5


def engine_checks(
    engine: type[Engine], *, package: str = "", profile: DeviceProfile | None = None
) -> type[EngineChecks]:
    """Return a class of tests for `engine`; assign it to a name that starts with ``Test``.

    Where the engine is not available the tests that need it are skipped, with its reason.

    Args:
        engine: The class that the entry point names.
        package: The import name of the package that it computes with, which only `open` may import.
        profile: What is stated of the device; the profile of this machine if None.
    """
    attributes = {
        "engine": engine,
        "heavy": (*COMPRESS_PACKAGES, *filter(None, [package])),
        "profile": profile,
    }
    return type(f"Test{engine.__name__}", (EngineChecks,), attributes)


class EngineChecks(PluginChecks):
    """One test for each promise. Use :func:`engine_checks` to make a class of it for an engine."""

    engine: ClassVar[type[Engine]]
    profile: ClassVar[DeviceProfile | None] = None

    @classmethod
    def subject(cls) -> type[Engine]:
        return cls.engine

    @classmethod
    def ready(cls) -> Engine:
        """Return an instance. Skips the test where the engine cannot run."""
        made = cls.engine()
        obstacle = made.available()
        if obstacle is not None:
            raise unittest.SkipTest(obstacle)
        return made

    @classmethod
    def opened(cls, model: Path | bytes, threads: int = 1) -> Session:
        """Return a session on a model, opened as `zoo run` opens it."""
        profile = cls.profile or plugins.device("host")
        return open_session_for(cls.ready(), model, profile, threads=threads, spec=onnx_files.INPUT)

    # ----------------------------------------------------------------------------------- before it is used

    def test_it_says_whether_it_can_run_here(self) -> None:
        obstacle = self.engine().available()
        assert obstacle is None or (isinstance(obstacle, str) and obstacle.strip() == obstacle != "")

    def test_it_states_a_version(self) -> None:
        version = self.ready().version()
        assert isinstance(version, str)
        assert version.strip() == version != ""

    def test_asking_whether_it_can_run_is_cheap(self) -> None:
        code = f"from {self.engine.__module__} import {self.engine.__name__}; {self.engine.__name__}().available()"
        loaded = loaded_by(code, self.heavy)
        assert not loaded, f"import these in open: {', '.join(loaded)}"

    # ------------------------------------------------------------------------------------ what it computes

    def test_it_computes_what_numpy_computes(self) -> None:
        inputs = _noise(1, 32, 32)
        outputs = self.opened(onnx_files.network()).run(inputs)
        wanted = onnx_files.expected(inputs)
        assert outputs.shape == wanted.shape
        agreement = output_psnr(outputs, wanted)
        assert agreement >= _AGREEMENT, f"{agreement:.1f} dB"

    def test_one_session_takes_inputs_of_several_sizes_and_batches(self) -> None:
        session = self.opened(onnx_files.network())
        for shape in ((1, 32, 32), (1, 48, 20), (3, 32, 32), (1, 32, 32)):
            inputs = _noise(*shape)
            assert output_psnr(session.run(inputs), onnx_files.expected(inputs)) >= _AGREEMENT, shape

    def test_several_inputs_and_outputs_are_computed_or_refused(self) -> None:
        image, levels = _noise(2, 24, 32), np.array([[0.5, -1], [2, 4]], np.float32)
        packed = packing_of_file([(None, onnx_files.INPUT.channels, None, None), (None, 2)])
        assert packed is not None
        try:
            found = all_outputs(self.opened(onnx_files.network_of_several()), packed.pack([image, levels]))
        except ZooError:
            return
        for name, wanted in onnx_files.expected_of_several(image, levels).items():
            assert name in found, f"the output '{name}' is missing: implement run_all"
            assert output_psnr(found[name], wanted) >= _AGREEMENT, name

    def test_outputs_are_float32_and_the_callers_to_keep(self) -> None:
        session = self.opened(onnx_files.network())
        first = session.run(_noise(1, 32, 32))
        assert isinstance(first, np.ndarray)
        assert first.dtype == np.float32
        kept = first.copy()
        session.run(_noise(1, 32, 32, seed=1))
        assert np.array_equal(first, kept), "the next run wrote into the output of the one before"

    def test_inputs_stay_as_they_are_however_they_lie_in_memory(self) -> None:
        session = self.opened(onnx_files.network())
        inputs = _noise(1, 32, 48)
        turned = np.asfortranarray(inputs)
        kept = inputs.copy()
        assert np.array_equal(session.run(turned), session.run(inputs))
        assert np.array_equal(inputs, kept), "the input was written to"

    def test_a_file_and_its_bytes_are_the_same_to_it(self) -> None:
        data, inputs = onnx_files.network(), _noise(1, 32, 32)
        with tempfile.TemporaryDirectory(prefix="zoo-engine-") as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(data)
            assert np.array_equal(self.opened(path).run(inputs), self.opened(data).run(inputs))

    def test_it_computes_checkpoints_in_float_and_in_int8_as_their_makers_did(self) -> None:
        for name in _CHECKPOINTS:
            artifact = open_artifact(shipped_folder(name))
            profile = self.profile or plugins.device("host")
            session = open_session_for(
                self.ready(), artifact.path / "model.onnx", profile, threads=1, spec=artifact.manifest.input
            )
            check_golden(session, artifact, self.engine.id)

    def test_it_starts_no_more_threads_than_it_is_told(self) -> None:
        if not _TASKS.is_dir() or usable_processors() < 2:
            raise unittest.SkipTest("needs Linux and two processors")
        session = self.opened(shipped_folder(_CHECKPOINTS[0]) / "model.onnx", threads=1)
        inputs = np.random.default_rng(0).random((1, 4, 128, 128), dtype=np.float32)
        before, end = _thread_times(), time.monotonic() + _SECONDS
        while time.monotonic() < end:
            session.run(inputs)
        spent = [after - before.get(thread, 0) for thread, after in _thread_times().items()]
        computing = sum(each >= _SHARE * sum(spent) for each in spent)
        assert computing <= 1, f"{computing} threads computed where 1 was allowed"

    # -------------------------------------------------------------------------------------- what it refuses

    def test_an_input_of_another_shape_is_refused(self) -> None:
        session = self.opened(onnx_files.network())
        self.refused(lambda: session.run(np.zeros((1, 5, 32, 32), np.float32)), "5 channels in place of 3")
        session.run(_noise(1, 32, 32))

    def test_what_is_not_a_model_is_refused(self) -> None:
        data = onnx_files.network()
        for what, content in {
            "text": b"not ONNX at all",
            "nothing": b"",
            "half a file": data[: len(data) // 2],
        }.items():
            self.refused(lambda content=content: self.opened(content), what)
        self.refused(lambda: self.opened(Path("/nowhere/model.onnx")), "a file that does not exist")

    def test_a_model_that_is_not_whole_in_itself_or_not_standard_is_refused(self) -> None:
        foreign = onnx_files.network(operator="Anything", domain="com.example")
        self.refused(lambda: self.opened(foreign), "an operator that is not ONNX's")
        self.refused(lambda: self.opened(onnx_files.network(outside="weights.bin")), "data outside the file")

    def refused(self, work: object, what: str) -> None:
        """Assert that `work` raises a ZooError."""
        assert callable(work)
        try:
            refusal = refusal_of(work)
        except unittest.SkipTest:
            raise
        except Exception as error:
            raise AssertionError(f"{what}: raise a ZooError, not {type(error).__name__}: {error}") from error
        assert isinstance(refusal, ZooError), f"{what} was accepted"


def _noise(batch: int, height: int, width: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).random(
        (batch, onnx_files.INPUT.channels, height, width), dtype=np.float32
    )


def _thread_times() -> dict[str, int]:
    """Return the processor time of each thread of this process in nanoseconds."""
    times = {}
    for thread in os.listdir(_TASKS):
        try:
            times[thread] = int((_TASKS / thread / "schedstat").read_text().split()[0])
        except OSError:
            continue  # it ended meanwhile
    return times
