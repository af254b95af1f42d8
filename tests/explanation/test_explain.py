"""What `zoo explain` says of an artifact's tensors agrees with what can be computed directly."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save
from torch import nn

from support.quantized import SmallUNet, context, pictures
from support.tiny import bayer_artifact, manifest
from zoo import plugins
from zoo.artifacts import Artifact, write_artifact
from zoo.contracts import Architecture, InputSpec, OutputSpec, SilentReporter
from zoo.data.darkroom import Darkroom
from zoo.errors import UsageError, ZooError
from zoo.explanation.explainer import explain_artifact
from zoo.explanation.intermediate_outputs import calibration_inputs, evaluation_inputs
from zoo.explanation.observer_rules import ObserverRule, parse_observer_rules
from zoo.explanation.quantized_tensors import quantized_tensors
from zoo.explanation.report import Choice, Explanation
from zoo.explanation.rounding_rule import RoundingRule
from zoo.explanation.tensor_statistics import Distribution, RoundingError
from zoo.explanation.verdicts import describe_problems, explain_difference
from zoo.export.exporter import export_onnx
from zoo.export.packing import pack_weights
from zoo.onnx.symmetric import to_symmetric
from zoo.quantization.observers import Magnitudes
from zoo_cli.main import main
from zoo_techniques.ptq import Ptq, PtqConfig

onnx = pytest.importorskip("onnx")

SPEC = InputSpec("packed-raw", 4, 8, (48, 64), mosaic="bayer", white_balance=True)
OUTPUT = OutputSpec("rgb", 3, 2)
IMAGES = 2


def net() -> nn.Module:
    """Two branches that are joined, a pooling, an up-sampling, an activation."""
    torch.manual_seed(0)
    branches = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), nn.LeakyReLU(0.2), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(), nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(8, 12, 1), nn.PixelShuffle(2),
    )  # fmt: skip
    with torch.no_grad():
        branches[0].weight[3, 2, 1, 1] = 5.0  # one channel reaches far beyond the others
    return branches.eval()


def architecture() -> Architecture:
    found = plugins.architecture("unet")
    found.input, found.output = SPEC, OUTPUT
    return found


def artifact(folder: Path, technique: Any, *, weights: bool = True) -> Artifact:
    where = context(architecture(), pictures(4))
    module = technique.rewrite(net(), where)
    state = {
        name: tensor.detach().numpy().astype(np.float16 if tensor.ndim > 1 else np.float32)
        for name, tensor in module.state_dict().items()
    }
    finished = technique.finish(module.eval(), where)
    contents = {"model.onnx": export_onnx(finished, architecture())}
    if weights:
        contents["model.safetensors"] = save(state)
    described = manifest(
        architecture="unet", recipe=technique.id, input=SPEC, output=OUTPUT, golden=None, precision="int8"
    )
    return write_artifact(folder, described, contents)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explain")


@pytest.fixture(scope="module")
def static(folder: Path) -> Artifact:
    return artifact(folder / "static", Ptq(PtqConfig(observer="minmax")))


@pytest.fixture(scope="module")
def dynamic(folder: Path) -> Artifact:
    return artifact(folder / "dynamic", Ptq(PtqConfig(mode="dynamic")), weights=False)


@pytest.fixture(scope="module")
def narrow(folder: Path) -> Artifact:
    return artifact(folder / "narrow", Ptq(PtqConfig(bits=6, weight_bits=4)))


@pytest.fixture(scope="module")
def explained(static: Artifact) -> Explanation:
    return explain_artifact(str(static.path), reporter=SilentReporter(), images=IMAGES)


def frames() -> list[np.ndarray]:
    return list(evaluation_inputs(Darkroom(), architecture(), IMAGES, 0))


def recorded(data: bytes, value: str, inputs: np.ndarray) -> np.ndarray:
    """A value of the file by ONNX's own reference implementation."""
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_from_string(data)
    model.graph.output.add(name=value)
    return ReferenceEvaluator(model).run([value], {"input": inputs})[0]


