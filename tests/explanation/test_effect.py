"""`zoo explain --effect` finds the layer that the error comes from, and says the same as what can be computed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import nn

from support.quantized import Classifier, context, pictures
from support.tiny import manifest
from zoo.artifacts import Artifact, write_artifact
from zoo.contracts import InputSpec, OutputSpec, SilentReporter
from zoo.errors import UsageError
from zoo.explanation.effect_measurement import explain_effect
from zoo.explanation.effect_page import effect_page, effect_svg
from zoo.explanation.effect_report import Effect, EffectExplanation
from zoo.explanation.switchable_file import SwitchableFile
from zoo.export.exporter import export_onnx
from zoo_cli.main import main
from zoo_techniques.ptq import Ptq, PtqConfig

onnx = pytest.importorskip("onnx")

SPEC = InputSpec("rgb", 3, 8, (32, 32))
OUTPUT = OutputSpec("logits", 10)
CULPRIT = "4"
#: What a file with open sides does not say.
SIZE = "(input=rgb:3x32x32)"


class SmallClassifier(Classifier):
    """Without normalisation, at 32 by 32 pixels."""

    input = SPEC
    output = OUTPUT


def net(outlier: float = 300.0) -> nn.Module:
    """Four convolutions, of which the third has one channel that reaches far beyond the others and is ignored."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.weight *= 2
                layer.bias.zero_()  # type: ignore[union-attr]
        layers[4].weight[3] *= outlier
        layers[4].bias[3] = outlier / 10
        layers[6].weight[:, 3] = 0
    return layers.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with an artifact, its float file, one of onnxruntime's, and data."""
    where = tmp_path_factory.mktemp("effect")
    np.savez(where / "data.npz", inputs=pictures(12, channels=3).numpy())
    return where


@pytest.fixture(scope="module")
def data(folder: Path) -> str:
    return f"tensors(file={folder / 'data.npz'})"


@pytest.fixture(scope="module")
def artifact(folder: Path) -> Artifact:
    from safetensors.numpy import save

    technique, where = (
        Ptq(PtqConfig(observer="minmax", bias_correction=False)),
        context(SmallClassifier(), pictures(4, channels=3)),
    )
    module = technique.rewrite(net(), where)
    state = {name: tensor.detach().numpy().copy() for name, tensor in module.state_dict().items()}
    contents = {
        "model.onnx": export_onnx(technique.finish(module.eval(), where), SmallClassifier()),
        "model.safetensors": save(state),
    }
    described = manifest(
        architecture="classifier", recipe="ptq", input=SPEC, output=OUTPUT, golden=None, precision="int8"
    )
    return write_artifact(folder / "int8", described, contents)


@pytest.fixture(scope="module")
def floating(folder: Path) -> Path:
    path = folder / "float.onnx"
    path.write_bytes(export_onnx(net(), SmallClassifier()))
    return path


