"""Int8 files of `ptq`, ONNX Runtime's `quantize_static` and NNCF: score, bytes and speed on trained networks.

    python docs/benchmarks/accuracy/run.py --data DIR --weights DIR [--only resnet20] [--tools ptq,NNCF] [--no-times]
                                                 [--write]

--data is the folder with the pictures and published weights that `nets.py` names, --weights one for what is trained or
installed. Needs the extra `compress`; NNCF and OpenVINO are measured where they are installed. Files are kept in
--out with what making them took, and each result in results.jsonl beside this script: what is there is not made again.
--no-times leaves the times for a run on a quiet machine, which adds them. --write puts the table into the README beside
this script.

Times are ratios of interleaved medians, int8 to float of the same engine: ONNX Runtime on the file as it is, zoo's own
engine, and OpenVINO (through zoo's plugin for zoo's files, on NNCF's file as it is), with one thread and with two.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nets import references
from reference import Reference

from zoo import plugins
from zoo.contracts import Context
from zoo.export.exporter import export_onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked import put_table

RESULTS = Path(__file__).with_name("results.jsonl")
TOOLS = (
    "float", "ptq", "ptq(rounding=adaptive)", "ptq(observer=entropy)", "ptq(observer=minmax)",
    "quantize_static minmax", "quantize_static percentile", "quantize_static entropy", "NNCF",
)  # fmt: skip


class Maker:
    """Makes the files of one network."""

    def __init__(self, reference: Reference, folder: Path) -> None:
        self._reference, self._folder = reference, folder
        self._pictures: list[Any] = []

    def path(self, tool: str) -> Path:
        suffix = "xml" if tool == "NNCF" else "onnx"
        return self._folder / f"{self._reference.id}.{tool.replace(' ', '-')}.{suffix}"

    def make(self, tool: str) -> float:
        """Make the file of a tool if there is none; the processor seconds that it took, then or now."""
        path = self.path(tool)
        cost = path.with_name(f"{path.name}.cost.json")
        if not path.exists() or not cost.exists():
            begun = time.process_time()
            self._make(tool, path)
            cost.write_text(json.dumps({"cpu_s": time.process_time() - begun}))
        return float(json.loads(cost.read_text())["cpu_s"])

    def _make(self, tool: str, path: Path) -> None:
        if tool == "float":
            export_onnx(self._reference.build(), self._reference.architecture(), path)
        elif tool.startswith("ptq"):
            self._ptq(tool, path)
        elif tool == "NNCF":
            self._nncf(path)
        else:
            self._quantize_static(tool.split()[1], path)

    def _calibration(self) -> list[Any]:
        if not self._pictures:
            self._pictures = self._reference.calibration()
        return self._pictures

    def _ptq(self, recipe: str, path: Path) -> None:
        spec, pictures = self._reference.input, self._calibration()
        mean = torch.tensor(spec.mean or (0.0,)).view(-1, 1, 1)
        std = torch.tensor(spec.std or (1.0,)).view(-1, 1, 1)
        batches = [
            (torch.from_numpy(np.stack(pictures[k : k + 8])) - mean) / std for k in range(0, len(pictures), 8)
        ]
        context = Context(self._reference.architecture(), batches[0][:1], calibration=lambda: iter(batches))
        options = dict(part.split("=") for part in recipe[4:-1].split(",") if part)
        technique = plugins.technique("ptq", options)
        net = technique.finish(technique.rewrite(self._reference.build(), context).eval(), context)
        export_onnx(net, context.architecture, path)

    def _quantize_static(self, method: str, path: Path) -> None:
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):
            def __init__(self, pictures: list[Any]) -> None:
                self._left: Iterator[Any] = iter(pictures)

            def get_next(self) -> dict[str, Any] | None:
                picture = next(self._left, None)
                return None if picture is None else {"input": picture[None]}

        prepared = self._folder / f"{self._reference.id}.prepared.onnx"
        quant_pre_process(str(self.path("float")), str(prepared), skip_symbolic_shape=True)
        methods = {
            "minmax": CalibrationMethod.MinMax,
            "percentile": CalibrationMethod.Percentile,
            "entropy": CalibrationMethod.Entropy,
        }
        quantize_static(
            str(prepared), str(path), Reader(self._calibration()), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=methods[method],
        )  # fmt: skip

    def _nncf(self, path: Path) -> None:
        import nncf
        import openvino

        model = openvino.Core().read_model(str(self.path("float")))
        data = nncf.Dataset([picture[None] for picture in self._calibration()])
        openvino.save_model(nncf.quantize(model, data), str(path), compress_to_fp16=False)


def open_plain(path: Path, threads: int) -> Callable[[Any], Any]:
    """ONNX Runtime or OpenVINO on a file as it is."""
    if path.suffix == ".xml":
        import openvino

        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        core = openvino.Core()
        request = core.compile_model(core.read_model(str(path)), "CPU", options).create_infer_request()

        def run(x: Any) -> Any:
            request.infer([x], share_inputs=True)
            return np.array(request.get_output_tensor(0).data)

        return run
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = threads, 4
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"input": x})[0]


def open_engine(engine: str, path: Path, threads: int) -> Callable[[Any], Any]:
    return plugins.engine(engine).open(path, threads=threads).run  # type: ignore[no-any-return]


def ratios(
    maker: Maker, tools: list[str], inputs: Any, threads: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Time of each tool's file over that of float in the same engine, by tool and engine."""
    runs: dict[tuple[str, str], Callable[[Any], Any]] = {}
    for tool in tools:
        path = maker.path(tool)
        if tool != "NNCF":
            runs[tool, "plain"] = open_plain(path, threads)
        if tool == "float" or tool.startswith("ptq"):
            runs[tool, "zoo"] = open_engine("onnxruntime", path, threads)
        if find_spec("zoo_openvino") is not None and not tool.startswith("quantize_static"):
            runs[tool, "OpenVINO"] = (
                open_plain(path, threads) if tool == "NNCF" else open_engine("openvino", path, threads)
            )
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for number in range(rounds + 2):
        for key, run in runs.items():
            run(inputs)  # so that caches hold what is its own, not what another engine left
            begun = time.perf_counter()
            run(inputs)
            if number >= 2:
                seconds[key].append(time.perf_counter() - begun)
    found: dict[str, dict[str, float]] = {tool: {} for tool in tools}
    for tool, engine in runs:
        base = seconds["float", engine]
        each = [a / b for a, b in zip(seconds[tool, engine], base, strict=True)]
        found[tool][engine] = round(statistics.median(each), 3)
    return found