def initializer(data: bytes, name: str) -> np.ndarray:
    model = onnx.load_from_string(data)
    return next(onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def decibels(signal: np.ndarray, error: np.ndarray) -> float:
    return float(
        10 * np.log10(np.sum(signal.astype(np.float64) ** 2) / np.sum(error.astype(np.float64) ** 2))
    )


# ----------------------------------------------------------------------------------- figures, computed directly


def test_every_rounded_tensor_is_there_and_those_that_only_pass_levels_on_are_counted(
    explained: Explanation,
) -> None:
    assert [(tensor.name, tensor.kind) for tensor in explained.tensors] == [
        ("input", "activation"),
        ("0.weight", "weight"),
        ("0", "activation"),
        ("0/LeakyRelu", "activation"),
        ("3.weight", "weight"),
        ("3/Relu", "activation"),
        ("5.weight", "weight"),
        ("5", "activation"),
        ("6.weight", "weight"),
    ]
    assert explained.passed_on == 2  # behind the pooling and the up-sampling
    assert explained.images == IMAGES


@pytest.mark.parametrize(
    ("name", "value"), [("input", "input"), ("0", "0:"), ("0/LeakyRelu", "LeakyRelu_1:")]
)
def test_the_figures_of_an_activation_are_those_of_its_values(
    name: str, value: str, static: Artifact, explained: Explanation
) -> None:
    data = static.read("model.onnx")
    report = next(tensor for tensor in explained.tensors if tensor.name == name)
    x = np.concatenate([recorded(data, value, inputs).ravel() for inputs in frames()])
    model = onnx.load_from_string(data)
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == value)
    scale = float(initializer(data, node.input[1]))
    zero = int(initializer(data, node.input[2]))
    low, high = -zero, 255 - zero
    levels = np.rint(x / scale)
    choice = report.choice
    assert choice is not None
    assert report.scale == (pytest.approx(scale), pytest.approx(scale))
    assert report.zero_point == (zero, zero)
    assert (choice.low, choice.high) == (pytest.approx(low * scale), pytest.approx(high * scale))
    assert choice.clipped == pytest.approx(np.mean((levels < low) | (levels > high)), abs=2e-5)
    assert choice.sqnr_db == pytest.approx(decibels(x, np.clip(levels, low, high) * scale - x), abs=0.05)
    assert report.seen == (pytest.approx(float(x.min()), rel=1e-4), pytest.approx(float(x.max()), rel=1e-4))


def test_levels_without_a_sign_start_at_zero(explained: Explanation) -> None:
    report = next(tensor for tensor in explained.tensors if tensor.name == "3/Relu")
    assert (report.zero_point, report.bits) == ((0, 0), 8)
    assert report.choice is not None
    assert report.choice.low == 0
    assert report.choice.high == pytest.approx(255 * report.scale[0])
    assert not any("never negative" in note for note in report.notes)


@pytest.fixture(scope="module")
def signed(static: Artifact, folder: Path) -> Artifact:
    """The same network with a sign where there is none, and rounded before its ReLU, as other tools do."""
    model = onnx.load_from_string(to_symmetric(static.read("model.onnx")))
    relu = next(number for number, node in enumerate(model.graph.node) if node.op_type == "Relu")
    value = model.graph.node[relu].input[0]
    after = next(node for node in model.graph.node if node.input[0] == model.graph.node[relu].output[0])
    for operator, given, made in (
        ("DequantizeLinear", "levels", "rounded"),
        ("QuantizeLinear", value, "levels"),
    ):
        model.graph.node.insert(
            relu, onnx.helper.make_node(operator, [given, *after.input[1:]], [made], made)
        )
    next(node for node in model.graph.node if node.op_type == "Relu").input[0] = "rounded"
    described = manifest(
        architecture="unet", recipe="ptq", input=SPEC, output=OUTPUT, golden=None, precision="int8"
    )
    return write_artifact(folder / "signed", described, {"model.onnx": model.SerializeToString()})


def test_what_a_relu_cuts_off_anyway_is_no_error(static: Artifact, signed: Artifact) -> None:
    explained = explain_artifact(str(signed.path), reporter=SilentReporter(), images=IMAGES)
    report = next(tensor for tensor in explained.tensors if tensor.name == "3")
    x = np.concatenate([recorded(signed.read("model.onnx"), "3:", inputs).ravel() for inputs in frames()])
    assert x.min() < 0, "there is something to cut off"
    x = np.maximum(x, 0)
    rounded = np.clip(np.rint(x / report.scale[0]), -128, 127) * report.scale[0]
    assert report.choice is not None
    assert report.choice.clipped == pytest.approx(np.mean(x > 127.5 * report.scale[0]), abs=2e-5)
    assert report.choice.sqnr_db == pytest.approx(decibels(x, rounded - x), abs=0.05)
    assert report.seen is not None
    assert report.seen[0] == 0
    assert "never negative, so half of its levels are idle" in report.notes