@pytest.fixture(scope="module")
def foreign(folder: Path, floating: Path) -> Path:
    """The network as quantize_static writes it, one scale per tensor."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = iter([{"input": pictures(4, channels=3).numpy()}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._batches, None)

    path = folder / "foreign.onnx"
    quantize_static(floating, path, Reader(), quant_format=QuantFormat.QDQ)
    return path


@pytest.fixture(scope="module")
def explained(artifact: Artifact, data: str) -> EffectExplanation:
    return explain_effect(str(artifact.path), reporter=SilentReporter(), data=data, images=2)


def test_the_layer_with_the_outlying_channel_ranks_first(explained: EffectExplanation) -> None:
    first, second, *_ = explained.ranking()
    assert first.name == CULPRIT
    assert first.share > 2 * second.share
    assert first.won_db(explained.total_db) > 3
    single = explained.singles_of(first)[0]
    assert (single.name, single.part) == (f"{CULPRIT}/Relu", "activation")
    assert explained.advice[0].startswith(f"{CULPRIT}/Relu (activation")
    assert "often those of one channel" in explained.advice[0]


def test_activations_cost_more_than_weights_where_the_culprit_is_one(explained: EffectExplanation) -> None:
    assert explained.weights_db is not None
    assert explained.activations_db < explained.weights_db
    assert explained.total_db == pytest.approx(explained.activations_db, abs=1)


def test_what_accumulates_ends_with_the_whole_file(explained: EffectExplanation) -> None:
    until = [layer.until_db for layer in explained.layers]
    assert until[-1] == pytest.approx(explained.total_db)
    names = [layer.name for layer in explained.layers]
    before = until[names.index(CULPRIT) - 1]
    assert before is not None
    assert before > explained.total_db + 6, "the error is not there before the culprit"


def test_all_off_computes_what_the_float_network_does(artifact: Artifact, floating: Path) -> None:
    from support.onnx_models import plain_run
    from zoo.explanation.quantized_artifact import float_weights

    switches = SwitchableFile(artifact.read("model.onnx"), float_weights(artifact))
    everything = [each.name for each in switches.quantizers]
    inputs = pictures(2, channels=3, seed=5).numpy()
    one = plain_run(switches.file(everything), inputs)
    assert plain_run(floating.read_bytes(), inputs) == pytest.approx(
        one, rel=0.02, abs=0.02
    )  # biases are corrected
    operators = {node.op_type for node in onnx.load_from_string(switches.file(everything)).graph.node}
    assert "QuantizeLinear" not in operators
    assert "DequantizeLinear" not in operators


def test_nothing_off_is_the_file_itself(artifact: Artifact) -> None:
    from support.onnx_models import plain_run

    model = artifact.read("model.onnx")
    inputs = pictures(1, channels=3, seed=5).numpy()
    assert np.array_equal(plain_run(SwitchableFile(model, {}).file(()), inputs), plain_run(model, inputs))


def test_a_weight_that_is_off_is_not_rounded_by_the_engine(artifact: Artifact) -> None:
    from onnx.reference import ReferenceEvaluator

    from zoo.explanation.intermediate_outputs import open_as_written
    from zoo.explanation.quantized_artifact import float_weights

    switches = SwitchableFile(artifact.read("model.onnx"), float_weights(artifact))
    data = switches.file([f"{CULPRIT}.weight"])
    inputs = pictures(1, channels=3, seed=5).numpy()
    expected = ReferenceEvaluator(onnx.load_from_string(data)).run(None, {"input": inputs})[0]
    assert open_as_written(data).run(None, {"input": inputs})[0] == pytest.approx(expected, abs=1e-4)


def test_levels_that_are_passed_on_are_off_with_those_that_they_are_from() -> None:
    helper, numpy = onnx.helper, onnx.numpy_helper
    pair = ["scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["input", *pair], ["q1"]),
        helper.make_node("DequantizeLinear", ["q1", *pair], ["d1"]),
        helper.make_node("MaxPool", ["d1"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("QuantizeLinear", ["pooled", *pair], ["q2"]),
        helper.make_node("DequantizeLinear", ["q2", *pair], ["output"]),
    ]
    constants = [numpy.from_array(np.float32(0.05), "scale"), numpy.from_array(np.int8(0), "zero")]
    ends = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 1, s, s])
        for n, s in (("input", 4), ("output", 2))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], constants),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    switches = SwitchableFile(model.SerializeToString(), {})
    (only,) = switches.quantizers
    left = onnx.load_from_string(switches.file([only.name]))
    assert [node.op_type for node in left.graph.node] == ["Identity", "MaxPool", "Identity"]


def test_a_file_of_onnxruntime_is_explained_with_the_weights_of_its_float_file(
    foreign: Path, floating: Path, data: str
) -> None:
    found = explain_effect(
        f"{foreign}{SIZE}", reporter=SilentReporter(), data=data, images=2, against=f"{floating}{SIZE}"
    )
    assert found.weights_db is not None
    worst = {single.name: single for single in found.singles}
    weight = next(single for name, single in worst.items() if name.startswith("4.weight"))
    assert weight.share > 0.2, "one scale for all channels, of which one is hundreds of times as large"
    assert any("one per channel" in line for line in found.advice)


def test_without_float_weights_only_activations_are_switched(foreign: Path, data: str) -> None:
    found = explain_effect(f"{foreign}{SIZE}", reporter=SilentReporter(), data=data, images=1)
    assert found.weights_db is None
    assert all(single.part == "activation" for single in found.singles)
    assert "--against" in found.advice[-1]


def test_the_command_writes_table_picture_and_page(
    artifact: Artifact, data: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    svg, html = tmp_path / "effect.svg", tmp_path / "report.html"
    arguments = ["explain", str(artifact.path), "--effect", "--data", data, "--images", "1"]
    assert main([*arguments, "--plot", str(svg), "--html", str(html)]) == 0
    shown = capfd.readouterr().out
    assert shown.splitlines()[1].startswith(f"{CULPRIT} ")
    assert f"Wrote {html}." in shown
    root = ElementTree.fromstring(svg.read_text())
    bars = [each for each in root.iter("{http://www.w3.org/2000/svg}rect") if each.get("fill") == "#c2410c"]
    assert len(bars) == 3
    page = html.read_text()
    assert "<svg" in page
    assert "src=" not in page, "it needs no other file"
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["ranking"][0] == CULPRIT
    assert {layer["name"] for layer in document["layers"]} == set(document["ranking"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--effect", "--compare", "minmax,mse"], "--compare cannot be combined"),
        (["--effect", "--tensor", "x"], "--tensor cannot be combined"),
        (["--effect", "--plot", "x.png"], "SVG files"),
        (["--effect", "--html", "x.txt"], "HTML files"),
        (["--html", "x.html"], "--effect"),
        (["--effect", "--html", "nowhere/x.html"], "folder does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(
    arguments: list[str], text: str, artifact: Artifact, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(artifact.path), *arguments]) != 0
    assert text in capfd.readouterr().err


def test_names_from_files_are_no_markup() -> None:
    evil = "<script>alert('&')</script>\x1b"
    layer = Effect(evil, "layer", (evil,), 40.0, 30.0, 0.9, 30.0)
    single = Effect(evil, "activation", (evil,), 40.0, 30.0, 0.9)
    found = EffectExplanation(evil, evil, evil, evil, 1, 30.0, None, 30.0, [layer], [single], [], [evil])
    for text in (effect_svg(found), effect_page(found)):
        assert "<script" not in text
        assert "\x1b" not in text
    ElementTree.parse(io.StringIO(effect_svg(found)))


def test_ranges_of_run_time_are_refused(folder: Path) -> None:
    technique, where = Ptq(PtqConfig(mode="dynamic")), context(SmallClassifier(), pictures(4, channels=3))
    module = technique.finish(technique.rewrite(net(), where).eval(), where)
    with pytest.raises(UsageError, match="found at run time"):
        SwitchableFile(export_onnx(module, SmallClassifier()), {})
