"""Layers that go back to float to keep a score: `zoo apply ptq --max-loss` against NNCF's accuracy control.

    python docs/benchmarks/accuracy/repair.py --data DIR --weights DIR [--only resnet20] [--budgets 0.3,1] [--write]

Both choose with the same pictures to calibrate on and the same half of the test pictures to score on; the other half,
which neither has seen, gives the score in the table. A network that loses nothing in int8 needs no repair, so each is
also measured with uneven channels: inside each residual block every channel is multiplied by a power of two between 1
and 64 and divided by it behind the ReLU, which changes nothing in float. `ptq` is measured with equalization, which
undoes that, and without. Results are kept in repair.jsonl beside this script, and what is there is not made again;
--write puts the table into the README.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nets import references
from reference import Reference
from run import open_plain
from torch import nn

import zoo
from zoo.architectures.cifar_resnet_module import CifarResNet
from zoo.errors import NoEffectError
from zoo.export.exporter import export_onnx
from zoo.quantization.fold import fold_batch_norms
from zoo.surgery import trace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked import put_table

RESULTS = Path(__file__).with_name("repair.jsonl")
NETS = ("resnet20", "resnet20 uneven")
TOOLS = ("ptq", "ptq(equalize=false)", "NNCF")


def build(name: str, reference: Reference) -> nn.Module:
    """Return a network with folded batch norms, its channels uneven where the name says so."""
    net = reference.build()
    assert isinstance(net, CifarResNet), "the blocks of others have other names"
    if name.endswith("uneven"):
        random = np.random.default_rng(0)
        for stage in (net.layer1, net.layer2, net.layer3):
            for block in stage:  # type: ignore[union-attr]
                factors = torch.from_numpy(2.0 ** random.integers(0, 7, block.conv2.in_channels)).float()
                with torch.no_grad():
                    block.bn1.weight.mul_(factors)
                    block.bn1.bias.mul_(factors)
                    block.conv2.weight.div_(factors.view(1, -1, 1, 1))
    module = trace(net, torch.zeros(1, 3, 32, 32))
    fold_batch_norms(module, lambda *_: None)
    return module


class Contest:
    """One network, its pictures, and a limit of the loss in points."""

    def __init__(self, name: str, reference: Reference, folder: Path) -> None:
        self.name, self._reference, self._folder = name, reference, folder
        self.calibration = np.stack(reference.calibration())
        test = reference.test()
        self.chosen_on, self.held_out = test[::2], test[1::2]
        self.net = build(name, reference)
        self.float_file = folder / f"{name.replace(' ', '-')}.onnx"
        export_onnx(self.net, reference.architecture(), self.float_file)

    def score(self, run: Callable[[Any], Any], pairs: list[tuple[Any, Any]]) -> float:
        """Return the share of right classes, in per cent."""
        outputs = [run(picture[None])[0] for picture, _ in pairs]
        return self._reference.score(outputs, [target for _, target in pairs])

    def zoo(self, recipe: str, budget: float) -> dict[str, Any]:
        """Return the score on pictures not seen, and the layers in float, of what `zoo.apply` makes."""
        inputs = np.stack([picture for picture, _ in self.chosen_on])
        targets = np.array([target for _, target in self.chosen_on])
        spec = self._reference.input
        try:
            result = zoo.apply(
                self.net, recipe, data=self.calibration, test=(inputs, targets), task="classification",
                input="rgb:3x32x32", output="logits:10", mean=spec.mean, std=spec.std, max_loss=f"{budget:g}pt",
                images=len(inputs), batch=len(self.calibration) // 8,
                out=Path(tempfile.mkdtemp(dir=self._folder), "made"),
            )  # fmt: skip
        except NoEffectError as error:
            return {"score": None, "float_layers": None, "why": str(error)}
        run = open_plain(result.artifact / "model.onnx", 1)
        layers = list(result.repair.layers) if result.repair is not None else []
        files = result.repair.files if result.repair is not None else 1
        return {"score": self.score(run, self.held_out), "float_layers": layers, "files": files}

    def nncf(self, budget: float) -> dict[str, Any]:
        """Return the same of what NNCF makes."""
        import nncf
        import openvino

        calls = 0

        def validate(model: Any, data: Iterable[Any]) -> tuple[float, None]:
            nonlocal calls
            calls += 1
            right = [int(model([picture])[0].argmax()) == target for picture, target in data]
            return float(np.mean(right)), None

        quantized = nncf.quantize_with_accuracy_control(
            openvino.Core().read_model(str(self.float_file)),
            nncf.Dataset([picture[None] for picture in self.calibration]),
            nncf.Dataset([(picture[None], target) for picture, target in self.chosen_on], lambda pair: pair),
            validate,
            max_drop=budget / 100,
            drop_type=nncf.DropType.ABSOLUTE,
        )
        path = self._folder / "nncf.xml"
        openvino.save_model(quantized, str(path), compress_to_fp16=False)
        score = self.score(open_plain(path, 1), self.held_out)
        return {"score": score, "float_layers": float_layers(quantized), "files": calls}


def float_layers(model: Any) -> list[str]:
    """Return the layers of an OpenVINO model whose weights are neither integers nor rounded."""
    found = []
    for node in model.get_ordered_ops():
        if node.get_type_name() not in ("Convolution", "GroupConvolution", "MatMul"):
            continue
        source = node.input(1).get_source_output().get_node()
        kinds = set()
        while source.get_input_size():
            kinds.add(source.get_type_name())
            source = source.input(0).get_source_output().get_node()
        whole = source.get_element_type().get_type_name() in ("i8", "u8")
        if not whole and "FakeQuantize" not in kinds:
            found.append(node.get_friendly_name())
    return found


def table(results: list[dict[str, Any]]) -> str:
    """The results in Markdown."""
    lines = [
        "| network | allowed loss | tool | layers in float | score on other pictures | files scored | CPU s |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for row in results:
        found = row["float_layers"] is not None
        layers = str(len(row["float_layers"])) if found else "refused"
        score = f"{row['score']:.1f} % ({row['float_score']:.1f} % in float)" if found else ""
        lines.append(
            f"| {row['net']} | {row['budget']:g} pt | {row['tool']} | {layers} | {score} | {row.get('files', '')} | "
            f"{row['cpu_s']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--only", default=",".join(NETS))
    parser.add_argument("--budgets", default="0.3,1")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    known = {(row["net"], row["tool"], row["budget"]): row for row in map(json.loads, lines)}
    reference = references(arguments.data, arguments.weights)["resnet20"]
    for name in arguments.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            contest: Contest | None = None
            for budget in map(float, arguments.budgets.split(",")):
                for tool in TOOLS:
                    if (name, tool, budget) in known:
                        continue
                    contest = contest or Contest(name, reference, Path(folder))
                    begun = time.process_time()
                    made = contest.nncf(budget) if tool == "NNCF" else contest.zoo(tool, budget)
                    base = contest.score(open_plain(contest.float_file, 1), contest.held_out)
                    row = {
                        "net": name, "tool": tool, "budget": budget, "float_score": base,
                        "cpu_s": round(time.process_time() - begun, 1), **made,
                    }  # fmt: skip
                    known[name, tool, budget] = row
                    with RESULTS.open("a") as stream:
                        stream.write(json.dumps(row) + "\n")
                    print(row, flush=True)
    results = sorted(known.values(), key=lambda row: (row["net"], row["budget"], TOOLS.index(row["tool"])))
    print(table(results))
    if arguments.write:
        put_table(Path(__file__).with_name("README.md"), "repair", table(results))


if __name__ == "__main__":
    main()