def test_the_figures_of_a_weight_are_those_of_its_levels(static: Artifact, explained: Explanation) -> None:
    data = static.read("model.onnx")
    report = next(tensor for tensor in explained.tensors if tensor.name == "0.weight")
    scale = initializer(data, "0.weight_scale")
    rounded = initializer(data, "0.weight") * scale[:, None, None, None]
    weight = net()[0].weight.detach().numpy().astype(np.float16).astype(np.float32)
    assert report.channels == 8
    assert report.bits == 8
    assert report.scale == (pytest.approx(scale.min()), pytest.approx(scale.max()))
    assert report.choice is not None
    assert report.choice.sqnr_db == pytest.approx(decibels(weight, rounded - weight), abs=0.02)
    assert report.choice.clipped == 0


def test_ranges_of_run_time_are_told_from_the_least_to_the_largest(dynamic: Artifact) -> None:
    found = explain_artifact(str(dynamic.path), reporter=SilentReporter(), images=IMAGES)
    kinds = {tensor.name: tensor for tensor in found.tensors if tensor.kind == "dynamic"}
    assert list(kinds) == ["input", "0/LeakyRelu/MaxPool", "3/Relu", "5/DepthToSpace"]
    scales = [max(float(x.max()), 0) / 255 for x in frames()]
    report = kinds["input"]
    assert report.scale == (pytest.approx(min(scales)), pytest.approx(max(scales)))
    assert report.choice is not None
    assert report.choice.clipped == 0
    assert report.choice.sqnr_db > 35
    weight = next(tensor for tensor in found.tensors if tensor.name == "0.weight")
    assert (weight.bits, weight.channels, weight.zero_point) == (8, 8, (128, 128))
    assert weight.choice is None
    assert "no float weights" in weight.notes[0]


def test_fewer_bits_are_seen_in_the_levels_and_in_the_clip(narrow: Artifact) -> None:
    found = explain_artifact(str(narrow.path), reporter=SilentReporter(), images=1)
    bits = {tensor.name: tensor.bits for tensor in found.tensors}
    assert {name for name, width in bits.items() if width == 4} == {
        "0.weight",
        "3.weight",
        "5.weight",
        "6.weight",
    }
    assert bits["0"] == bits["3/Relu"] == 6
    relu = next(tensor for tensor in found.tensors if tensor.name == "3/Relu")
    assert relu.choice is not None
    assert (relu.choice.low, relu.choice.high) == (0, pytest.approx(63 * relu.scale[0]))
    leaky = next(tensor for tensor in found.tensors if tensor.name == "0/LeakyRelu")
    assert leaky.choice is not None
    below, above = -leaky.choice.low / leaky.scale[0], leaky.choice.high / leaky.scale[0]
    assert below + above == pytest.approx(63)
    assert 1 <= round(below) < 20


@pytest.mark.parametrize(("levels", "bits"), [([-31, 31], 6), ([-7, 7], 4), ([-1, 1], 2), ([-1, 1], 1)])
def test_weights_that_are_stored_packed_are_unpacked(levels: list[int], bits: int) -> None:
    rng = np.random.default_rng(0)
    low, high = levels
    weight = (
        rng.choice(levels, (32, 16, 3, 3))
        if bits == 1
        else rng.integers(low, high, (32, 16, 3, 3), endpoint=True)
    )
    scale = rng.random(32).astype(np.float32)
    nodes = [
        onnx.helper.make_node("DequantizeLinear", ["a.weight", "scale", "zero"], ["w"], "dequantize", axis=0),
        onnx.helper.make_node("Conv", ["x", "w"], ["y"], "a"),
    ]
    tensors = {"a.weight": weight.astype(np.int8), "scale": scale, "zero": np.zeros(32, np.int8)}
    graph = onnx.helper.make_graph(
        nodes, "packed",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 16, "h", "w"])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 32, "h2", "w2"])],
        [onnx.numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )  # fmt: skip
    pack_weights(graph)
    assert len(graph.node) > 2 or bits == 4, "not stored as it was"
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    (found,) = quantized_tensors(model.SerializeToString())
    assert (found.name, found.bits) == ("a.weight", bits)
    assert np.array_equal(found.levels, weight)
    assert np.allclose(found.dequantized(), weight * scale[:, None, None, None])


# --------------------------------------------------------------------------------------------- comparisons


