"""Int8 `unet` on ONNX Runtime and OpenVINO against float32, and against the files of their own tools.

    python docs/benchmarks/engines/run.py [--photos DIR] [--rounds 15] [--write]

Needs the extra `compress`, the packages zoo-openvino (`plugins/zoo-openvino`) and nncf. The files are made once, in
--out. All sessions are timed interleaved in one process, on a packed input of 4 x 512 x 512 with two threads; PSNR is
that of the picture against the float32 file's, a mean over crops of pictures that no calibration saw. --write puts the
tables into the README beside this script.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from files import NET, make_files

from zoo import plugins
from zoo.data.darkroom import Darkroom, DarkroomConfig
from zoo.images.decibels import psnr
from zoo.registry import shipped_folder
from zoo.runner.timing import Latency, latency_ratio, measure_latency

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked import put_table

if TYPE_CHECKING:
    from zoo.contracts import FloatArray

SWIFT = "swift-unet-int8"
#: rows of the table: what runs which file
ROWS = {
    "ONNX Runtime, float32": ("onnxruntime", "float"),
    "ONNX Runtime, int8 of `ptq`": ("onnxruntime", "zoo"),
    "ONNX Runtime, int8 of its `quantize_static`": ("plain onnxruntime", "onnxruntime"),
    "OpenVINO, float32": ("openvino", "float"),
    "OpenVINO, int8 of `ptq`": ("openvino", "zoo"),
    "OpenVINO, int8 of NNCF": ("plain openvino", "nncf"),
    "ONNX Runtime, `swift-unet-int8`": ("onnxruntime", SWIFT),
    "OpenVINO, `swift-unet-int8`": ("openvino", SWIFT),
}
#: what must be reached: a row, by what factor its time may differ from another row's, and that row
TARGETS = (
    ("ONNX Runtime, int8 of `ptq`", 1 / 2.4, "ONNX Runtime, float32"),
    ("ONNX Runtime, int8 of `ptq`", 1.05, "ONNX Runtime, int8 of its `quantize_static`"),
    ("OpenVINO, int8 of `ptq`", 1.05, "OpenVINO, int8 of NNCF"),
    ("ONNX Runtime, `swift-unet-int8`", 1 / 4, "ONNX Runtime, int8 of its `quantize_static`"),
    # On a processor with AVX512-VNNI; with AMX, where dense int8 is cheaper, 1 / 2.5.
    ("OpenVINO, `swift-unet-int8`", 1 / 5, "OpenVINO, int8 of NNCF"),
)


class PlainOnnxRuntime:
    """ONNX Runtime on a file as it is, with the options that zoo gives it, but that threads wait in a loop.

    That is what ONNX Runtime does by itself, and a few per cent faster where nothing else is to be computed.
    """

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.enable_mem_pattern = False
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, inputs: FloatArray) -> FloatArray:
        output: FloatArray = self._session.run(None, {"input": inputs})[0]
        return output


class OnItsOwnInput:
    """A network that takes another input than `unet` for the same RAW file: four planes of noise more."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def run(self, inputs: FloatArray) -> FloatArray:
        output: FloatArray = self._session.run(np.concatenate([inputs, inputs], axis=1))
        return output


class PlainOpenVino:
    """OpenVINO on a file as it is, with the options that zoo gives it."""

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        core = openvino.Core()
        self._request = core.compile_model(core.read_model(path), "CPU", options).create_infer_request()

    def run(self, inputs: FloatArray) -> FloatArray:
        self._request.infer([inputs], share_inputs=True)
        return np.array(self._request.get_output_tensor(0).data)


def open_session(engine: str, path: Path, threads: int) -> Any:
    if engine == "plain onnxruntime":
        return PlainOnnxRuntime(path, threads)
    if engine == "plain openvino":
        return PlainOpenVino(path, threads)
    return plugins.engine(engine).open(path, threads=threads)


def held_out_crops(photos: tuple[str, ...]) -> list[FloatArray]:
    """The middle of each test picture, (1, 4, side, side), at most 256 wide."""
    architecture = plugins.architecture(NET)
    crops = []
    for frame in Darkroom(DarkroomConfig(photos=photos)).frames(architecture, "test"):
        height, width = frame.inputs.shape[1:]
        side = min(
            256,
            *(s // architecture.input.multiple_of * architecture.input.multiple_of for s in (height, width)),
        )
        top, left = (height - side) // 2, (width - side) // 2
        crops.append(frame.inputs[None, :, top : top + side, left : left + side])
    return crops


def fidelity(sessions: dict[str, Any], crops: list[FloatArray]) -> dict[str, float]:
    """Mean PSNR in dB of each session's pictures against those of the first one."""
    reference = [next(iter(sessions.values())).run(np.ascontiguousarray(crop)) for crop in crops]
    return {
        name: float(
            np.mean(
                [
                    psnr(
                        float(
                            np.mean((session.run(np.ascontiguousarray(crop)) - made) ** 2, dtype=np.float64)
                        )
                    )
                    for crop, made in zip(crops, reference, strict=True)
                ]
            )
        )
        for name, session in sessions.items()
    }


def report(latencies: dict[str, Latency], quality: dict[str, float], crops: int, rounds: int) -> str:
    """The two tables, in Markdown."""
    first = next(iter(latencies.values()))
    lines = [
        f"{rounds} interleaved rounds, {crops} held-out crops; {_versions()}.",
        "",
        "| | times as fast as ONNX Runtime in float32 | quartiles | PSNR against float32, dB |",
        "|---|---:|---:|---:|",
    ]
    for name, latency in latencies.items():
        times, low, high = latency_ratio(first, latency)
        decibels = f"{quality[name]:.2f}" if name in quality and "float32" not in name else ""
        lines.append(f"| {name} | {times:.2f} | {low:.2f}-{high:.2f} | {decibels} |")
    lines += [
        "",
        "| time of | against that of | at most | measured | quartiles | |",
        "|---|---|---:|---:|---:|---|",
    ]
    for name, most, other in TARGETS:
        if name in latencies and other in latencies:
            times, low, high = latency_ratio(latencies[name], latencies[other])
            reached = "reached" if times <= most else "missed"
            lines.append(
                f"| {name} | {other} | {most:.2f} | {times:.2f} | {low:.2f}-{high:.2f} | {reached} |"
            )
    return "\n".join(lines)


def _versions() -> str:
    names = ("onnxruntime", "openvino", "nncf")
    return ", ".join(f"{name} {version(name)}" for name in names if find_spec(name))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out/engines"))
    parser.add_argument("--photos", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    files = make_files(arguments.out, tuple(arguments.photos))
    sessions = {
        name: open_session(engine, files[file], arguments.threads)
        for name, (engine, file) in ROWS.items()
        if file in files
    }
    swift = shipped_folder(SWIFT) / "model.onnx"
    for name, (engine, file) in ROWS.items():
        if file == SWIFT and plugins.engine(engine).available() is None:
            sessions[name] = OnItsOwnInput(open_session(engine, swift, arguments.threads))
    inputs = np.random.default_rng(0).random((1, 4, 512, 512), dtype=np.float32)
    latencies = measure_latency(sessions, inputs, rounds=arguments.rounds)
    crops = held_out_crops(tuple(arguments.photos))
    same = {name: session for name, session in sessions.items() if ROWS[name][1] != SWIFT}
    found = report(latencies, fidelity(same, crops), len(crops), arguments.rounds)
    print(found)
    if arguments.write:
        put_table(Path(__file__).with_name("README.md"), "engines", found)


if __name__ == "__main__":
    main()
