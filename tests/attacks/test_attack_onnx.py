"""ONNX files made to do harm are refused before an engine sees them; those of networks are not."""

from __future__ import annotations

import dataclasses
import inspect
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx
from onnx import TensorProto, helper, numpy_helper
from support import tiny
from zoo.artifacts import Artifact, open_artifact, write_artifact
from zoo.contracts import Engine, InputSpec, OutputSpec
from zoo.devices import host
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo.errors import IntegrityError
from zoo.onnx import protobuf
from zoo.onnx.check import check_onnx, load_checked_model
from zoo.onnx.operator_sets import NEWEST_OPSET, OLDEST_OPSET, operator_problem
from zoo.onnx.protobuf import encode_bytes, encode_number
from zoo.runner.loading import load

GIVES = OutputSpec("rgb", 3, 2)
CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
Change = Callable[[Any], None]


def model() -> Any:
    return onnx.load_from_string(tiny.small_unet())


def check(proto: Any, takes: InputSpec = tiny.BAYER, gives: OutputSpec = GIVES) -> None:
    check_onnx(proto.SerializeToString(), takes, gives)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny.bayer_artifact(tmp_path_factory.mktemp("good") / "a")


@pytest.fixture
def never_opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Engines that were asked to open a model."""
    opened: list[str] = []

    def open_(self: Engine, *_: object, **__: object) -> None:
        opened.append(self.id)

    monkeypatch.setattr(OnnxRuntimeEngine, "open", open_)
    return opened


# ------------------------------------------------------------------------------------------ what must pass


@pytest.mark.parametrize("folder", sorted(CHECKPOINTS.glob("*/")), ids=lambda folder: folder.name)
def test_every_shipped_checkpoint_passes(folder: Path) -> None:
    assert load_checked_model(open_artifact(folder))


def test_the_models_of_these_tests_pass() -> None:
    check(model())
    check_onnx(tiny.small_unet(9, 3), tiny.XTRANS, OutputSpec("rgb", 3, 3))
    check_onnx(tiny.small_classifier(), InputSpec("rgb", 3, example=(64, 64)), OutputSpec("logits", 10))
    check_onnx(tiny.small_unet())


@pytest.mark.parametrize(
    "kind",
    [TensorProto.INT4, TensorProto.UINT4, TensorProto.INT8, TensorProto.FLOAT16, TensorProto.BFLOAT16,
     TensorProto.FLOAT8E4M3FN, TensorProto.INT64, TensorProto.BOOL, TensorProto.DOUBLE],
)  # fmt: skip
@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
@pytest.mark.parametrize("raw", [True, False])
def test_tensors_of_every_type_pass_as_onnx_writes_them(kind: int, count: int, raw: bool) -> None:
    proto = model()
    made = helper.make_tensor("t", kind, [count], [1] * count)
    if raw:
        made = numpy_helper.from_array(numpy_helper.to_array(made), "t")
    proto.graph.initializer.append(made)
    check(proto)


def test_the_operators_are_those_of_standard_onnx() -> None:
    """All of them at every operator set that is read, but for those that are refused by name."""
    newest = min(NEWEST_OPSET, onnx.defs.onnx_opset_version())
    assert newest >= 21
    refused = set()
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain != "" or schema.since_version > newest:
            continue
        since = max(schema.since_version, OLDEST_OPSET)
        reason = operator_problem(schema.name, since)
        if reason:
            assert "no such operator" not in reason
            assert "came with" not in reason
            refused.add(schema.name)
    graphs = {"Loop", "Scan", "SequenceMap"}
    assert graphs <= refused
    assert "If" not in refused
    assert len(refused) <= 20
    assert operator_problem("FusedConv", newest) == "standard ONNX has no such operator"
    assert "came with operator set 20" in str(operator_problem("Gelu", 19))


def test_a_branch_passes_where_all_in_it_does() -> None:
    proto = model()
    branch = helper.make_graph(
        [helper.make_node("Identity", ["picture"], ["chosen"])], "b", [],
        [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)],
    )  # fmt: skip
    proto.graph.node.insert(
        len(proto.graph.node) - 1,
        helper.make_node("If", ["c"], ["p2"], then_branch=branch, else_branch=branch),
    )
    proto.graph.initializer.append(helper.make_tensor("c", TensorProto.BOOL, [], [True]))
    check(proto)
    branch.node[0].op_type = "Loop"
    proto.graph.node[-2].CopyFrom(
        helper.make_node("If", ["c"], ["p2"], then_branch=branch, else_branch=branch)
    )
    with pytest.raises(IntegrityError, match="Loop"):
        check(proto)


# ------------------------------------------------------------------------------------------- external data


def outside(tensor: Any, location: str, **more: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)


def in_attribute(proto: Any) -> None:
    tensor = TensorProto(name="t", data_type=1, dims=[4])
    outside(tensor, "../secret")
    proto.graph.node.append(helper.make_node("Constant", [], ["k"], value=tensor))


def in_branch(proto: Any) -> None:
    tensor = TensorProto(name="t", data_type=1, dims=[4])
    outside(tensor, "../secret")
    inner = helper.make_graph([], "b", [], [], [tensor])
    proto.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner))


def in_sparse(proto: Any) -> None:
    sparse = proto.graph.sparse_initializer.add(dims=[4])
    outside(sparse.values, "secret")


def in_function(proto: Any) -> None:
    tensor = TensorProto(name="t", data_type=1, dims=[4])
    outside(tensor, "secret")
    function = proto.functions.add(name="f", domain="")
    function.node.append(helper.make_node("Constant", [], ["k"], value=tensor))


def in_training(proto: Any) -> None:
    outside(proto.training_info.add().initialization.initializer.add(name="t", data_type=1), "secret")


def without_saying_so(proto: Any) -> None:
    proto.graph.initializer[0].external_data.add(key="location", value="secret")


def with_data_too(proto: Any) -> None:
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL


EXTERNAL: dict[str, Change] = {
    "symbolic link": lambda m: outside(m.graph.initializer[0], "symlink.bin"),
    "hard link": lambda m: outside(m.graph.initializer[0], "hardlink.bin"),
    "absolute": lambda m: outside(m.graph.initializer[0], "/etc/passwd"),
    "parent": lambda m: outside(m.graph.initializer[0], "../../etc/passwd"),
    "drive": lambda m: outside(m.graph.initializer[0], "C:\\secret"),
    "beside": lambda m: outside(m.graph.initializer[0], "secret"),
    "offset": lambda m: outside(m.graph.initializer[0], "secret", offset="18446744073709551615"),
    "negative offset": lambda m: outside(m.graph.initializer[0], "secret", offset="-4096"),
    "length": lambda m: outside(m.graph.initializer[0], "secret", length="9223372036854775807"),
    "memory": lambda m: outside(m.graph.initializer[0], "*/_ORT_MEM_ADDR_/*", offset="0", length="1152"),
    "attribute": in_attribute,
    "branch": in_branch,
    "sparse": in_sparse,
    "function": in_function,
    "training": in_training,
    "without saying so": without_saying_so,
    "with data too": with_data_too,
}


def forged(artifact: Artifact, target: Path, data: bytes) -> Artifact:
    """An artifact with another model and a manifest to match: what a publisher who means harm can make."""
    contents = {name: artifact.read(name) for name in artifact.manifest.files}
    return write_artifact(target, artifact.manifest, {**contents, "model.onnx": data})


@pytest.mark.parametrize("name", EXTERNAL)
def test_data_outside_the_file_is_refused_before_an_engine_opens_it(
    tmp_path: Path, good: Artifact, monkeypatch: pytest.MonkeyPatch, never_opened: list[str], name: str
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(5000))
    (tmp_path / "symlink.bin").symlink_to("secret")
    os.link(tmp_path / "secret", tmp_path / "hardlink.bin")
    proto = model()
    EXTERNAL[name](proto)
    artifact = forged(good, tmp_path / "evil", proto.SerializeToString())
    with pytest.raises(IntegrityError, match=r"external data|sparse|functions"):
        load(artifact, host())
    assert never_opened == []


@pytest.mark.parametrize("name", ["beside", "parent", "attribute"])
def test_weights_are_not_read_from_outside_the_file_either(
    tmp_path: Path, good: Artifact, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    weights = pytest.importorskip("zoo.training.weights")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(5000))
    proto = model()
    EXTERNAL[name](proto)
    artifact = forged(good, tmp_path / "evil", proto.SerializeToString())
    with pytest.raises(IntegrityError, match="external data"):
        weights.read_weights(artifact)


def test_whatever_opens_the_model_of_an_artifact_has_it_checked() -> None:
    """No part of zoo reads model.onnx past the check."""
    root = Path(inspect.getfile(check_onnx)).parents[1]
    for path in root.rglob("*.py"):
        if path.name != "onnx_check.py":
            text = path.read_text()
            assert 'read("model.onnx")' not in text, path
            assert "read(MODEL_NAME)" not in text, path


# ----------------------------------------------------------------------------------- operators, sets, domains


def operator(name: str) -> Change:
    return lambda proto: setattr(proto.graph.node[1], "op_type", name)


def domain(name: str) -> Change:
    return lambda proto: setattr(proto.graph.node[1], "domain", name)


def opset(version: int) -> Change:
    return lambda proto: setattr(proto.opset_import[0], "version", version)


def endless_function(proto: Any) -> None:
    function = proto.functions.add(name="LeakyRelu", domain="")
    function.node.append(helper.make_node("LeakyRelu", ["x"], ["y"]))


def graph_in_conv(proto: Any) -> None:
    attribute = proto.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
    attribute.g.CopyFrom(helper.make_graph([], "b", [], []))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (operator("Loop"), "can compute for ever"),
        (operator("Scan"), "can compute for ever"),
        (operator("SequenceMap"), "can compute for ever"),
        (operator("RandomUniformLike"), "differs each time"),
        (operator("ImageDecoder"), "not part of a network"),
        (operator("RegexFullMatch"), "not part of a network"),
        (operator("PyOp"), "no such operator"),
        (operator(""), "no such operator"),
        (operator("Conv\0"), "no such operator"),
        (operator("Gelu"), "came with operator set 20"),
        (domain("com.microsoft"), "com.microsoft"),
        (domain("ai.onnx.ml"), r"ai\.onnx\.ml"),
        (domain("ai.onnx.preview.training"), "preview"),
        (domain("evil\x1b[2J"), r"evil\\x1b"),
        (opset(0), "operator set 0"),
        (opset(10), "operator set 10"),
        (opset(NEWEST_OPSET + 1), "operator set"),
        (opset(-1), "operator set"),
        (lambda m: m.ClearField("opset_import"), "operator set 0"),
        (lambda m: m.opset_import.add(domain="", version=17), "two operator sets"),
        (lambda m: m.opset_import.add(domain="ai.onnx", version=13), "two operator sets"),
        (lambda m: m.opset_import.add(domain="ai.onnx.ml", version=3), r"ai\.onnx\.ml"),
        (lambda m: setattr(m, "ir_version", 99), "ONNX format 99"),
        (lambda m: setattr(m, "ir_version", 1), "ONNX format 1"),
        (endless_function, "functions"),
        (graph_in_conv, "a graph inside 'Conv'"),
    ],
)
def test_operators_that_no_network_needs_are_refused(change: Change, reason: str) -> None:
    proto = model()
    change(proto)
    with pytest.raises(IntegrityError, match=reason):
        check(proto)


def test_graphs_nested_without_end_are_refused_at_once() -> None:
    graph = b""
    for _ in range(3000):
        graph = encode_bytes(1, encode_bytes(4, b"If") + encode_bytes(5, encode_bytes(6, graph)))
    with pytest.raises(IntegrityError, match="too deeply"):
        check_onnx(encode_bytes(7, graph))


# --------------------------------------------------------------------------------------------------- tensors


def dims(*sides: int) -> Change:
    def change(proto: Any) -> None:
        del proto.graph.initializer[0].dims[:]
        proto.graph.initializer[0].dims.extend(sides)

    return change


def twice(proto: Any) -> None:
    proto.graph.initializer[0].float_data.extend([1.0] * 288)


def shorter(proto: Any) -> None:
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-1]


def typed(kind: int) -> Change:
    return lambda proto: setattr(proto.graph.initializer[0], "data_type", kind)


def in_pieces(proto: Any) -> None:
    proto.graph.initializer[0].segment.begin = 1 << 40


def of_text(proto: Any) -> None:
    proto.graph.initializer.append(helper.make_tensor("s", TensorProto.STRING, [1], [b"text"]))


def doubled(proto: Any) -> None:
    proto.graph.initializer.append(proto.graph.initializer[0])


def grows(name: str, place: int, numbers: list[int]) -> Change:
    def change(proto: Any) -> None:
        proto.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), "n"))
        inputs = [*["input", "", "", ""][:place], "n"]
        proto.graph.node.append(helper.make_node(name, inputs, ["grown"]))

    return change


def grows_by_constant(proto: Any) -> None:
    numbers = helper.make_tensor("n", TensorProto.INT64, [2], [1 << 40, 1 << 40])
    proto.graph.node.append(helper.make_node("Constant", [], ["k"], value=numbers))
    proto.graph.node.append(helper.make_node("ConstantOfShape", ["k"], ["grown"]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dims(1 << 62, 1 << 62), "elements"),
        (dims(1 << 31, 2), "elements"),
        (dims(-1), "negative side"),
        (dims(8, 4, 3, 4), "does not match its shape"),
        (dims(), "does not match its shape"),
        (twice, "does not match its shape"),
        (shorter, "does not match its shape"),
        (typed(0), "type 0"),
        (typed(8), "type 8"),
        (typed(14), "type 14"),
        (typed(99), "type 99"),
        (typed(TensorProto.DOUBLE), "does not match its shape"),
        (typed(TensorProto.INT4), "does not match its shape"),
        (in_pieces, "segmented"),
        (of_text, "text tensor"),
        (doubled, "share a name"),
        (grows("ConstantOfShape", 0, [1 << 20, 1 << 20]), "ConstantOfShape to more than"),
        (grows("Expand", 1, [1, 1 << 40, 1, 1]), "Expand to more than"),
        (grows("Tile", 1, [1, 1, 1 << 30, 1 << 30]), "Tile to more than"),
        (grows("Resize", 3, [1, 4, 1 << 30, 1 << 30]), "Resize to more than"),
        (grows("Pad", 1, [0, 0, -(1 << 20), 0, 0, 0, 1 << 20, 0]), "Pad to more than"),
        (grows_by_constant, "ConstantOfShape to more than"),
    ],
)
def test_tensors_that_are_not_what_they_claim_are_refused(change: Change, reason: str) -> None:
    proto = model()
    change(proto)
    with pytest.raises(IntegrityError, match=reason):
        check(proto)


def test_the_data_of_a_tensor_may_not_be_given_twice() -> None:
    """Protobuf readers take the last of two; ours must not look at another one than the engine's."""
    tensor = tiny.onnx.numpy_helper.from_array(np.zeros(4, np.float32), "t").SerializeToString()
    again = encode_bytes(9, bytes(16))
    with pytest.raises(IntegrityError, match="twice"):
        check_onnx(encode_bytes(7, encode_bytes(5, tensor + again)))


