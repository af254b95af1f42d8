"""The engines for NVIDIA's GPUs, as far as they go without one: options, the cache of engines, what is missing."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from support import fake_distributions, tiny
from support.dngs import dng, frame
from zoo import plugins
from zoo.checkpoints.listing import leftovers
from zoo.contracts import InputSpec
from zoo.devices import host
from zoo.engines import tensorrt
from zoo.engines.checked_session import CheckedSession
from zoo.engines.cuda import CUDA, CudaEngine, cuda_provider
from zoo.engines.opening import open_session_for
from zoo.engines.ort_session import CPU, OnnxRuntimeSession, check_provider_used, open_session
from zoo.engines.tensorrt import (
    TENSORRT,
    TensorRtEngine,
    cache_options,
    greatest_side,
    tensorrt_options,
)
from zoo.engines.tensorrt_cache import engines_folder, open_or_build_engine, outdated_engines
from zoo.errors import InputError, PluginError
from zoo.machine.nvidia import gpu_identity, has_gpu, tensorrt_version
from zoo.raw.prefetch import PrefetchingDecoder
from zoo.registry import shipped_folder
from zoo.runner.budget import footprint
from zoo.runner.loading import load
from zoo.runner.runner import Runner
from zoo.runner.settings import Settings

runtime = pytest.importorskip("onnxruntime")
SPEC = InputSpec("packed-raw", 4, multiple_of=16)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def int8_file() -> bytes:
    return (shipped_folder("lighter-unet-int8") / "model.onnx").read_bytes()


# --------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("board", "float16", "int8", "workspace_mb"),
    [
        ("jetson-nano", "True", "False", 512),
        ("jetson-orin-nano", "True", "True", 1024),
        ("host", None, None, None),
    ],
)
def test_numbers_and_workspace_are_those_of_the_board(
    board: str, float16: str | None, int8: str | None, workspace_mb: int | None
) -> None:
    profile = plugins.device(board)
    options = tensorrt_options(tiny.small_unet(), profile, SPEC)
    assert options["trt_fp16_enable"] == (float16 or str("float16" in profile.precisions))
    assert options["trt_int8_enable"] == (int8 or str("int8" in profile.precisions))
    if workspace_mb:
        assert int(options["trt_max_workspace_size"]) == workspace_mb << 20
    assert all(isinstance(value, str) for value in options.values())


@pytest.mark.parametrize(
    ("board", "unit", "sides"),
    [("jetson-nano", 16, (16, 512, 768)), ("jetson-orin-nx", 16, (16, 512, 1024)),
     ("jetson-agx-orin", 48, (48, 480, 2016)), ("jetson-nano", 1000, (1000, 1000, 1000))],
)  # fmt: skip
def test_the_range_of_sizes_goes_by_the_nets_stride_and_the_boards_memory(
    board: str, unit: int, sides: tuple[int, int, int]
) -> None:
    profile = plugins.device(board)
    options = tensorrt_options(tiny.small_unet(), profile, replace(SPEC, multiple_of=unit))
    stated = [options[f"trt_profile_{which}_shapes"] for which in ("min", "opt", "max")]
    assert stated == [f"input:1x4x{side}x{side}" for side in sides]
    assert greatest_side(profile, unit) == sides[2]


def test_a_net_of_one_size_but_any_batch_is_built_for_one_picture_and_one_of_one_shape_for_that() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(tiny.small_unet())
    sides = model.graph.input[0].type.tensor_type.shape.dim
    for axis in (2, 3):
        sides[axis].Clear()
        sides[axis].dim_value = 32
    options = tensorrt_options(model.SerializeToString(), None, SPEC)
    assert {options[f"trt_profile_{which}_shapes"] for which in ("min", "opt", "max")} == {"input:1x4x32x32"}
    sides[0].Clear()
    sides[0].dim_value = 1
    assert "trt_profile_min_shapes" not in tensorrt_options(model.SerializeToString(), None, SPEC)


def test_timings_are_kept_beside_the_engine_and_never_in_the_working_directory(tmp_path: Path) -> None:
    for version, stated in (("1.16.3", False), ("1.17.0", True), ("1.31.1", True), ("2.0", True)):
        options = cache_options(tmp_path, version)
        assert options["trt_engine_cache_path"] == str(tmp_path)
        assert (options.get("trt_timing_cache_path") == str(tmp_path)) == stated


def test_cuda_takes_half_of_the_boards_memory_at_most() -> None:
    assert cuda_provider(plugins.device("jetson-nano"))[1]["gpu_mem_limit"] == str(2 << 30)
    assert "gpu_mem_limit" not in cuda_provider(None)[1]


def test_onnx_runtime_knows_every_option() -> None:
    """A misspelt one would only show on a GPU; the file names the source that its list was taken from."""
    lines = Path(__file__).with_name("tensorrt_options.txt").read_text().splitlines()
    known = {line for line in lines if not line.startswith("#")}
    ours = {**tensorrt_options(tiny.small_unet(), plugins.device("host")), **cache_options(Path("x"), "1.20")}
    assert ours.keys() <= known
    assert {"trt_engine_cache_path", "trt_profile_opt_shapes", "trt_max_workspace_size"} <= ours.keys()


# ----------------------------------------------------------------------------------------- the cache of engines


def build(folder: Path) -> str:
    """What TensorRT does: an engine in the folder, if there is none yet."""
    engine = folder / "x.engine"
    if not engine.exists():
        engine.write_bytes(b"whole")
        return "built"
    if engine.read_bytes() != b"whole":
        raise PluginError("could not deserialize the engine")
    return "loaded"


def test_an_engine_is_built_once_for_a_model_its_options_the_versions_and_the_gpu(tmp_path: Path) -> None:
    gpu, other = tmp_path / "gpu", tmp_path / "other"
    for root, name in ((gpu, "NVIDIA Tegra X1"), (other, "NVIDIA Orin")):
        path = root / "proc/driver/nvidia/gpus/0/information"
        path.parent.mkdir(parents=True)
        path.write_text(f"Model: \t\t {name}\nIRQ: 1\n")
    subjects = [
        (b"model", {"a": "1"}, "8.2", gpu), (b"model2", {"a": "1"}, "8.2", gpu), (b"model", {"a": "2"}, "8.2", gpu),
        (b"model", {"a": "1"}, "8.5", gpu), (b"model", {"a": "1"}, "8.2", other),
    ]  # fmt: skip
    for expected in ("built", "loaded"):
        for data, options, version, root in subjects:
            assert open_or_build_engine(data, options, version, build, root=root) == expected
    assert len(os.listdir(engines_folder())) == len(subjects)
    gone = list(outdated_engines(lambda: "8.2", root=gpu))
    assert len(gone) == 2


def test_an_engine_that_is_damaged_is_built_anew_and_a_build_that_fails_leaves_nothing() -> None:
    open_or_build_engine(b"model", {}, "8.2", build)
    (folder,) = engines_folder().iterdir()
    (folder / "x.engine").write_bytes(b"who")
    assert open_or_build_engine(b"model", {}, "8.2", build) == "built"
    assert open_or_build_engine(b"model", {}, "8.2", build) == "loaded"

    def fails(folder: Path) -> str:
        (folder / "x.engine").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_or_build_engine(b"other", {}, "8.2", fails)
    assert [path.name for path in engines_folder().iterdir()] == [folder.name]


def test_who_needs_an_engine_that_is_being_built_waits_for_it() -> None:
    begun, results = threading.Event(), []

    def slowly(folder: Path) -> str:
        begun.set()
        threading.Event().wait(0.3)
        return build(folder)

    first = threading.Thread(target=lambda: results.append(open_or_build_engine(b"model", {}, "8.2", slowly)))
    first.start()
    begun.wait()
    results.append(open_or_build_engine(b"model", {}, "8.2", build))
    first.join()
    assert results == ["built", "loaded"]


def test_what_a_kill_left_and_engines_for_other_versions_are_named_to_be_pruned() -> None:
    open_or_build_engine(b"model", {}, TensorRtEngine().version(), build)
    assert leftovers() == []
    open_or_build_engine(b"model", {}, "7.1", build)
    (engines_folder() / ".killed.tmp").mkdir()
    (engines_folder() / "unknown").mkdir()
    found = {each.path.name for each in leftovers()}
    assert {".killed.tmp", "unknown"} < found
    assert len(found) == 3


# ------------------------------------------------------------------------------------------- what is missing


@pytest.mark.parametrize("engine", [CudaEngine(), TensorRtEngine()])
def test_a_provider_that_is_not_in_the_build_is_refused_and_the_next_engine_is_used(engine: object) -> None:
    obstacle = engine.available()
    if obstacle is None:
        pytest.skip("a GPU is here")
    with pytest.raises(PluginError, match="ExecutionProvider"):
        open_session_for(engine, int8_file(), plugins.device("jetson-nano"), spec=SPEC)
    assert not engines_folder().exists() or os.listdir(engines_folder()) == []


def test_a_cache_that_cannot_be_written_only_costs_the_cache(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, "open_session", lambda data, providers, **rest: providers[0][1])
    model, engine = tiny.small_unet(), TensorRtEngine()
    assert str(cache) in engine.open(model)["trt_engine_cache_path"]
    monkeypatch.setenv("ZOO_CACHE", "/proc/nowhere")
    options = engine.open(model)
    assert "trt_engine_cache_path" not in options
    assert "trt_profile_max_shapes" in options


def test_a_provider_that_onnx_runtime_silently_replaced_is_refused() -> None:
    check_provider_used(TENSORRT, [TENSORRT, CUDA, CPU])
    with pytest.raises(PluginError, match=f"could not start {CUDA} and used {CPU}"):
        check_provider_used(CUDA, [CPU])


def test_an_input_beyond_what_an_engine_was_built_for_is_refused_with_the_option_that_helps() -> None:
    session = open_session(tiny.small_unet(), [(CPU, {})], threads=1, most_side=32)
    assert isinstance(session, OnnxRuntimeSession)
    numpy = pytest.importorskip("numpy")
    assert session.run(numpy.zeros((1, 4, 32, 16), numpy.float32)).shape == (1, 3, 64, 32)
    with pytest.raises(InputError) as caught:
        session.run(numpy.zeros((1, 4, 34, 16), numpy.float32))
    assert caught.value.hint == "Use smaller tiles:  --tile 32"


def test_tiles_are_no_larger_than_what_the_engine_was_built_for(tmp_path: Path) -> None:
    artifact = tiny.bayer_artifact(tmp_path / "net")
    (tmp_path / "shot.dng").write_bytes(dng(frame((120, 200))))
    session = open_session(artifact.read("model.onnx"), [(CPU, {})], threads=1, most_side=64)
    checked = CheckedSession(session, artifact.manifest.output)
    loaded = replace(load(artifact, host(), engine="onnxruntime"), session=checked)
    settings = Settings(tmp_path / "out", memory=400 << 20)
    with Runner(loaded, footprint(artifact), settings, PrefetchingDecoder(), 0, 0.0) as runner:
        (result,) = runner.run([tmp_path / "shot.dng"])
    assert result.error is None
    assert result.tiles >= 2


STAND_IN = ("libonnxruntime_providers_cuda.so", "libonnxruntime_providers_tensorrt.so")
ASK = """
import sys
from zoo.engines.checked_session import CheckedSession
from zoo.engines.cuda import CudaEngine
from zoo.engines.tensorrt import TensorRtEngine
from zoo.engines.ort_session import provider_problem
print(provider_problem("CUDAExecutionProvider"), provider_problem("TensorrtExecutionProvider"), sep="|")
print(CudaEngine().available(), TensorRtEngine().available(), TensorRtEngine().version(), sep="|")
print([name for name in ("onnxruntime", "numpy", "tensorrt") if name in sys.modules])
"""


def test_what_is_missing_is_found_without_importing_anything(tmp_path: Path) -> None:
    fake_distributions.install(tmp_path, "onnxruntime", {}, version="1.18.0")
    path = (tmp_path, Path(plugins.__file__).parents[2])
    lines = fake_distributions.python("-c", ASK, path=path).out.splitlines()
    assert "libonnxruntime_providers_cuda.so is not in its folder" in lines[0].split("|")[0]
    assert "libonnxruntime_providers_tensorrt.so is not in its folder" in lines[0].split("|")[1]
    assert lines[2] == "[]"
    for library in STAND_IN:
        (tmp_path / "onnxruntime" / "capi").mkdir(exist_ok=True)
        (tmp_path / "onnxruntime" / "capi" / library).touch()
    lines = fake_distributions.python("-c", ASK, path=path).out.splitlines()
    assert lines[0] == "None|None"
    if not has_gpu():
        assert lines[1].count("No driver of an NVIDIA GPU is loaded here.") == 2
    assert "1.18.0 (TensorRT" in lines[1]
    assert lines[2] == "[]"


def test_gpu_and_tensorrt_are_known_by_their_files(tmp_path: Path) -> None:
    assert not has_gpu(tmp_path)
    assert gpu_identity(tmp_path) == ""
    libraries = tmp_path / "usr/lib/aarch64-linux-gnu"
    for path in (
        libraries / "libnvinfer.so.8", libraries / "libnvinfer.so.8.2.1", libraries / "libnvinfer.so.8.2",
        tmp_path / "dev/nvhost-gpu",
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    tree = tmp_path / "proc/device-tree/compatible"
    tree.parent.mkdir(parents=True)
    tree.write_bytes(b"nvidia,p3450-0000\0nvidia,tegra210\0")
    assert has_gpu(tmp_path)
    assert tensorrt_version(tmp_path) == "8.2.1"
    assert gpu_identity(tmp_path) == "nvidia,p3450-0000 nvidia,tegra210"


@pytest.mark.parametrize(
    "name",
    ["jetson-nano", "jetson-tx2", "jetson-xavier-nx", "jetson-agx-xavier", "jetson-orin-nano", "jetson-orin-nx",
     "jetson-agx-orin"],
)  # fmt: skip
def test_every_jetson_prefers_tensorrt_then_cuda_then_the_processor(name: str) -> None:
    assert plugins.device(name).engines == ("tensorrt", "cuda", "onnxruntime")