def test_observers_are_judged_by_their_ranges_on_calibration_crops(static: Artifact) -> None:
    found = explain_artifact(
        str(static.path),
        reporter=SilentReporter(),
        images=IMAGES,
        compare="minmax,percentile=99",
        pattern="0*",
    )
    assert found.labels == ("minmax", "percentile=99")
    row = next(row for row in found.comparisons if row.name == "0")
    layer = net()[0]
    weight = torch.from_numpy(
        initializer(static.read("model.onnx"), "0.weight")
        * initializer(static.read("model.onnx"), "0.weight_scale")[:, None, None, None]
    ).float()
    bias = torch.from_numpy(initializer(static.read("model.onnx"), "0.bias"))

    def values(inputs: np.ndarray) -> np.ndarray:
        return nn.functional.conv2d(torch.from_numpy(inputs), weight, bias, padding=layer.padding).numpy()

    (zero, _) = next(tensor for tensor in found.tensors if tensor.name == "0").zero_point
    low, high = -zero, 255 - zero
    seen = Magnitudes()
    for inputs in calibration_inputs(Darkroom(), architecture(), 0):
        seen.add(values(inputs))
    x = np.concatenate([values(inputs).ravel() for inputs in frames()])
    for choice, reach in ((row.first, seen.largest), (row.second, seen.percentile(99))):
        assert choice.range == pytest.approx(reach, rel=1e-3)
        step = choice.range / max(-low, high)
        levels = np.rint(x / step)
        assert choice.sqnr_db == pytest.approx(decibels(x, levels.clip(low, high) * step - x), abs=0.1)
        assert choice.clipped == pytest.approx(np.mean((levels < low) | (levels > high)), abs=1e-4)
    assert row.better == max((row.first, row.second), key=lambda choice: choice.sqnr_db).label
    assert sum(found.wins().values()) == len(found.comparisons) == 2


def test_weights_are_compared_where_one_observer_chooses_for_weights(static: Artifact) -> None:
    rows = {
        compare: [
            row.name
            for row in explain_artifact(
                str(static.path), reporter=SilentReporter(), images=1, compare=compare, pattern="weight"
            ).comparisons
        ]
        for compare in ("minmax,mse", "minmax,entropy")
    }
    assert rows == {"minmax,mse": ["0.weight", "3.weight", "5.weight", "6.weight"], "minmax,entropy": []}


def test_two_artifacts_are_compared_tensor_by_tensor(static: Artifact, narrow: Artifact) -> None:
    found = explain_artifact(str(static.path), reporter=SilentReporter(), images=1, against=str(narrow.path))
    assert len(found.comparisons) == 9
    weights = [row for row in found.comparisons if row.kind == "weight"]
    assert {row.better for row in weights} == {str(static.path)}
    assert all(row.gain_db < -6 for row in weights)


def test_the_reason_says_what_outliers_cost() -> None:
    rng = np.random.default_rng(0)
    values = np.append(rng.normal(size=100_000), [41.0]).astype(np.float32)
    spread = Distribution()
    spread.add(values)
    plain = RoundingRule("x", "activation", "x", np.ones(1), np.zeros(1), -128, 127)
    choices = []
    for label, reach in (("minmax", 41.0), ("percentile", 3.9), ("narrow", 1.0)):
        rounding = plain.reaching(np.array([reach]))
        damage = RoundingError(rounding)
        damage.add(values[:-1])
        choices.append(Choice.of(label, damage, rounding.reach))
    wide, good, narrow = choices
    assert explain_difference(wide, good, 8, spread).startswith("minmax spends 3.4 of 8 bits on 0.0")
    assert "range 41, the others within 3.9" in explain_difference(good, wide, 8, spread)
    assert explain_difference(narrow, good, 8, spread).startswith("narrow clips 31 % of the values at 1")
    assert "these make 100 % of its error; percentile reaches to 3.9" in explain_difference(
        narrow, good, 8, spread
    )
    assert explain_difference(good, good, 8, spread).startswith("no significant difference")
    (note,) = describe_problems(wide, 8, spread, signed=True)
    assert note.startswith("spends 3.6 of 8 bits on 0.1 % of the values: range 41, 99.9 % of them within 3.")
    assert describe_problems(good, 8, spread, signed=True) == ()
    assert any(
        "of the error is clipping" in note for note in describe_problems(narrow, 8, spread, signed=True)
    )


def test_a_tensor_that_is_never_negative_is_told_to_waste_a_bit() -> None:
    spread = Distribution()
    spread.add(np.linspace(0, 1, 1000, dtype=np.float32))
    choice = Choice("x", -1.0, 1.0, 0.0, 40.0, 0.0)
    assert describe_problems(choice, 8, spread, signed=True) == (
        "never negative, so half of its levels are idle",
    )
    assert describe_problems(choice, 8, spread, signed=False) == ()