def measure(
    reference: Reference, folder: Path, known: dict[tuple[str, str], Any], rounds: int, chosen: list[str]
) -> Iterator[Any]:
    """The results of one network that are not known yet, one for each tool; no times if `rounds` is 0."""
    maker = Maker(reference, folder)
    tools = [tool for tool in chosen if tool != "NNCF" or find_spec("nncf") is not None]
    missing = [tool for tool in tools if (reference.id, tool) not in known]
    untimed = rounds and [tool for tool in tools if tool in missing or "one" not in known[reference.id, tool]]
    if not missing and not untimed:
        return
    pairs = reference.test() if missing else []
    rows = {tool: dict(known.get((reference.id, tool), {})) for tool in tools}
    for tool in tools:
        seconds = maker.make(tool)
        if tool in missing:
            rows[tool] = _scored(reference, tool, maker.path(tool), pairs) | {"cpu_s": round(seconds, 1)}
            if not rounds:
                yield rows[tool]
    if untimed:  # all together, since they are compared
        shape = (1, reference.input.channels, *reference.timed)
        inputs = np.random.default_rng(0).random(shape, dtype=np.float32)
        times = {threads: ratios(maker, tools, inputs, threads, rounds) for threads in (1, 2)}
        for tool, row in rows.items():
            yield row | {"one": times[1][tool], "two": times[2][tool]}


def _scored(reference: Reference, tool: str, path: Path, pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    run = open_plain(path, 1)
    outputs = [run(picture[None])[0] for picture, _ in pairs]
    stored = path.stat().st_size + (path.with_suffix(".bin").stat().st_size if tool == "NNCF" else 0)
    score = reference.score(outputs, [target for _, target in pairs])
    return {
        "net": reference.id,
        "tool": tool,
        "bytes": stored,
        "score": round(score, 3),
        "unit": reference.unit,
    }


def table(results: list[Any]) -> str:
    """The results in Markdown."""
    lines = [
        "| network | tool | score | drop | bytes | CPU s | plain ONNX Runtime | zoo's engine | OpenVINO |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    floats = {row["net"]: row["score"] for row in results if row["tool"] == "float"}
    for row in results:
        cells = [
            " / ".join(f"{row[key][engine]:.2f}" for key in ("one", "two") if engine in row.get(key, {}))
            for engine in ("plain", "zoo", "OpenVINO")
        ]
        drop = floats[row["net"]] - row["score"]
        lines.append(
            f"| {row['net']} | {row['tool']} | {row['score']:.2f} {row['unit']} | {drop:.2f} | {row['bytes']:,} | "
            f"{row['cpu_s']} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/accuracy"))
    parser.add_argument("--only", default="")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--no-times", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    known = {
        (row["net"], row["tool"]): row for row in map(json.loads, lines)
    }  # of several, the last one counts
    wanted = arguments.only.split(",") if arguments.only else []
    tools = ["float", *(tool for tool in arguments.tools.split(",") if tool != "float")]
    rounds = 0 if arguments.no_times else arguments.rounds
    for name, reference in references(arguments.data, arguments.weights).items():
        if wanted and name not in wanted:
            continue
        for row in measure(reference, arguments.out, known, rounds, tools):
            known[row["net"], row["tool"]] = row
            with RESULTS.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            print(row, flush=True)
    order = {tool: place for place, tool in enumerate(TOOLS)}
    nets = list(dict.fromkeys(net for net, _ in known))
    results = sorted(
        known.values(), key=lambda row: (nets.index(row["net"]), order.get(row["tool"], len(order)))
    )
    print(table(results))
    if arguments.write:
        put_table(Path(__file__).with_name("README.md"), "accuracy", table(results))


if __name__ == "__main__":
    main()