# ------------------------------------------------------------------------------------------ inputs and outputs


def second_input(proto: Any) -> None:
    proto.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def second_output(proto: Any) -> None:
    proto.graph.output.append(helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1]))


def input_of(kind: int, shape: list[Any] | None) -> Change:
    return lambda m: m.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", kind, shape))


def output_of(kind: int, shape: list[Any] | None) -> Change:
    return lambda m: m.graph.output[0].CopyFrom(helper.make_tensor_value_info("output", kind, shape))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (second_input, "2 inputs"),
        (second_output, "2 outputs"),
        (lambda m: m.graph.ClearField("input"), "0 inputs"),
        (lambda m: m.graph.ClearField("output"), "0 outputs"),
        (input_of(TensorProto.FLOAT, ["N", 3, "H", "W"]), r"input .* is \(\?, 3, \?, \?\)"),
        (input_of(TensorProto.FLOAT, ["N", 4, "H"]), "input of the model file"),
        (input_of(TensorProto.FLOAT, None), "input .* is any shape"),
        (input_of(TensorProto.UINT8, ["N", 4, "H", "W"]), "input .*type 2"),
        (output_of(TensorProto.FLOAT, ["N", 1, "H", "W"]), "output of the model file"),
        (output_of(TensorProto.FLOAT, ["N", 3]), "output of the model file"),
        (output_of(TensorProto.STRING, ["N", 3, "H", "W"]), "output .*type 8"),
    ],
)
def test_a_model_that_is_not_what_the_manifest_states_is_refused(change: Change, reason: str) -> None:
    proto = model()
    change(proto)
    with pytest.raises(IntegrityError, match=reason):
        check(proto)