def test_a_distribution_that_grew_counts_everything_once() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=1000).astype(np.float32) * size for size in (0.1, 5.0, 80.0)]
    spread = Distribution()
    for part in (*parts, np.array([np.nan, np.inf], np.float32)):
        spread.add(part)
    values = np.concatenate(parts)
    assert spread.counts.sum() == 3000
    assert (spread.least, spread.largest) == (values.min(), values.max())
    width = 2 * spread.limit / len(spread.counts)
    for magnitude in (0.3, 4.0, 60.0):
        inside = np.mean(np.abs(values) > magnitude + width), np.mean(np.abs(values) > magnitude - width)
        assert inside[0] <= spread.share_beyond(magnitude) <= inside[1]
    assert spread.magnitude_of(0.9) == pytest.approx(np.quantile(np.abs(values), 0.9), abs=2 * width)


# ---------------------------------------------------------------------------------------------- command line


def test_json_holds_every_figure(static: Artifact, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["explain", str(static.path), "--images", "1", "--compare", "minmax,mse", "--json"])
    assert code == 0
    document = json.loads(capfd.readouterr().out)
    assert set(document) == {
        "artifact", "fingerprint", "engine", "data", "images", "tensors", "levels_passed_on", "compared",
    }  # fmt: skip
    for tensor in document["tensors"]:
        assert set(tensor) == {
            "name", "kind", "bits", "channels", "scale", "zero_point", "range", "clipped", "sqnr_db",
            "clipping_share_of_error", "seen", "notes",
        }  # fmt: skip
        assert math.isfinite(tensor["sqnr_db"])
    assert sum(document["compared"]["better"].values()) == len(document["compared"]["tensors"]) == 9
    for row in document["compared"]["tensors"]:
        assert set(row) == {"name", "kind", "first", "second", "gain_db", "better", "reason"}
        assert set(row["first"]) == {"label", "range", "clipped", "sqnr_db", "clipping_share_of_error"}


def test_tables_show_what_was_measured(
    static: Artifact, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "ranges.png"
    assert main(["explain", str(static.path), "--images", "1", "--tensor", "0*"]) == 0
    shown = capfd.readouterr().out
    assert "0.weight     weight, 8 channels     8" in shown
    assert "Measured on 1 test image of darkroom in onnxruntime" in shown
    assert (
        main(
            [
                "explain",
                str(static.path),
                "--images",
                "1",
                "--compare",
                "minmax,percentile",
                "--plot",
                str(plot),
            ]
        )
        == 0
    )
    shown = capfd.readouterr().out
    assert "better at" in shown
    assert f"Wrote {plot}." in shown
    with Image.open(plot) as picture:
        assert picture.format == "PNG"
        assert picture.size == (3 * 460, 2 * 250)
        colours = {colour for _, colour in picture.getcolors(1 << 20)}
        assert {(200, 60, 40), (30, 100, 190)} <= colours, "both ranges are drawn"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--compare", "minmax"], "two different observers"),
        (["--compare", "minmax,minmax"], "two different observers"),
        (["--compare", "minmax,percentil"], "did you mean 'percentile'"),
        (["--compare", "minmax,mse=3"], "only percentile has a value"),
        (["--compare", "minmax,percentile=0.99"], "from 50 to 100"),
        (["--compare", "minmax,mse", "--against", "unet"], "not both"),
        (["--tensor", "nowhere"], "No quantized tensor is called 'nowhere'"),
        (["--plot", "ranges.jpg"], "Plots are PNG files"),
        (["--data", "photos"], "provides RGB images"),
        (["--against", "no-such-artifact"], "no-such-artifact"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str], text: str, static: Artifact, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(static.path), *arguments]) == 2
    assert text in capfd.readouterr().err


def test_a_float_artifact_has_nothing_to_explain(tmp_path: Path) -> None:
    plain = bayer_artifact(tmp_path / "float", architecture="unet")
    with pytest.raises(UsageError, match="has no quantized tensors") as caught:
        explain_artifact(str(plain.path), reporter=SilentReporter())
    assert caught.value.hint == "Make one that does:  zoo apply ptq unet"


def test_a_damaged_model_is_an_error_for_the_user() -> None:
    with pytest.raises(ZooError, match="not an ONNX file"):
        quantized_tensors(b"\xff\xff\xff\xff")


def test_rules_are_written_as_they_are_read() -> None:
    first, second = parse_observer_rules("percentile=99.9, moving-average")
    assert (str(first), str(second)) == ("percentile=99.9", "moving-average")
    assert ObserverRule.parse("percentile=99.99") == ObserverRule.parse("percentile")
    assert SmallUNet.input.channels == SPEC.channels  # the pictures that calibrate fit both