def test_a_model_of_one_size_must_be_of_the_size_that_the_manifest_states() -> None:
    fixed = dataclasses.replace(tiny.BAYER, fixed_size=True)
    proto = model()
    input_of(TensorProto.FLOAT, [1, 4, 32, 32])(proto)
    check(proto, fixed)
    input_of(TensorProto.FLOAT, [1, 4, 32, 4096])(proto)
    with pytest.raises(IntegrityError, match="input of the model file"):
        check(proto, fixed)


# ------------------------------------------------------------------------------------------------------ bombs


@pytest.mark.parametrize(
    "data",
    [
        encode_bytes(7, encode_bytes(1, b"") * 1_000_000),
        encode_bytes(7, encode_bytes(5, b"") * 1_000_000),
        encode_bytes(7, encode_bytes(5, encode_bytes(1, b"\x01" * 5_000_000))),
        encode_bytes(7, encode_bytes(1, encode_bytes(1, b"") * 1_000_000)),
        encode_number(1, 8) * 2_000_000,
    ],
    ids=["nodes", "tensors", "sides", "inputs", "versions"],
)
def test_a_file_of_a_million_parts_is_refused_in_little_time(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(IntegrityError):
        check_onnx(data)
    assert time.process_time() - started < 10  # half a second on a quiet machine


def test_a_file_of_more_than_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    artifact = tiny.bayer_artifact(tmp_path / "a")
    entry = dataclasses.replace(artifact.manifest.files["model.onnx"], size=2**31)
    manifest = dataclasses.replace(artifact.manifest, files={**artifact.manifest.files, "model.onnx": entry})
    os.truncate(artifact.path / "model.onnx", 2**31)  # sparse: it takes no space
    with pytest.raises(IntegrityError, match="the limit is"):
        load_checked_model(dataclasses.replace(artifact, manifest=manifest))


def test_the_bound_on_fields_is_far_above_what_networks_have() -> None:
    counts = [len(open_artifact(folder).read("model.onnx")) for folder in CHECKPOINTS.glob("*/")]
    assert all(counts)
    assert protobuf._MAX_FIELDS >= 100_000
