"""The ONNX Runtime engine: what it refuses, and that shifting activations changes no bit."""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from support import tiny
from support.onnx_models import plain_run, quantizing_model
from support.quantized import (
    SmallUNet,
    pictures,
    quantized,
    small_float_file,
    small_signed_file,
    small_unet_file,
)
from zoo import plugins
from zoo.contracts import DeviceProfile, Session
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo.errors import InputError, IntegrityError, ZooError
from zoo.export.exporter import export_onnx
from zoo.export.int8_coverage import int8_report
from zoo.machine.processors import usable_processors
from zoo.onnx import protobuf
from zoo.onnx.graph import read_model
from zoo.onnx.protobuf import Reader, encode_bytes, encode_number, encode_varint
from zoo.onnx.uint8 import prepare_for_onnxruntime, to_unsigned
from zoo.quantization.prepare import freeze
from zoo.registry import shipped_folder

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


# ----------------------------------------------------------------------------------------- shifting to uint8


def test_shifting_activations_changes_no_bit_of_the_output() -> None:
    data = small_signed_file()
    shifted = to_unsigned(data)
    assert shifted != data
    for seed in range(3):
        x = pictures(2, seed=seed).numpy()
        assert np.array_equal(plain_run(shifted, x), plain_run(data, x))


def test_only_the_zero_point_of_activations_changes() -> None:
    old = onnx.load_from_string(small_signed_file())
    new = onnx.load_from_string(to_unsigned(small_signed_file()))
    onnx.checker.check_model(new, full_check=True)
    assert list(new.graph.node) == list(old.graph.node)
    before = {t.name: onnx.numpy_helper.to_array(t) for t in old.graph.initializer}
    after = {t.name: onnx.numpy_helper.to_array(t) for t in new.graph.initializer}
    changed = [
        n for n in before if before[n].dtype != after[n].dtype or not np.array_equal(before[n], after[n])
    ]
    assert changed == ["zoo_zero_point_int8"]
    assert (after[changed[0]].dtype, int(after[changed[0]])) == (np.uint8, 128)


def test_what_zoo_writes_is_unsigned_already() -> None:
    assert to_unsigned(small_unet_file()) is small_unet_file()


@pytest.mark.parametrize("zero", [np.int8(0), np.int8(-3), np.array([7], np.int8)])
def test_any_scalar_zero_point_shifts_and_recorded_types_do_not_contradict_it(zero: np.ndarray) -> None:
    model = quantizing_model(zero=zero)
    if zero.ndim == 0:
        model.graph.value_info.append(
            onnx.helper.make_tensor_value_info("levels", onnx.TensorProto.INT8, ["n", 4])
        )
    data = model.SerializeToString()
    shifted = to_unsigned(data)
    if zero.ndim:  # one scale for every row, but a vector to ONNX: as good as a scalar
        assert onnx.load_from_string(shifted).graph.initializer[1].dims == [1]
        return
    x = np.linspace(-9, 9, 12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(plain_run(shifted, x), plain_run(data, x))
    assert onnx.numpy_helper.to_array(onnx.load_from_string(shifted).graph.initializer[1]) == int(zero) + 128


def test_a_zero_point_kept_as_a_list_of_numbers_shifts_too() -> None:
    model = quantizing_model()
    del model.graph.initializer[1]
    model.graph.initializer.append(onnx.helper.make_tensor("zero", onnx.TensorProto.INT8, [], [-5]))
    assert not model.graph.initializer[-1].raw_data
    shifted = onnx.load_from_string(to_unsigned(model.SerializeToString()))
    assert onnx.numpy_helper.to_array(shifted.graph.initializer[-1]) == 123


def other_consumer(graph: object) -> None:
    graph.node.append(onnx.helper.make_node("MaxPool", ["levels"], ["pooled"], kernel_shape=[1]))


def weight_shares_it(graph: object) -> None:
    graph.node[2].input.append("zero")


def given_as_output(graph: object) -> None:
    graph.output.append(onnx.helper.make_tensor_value_info("levels", onnx.TensorProto.INT8, ["n", 4]))


def without_zero_point(graph: object) -> None:
    del graph.node[1].input[2]


def declared_type(graph: object) -> None:
    graph.node[0].attribute.append(onnx.helper.make_attribute("output_dtype", onnx.TensorProto.INT8))


def one_per_channel(graph: object) -> None:
    graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.zeros(4, np.int8), "zero"))


def inside_a_branch(graph: object) -> None:
    inner = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["levels"], ["x"])], "b", [], [])
    graph.node.append(onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner))


@pytest.mark.parametrize(
    "change",
    [
        other_consumer,
        weight_shares_it,
        given_as_output,
        without_zero_point,
        declared_type,
        one_per_channel,
        inside_a_branch,
    ],
)
def test_a_file_whose_int8_values_go_elsewhere_is_left_as_it_is(change: object) -> None:
    model = quantizing_model()
    assert to_unsigned(model.SerializeToString()) != model.SerializeToString()
    change(model.graph)
    assert to_unsigned(model.SerializeToString()) == model.SerializeToString()


def test_a_float_file_is_left_as_it_is() -> None:
    assert to_unsigned(small_float_file()) is small_float_file()


# --------------------------------------------------------------------------------------- rewriting the graph


def operators(data: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(data).graph.node]


@functools.cache
def mixed_file() -> bytes:
    """A network with ReLUs and with pixel shuffles of both orders inside, between int8 layers.

    One ReLU stands alone: something else uses its input with the sign.
    """

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.mix(x.relu()) + x

    net = nn.Sequential(
        nn.Conv2d(4, 36, 3, padding=1), nn.PixelShuffle(3), nn.Conv2d(4, 8, 1), nn.ReLU(),
        nn.PixelShuffle(2), nn.Conv2d(2, 4, 3, padding=1), nn.ReLU6(), nn.Conv2d(4, 4, 1), Both(),
        nn.Conv2d(4, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 12, 1), nn.PixelShuffle(2),
    )  # fmt: skip
    module, _ = quantized(net, pictures(2))
    return export_onnx(freeze(module.eval()), SmallUNet())


@pytest.mark.parametrize("data", [small_unet_file, mixed_file])
@pytest.mark.parametrize("unsigned", [False, True])
def test_what_the_engine_loads_gives_the_files_own_bits(data: object, unsigned: bool) -> None:
    rewritten = prepare_for_onnxruntime(data(), unsigned=unsigned)
    onnx.checker.check_model(onnx.load_from_string(rewritten), full_check=True)
    for shape in ((1, 4, 32, 32), (3, 4, 16, 48)):
        x = np.random.default_rng(0).random(shape, np.float32)
        assert np.array_equal(plain_run(rewritten, x), plain_run(data(), x))


def test_rectifiers_and_shuffles_between_integers_run_in_int8() -> None:
    before, after = operators(mixed_file()), operators(prepare_for_onnxruntime(mixed_file(), unsigned=True))
    assert (before.count("Relu"), before.count("DepthToSpace"), before.count("Transpose")) == (3, 3, 0)
    assert (after.count("Relu"), after.count("LeakyRelu"), after.count("DepthToSpace")) == (2, 1, 0)
    assert after.count("Transpose") == 3 * 2 + 2
    report = int8_report(mixed_file())
    assert report.float == ("11",)
    assert len(report.int8) == 6
    assert report.operators["QLinearLeakyRelu"] == 1
    assert "Relu" not in report.operators  # the other two are part of their convolutions
    # One at the input, one in each shuffle between integers, one before and two in the shuffle at the end.
    assert report.operators["Transpose"] == 6


def test_a_relu_or_a_shuffle_in_float_stays_in_float() -> None:
    model = quantizing_model()
    model.graph.node[3].output[0] = "product"
    model.graph.node.append(onnx.helper.make_node("Relu", ["product"], ["output"]))
    assert operators(prepare_for_onnxruntime(model.SerializeToString(), unsigned=True)).count("Relu") == 1
    net = nn.Sequential(nn.Conv2d(4, 12, 1), nn.PixelShuffle(2), nn.ReLU())
    data = export_onnx(net, SmallUNet())
    assert prepare_for_onnxruntime(data, unsigned=True) is data


def bounded_model(*, scale_after: str = "scale", channels: int = 5, zero: object = np.int8(-3)) -> object:
    """input -> Q -> DQ -> Max for each channel -> Q -> DQ -> Clip -> Q -> DQ -> output, (n, channels, h, w)."""
    helper, numpy = onnx.helper, onnx.numpy_helper
    nodes = [helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["a"])]
    for number, (operator, bounds, scale) in enumerate(
        [("Max", ["shift"], "scale"), ("Clip", ["", "high"], scale_after)]
    ):
        before, after = "abc"[number : number + 2]
        nodes += [
            helper.make_node("DequantizeLinear", [before, "scale", "zero"], [f"{before}_float"]),
            helper.make_node(operator, [f"{before}_float", *bounds], [f"{before}_bounded"], operator),
            helper.make_node("QuantizeLinear", [f"{before}_bounded", scale, "zero"], [after]),
        ]
    nodes.append(helper.make_node("DequantizeLinear", ["c", scale_after, "zero"], ["output"]))
    shift = np.linspace(-9, 9, channels, dtype=np.float32).reshape(channels, 1, 1)
    tensors = [
        numpy.from_array(np.float32(0.05), "scale"), numpy.from_array(np.float32(0.04), "other"),
        numpy.from_array(zero, "zero"), numpy.from_array(shift, "shift"),
        numpy.from_array(np.float32(3.16), "high"),
    ]  # fmt: skip
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", channels, "h", "w"])
        for name in ("input", "output")
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("zero", [np.int8(-3), np.uint8(0), np.uint8(128)])
def test_bounds_between_integers_are_integers_and_change_no_bit(zero: object, unsigned: bool) -> None:
    data = bounded_model(zero=zero).SerializeToString()  # type: ignore[attr-defined]
    rewritten = prepare_for_onnxruntime(data, unsigned=unsigned)
    assert operators(rewritten) == [
        "QuantizeLinear",
        "DequantizeLinear",
        "Max",
        "DequantizeLinear",
        "Clip",
        "DequantizeLinear",
    ]
    onnx.checker.check_model(onnx.load_from_string(rewritten), full_check=True)
    x = np.random.default_rng(0).normal(0, 4, (2, 5, 6, 7)).astype(np.float32)
    assert np.array_equal(plain_run(rewritten, x), plain_run(data, x))


def other_scale(model: object) -> object:
    return bounded_model(scale_after="other")


def unknown_bound(model: object) -> object:
    model.graph.node.insert(0, onnx.helper.make_node("Identity", ["high"], ["found"]))
    next(node for node in model.graph.node if node.op_type == "Clip").input[2] = "found"
    return model


def second_user(model: object) -> object:
    model.graph.node.append(onnx.helper.make_node("Relu", ["b_bounded"], ["relu"]))
    return model


@pytest.mark.parametrize("change", [other_scale, unknown_bound, second_user])
def test_bounds_that_integers_cannot_stand_for_stay_in_float(change: object) -> None:
    data = change(bounded_model()).SerializeToString()
    found = onnx.load_from_string(prepare_for_onnxruntime(data, unsigned=True)).graph.node
    assert "b_float" in next(node for node in found if node.op_type == "Clip").input
    assert "a" in next(node for node in found if node.op_type == "Max").input


# --------------------------------------------------------------------------------------------- hostile files


def external(model: object) -> None:
    tensor = model.graph.initializer[2]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def external_attribute(model: object) -> None:
    tensor = onnx.TensorProto(name="t", data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["k"], value=tensor))


def foreign_operator(model: object) -> None:
    model.graph.node[3].domain = "com.example"


def foreign_opset(model: object) -> None:
    model.opset_import.add(domain="com.microsoft", version=1)


def with_a_function(model: object) -> None:
    model.functions.add(name="f", domain="")


def foreign_in_a_branch(model: object) -> None:
    inner = onnx.helper.make_graph([onnx.helper.make_node("X", [], ["x"], domain="evil")], "b", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (external, "external data"),
        (external_attribute, "external data"),
        (foreign_operator, "com.example"),
        (foreign_opset, "com.microsoft"),
        (with_a_function, "functions"),
        (foreign_in_a_branch, "evil"),
    ],
)
def test_files_that_reach_outside_themselves_are_refused(change: object, reason: str) -> None:
    model = quantizing_model()
    read_model(model.SerializeToString())
    change(model)
    for reader in (read_model, to_unsigned, OnnxRuntimeEngine().open):
        with pytest.raises(IntegrityError, match=reason):
            reader(model.SerializeToString())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"not a model",
        encode_number(1, 10),
        encode_bytes(7, b"") * 2,
        encode_bytes(7, b"\x0b\x0c"),  # groups
        encode_varint(7 << 3 | 2) + encode_varint(2**40),
        b"\xff" * 11,
        encode_bytes(7, encode_bytes(1, encode_bytes(4, b"\xff\xfe"))),
        encode_bytes(7, encode_bytes(5, encode_number(8, 3))),
    ],
)
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        to_unsigned(data)


def test_nesting_and_numbers_of_fields_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = b""
    for _ in range(50):
        graph = encode_bytes(1, encode_bytes(5, encode_bytes(6, graph)))
    with pytest.raises(IntegrityError, match="too deeply"):
        read_model(encode_bytes(7, graph))
    monkeypatch.setattr(protobuf, "_MAX_FIELDS", 1000)
    with pytest.raises(IntegrityError, match="more fields"):
        read_model(encode_number(1, 1) * 1001)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_escape_as_anything_but_an_integrity_error(data: bytes) -> None:
    try:
        to_unsigned(data)
    except IntegrityError:
        return


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_mutation_of_a_model_escapes_as_anything_but_an_integrity_error(data: st.DataObject) -> None:
    content = bytearray(quantizing_model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        prepare_for_onnxruntime(bytes(content[: data.draw(st.integers(0, len(content)))]), unsigned=True)
    except IntegrityError:
        return


@given(st.integers(0, 2**64 - 1))
def test_numbers_survive_encoding(value: int) -> None:
    data = encode_number(3, value)
    (field,) = Reader(data).fields(0, len(data))
    assert (field.key, field.number) == (3, value)


# ---------------------------------------------------------------------------------------------------- engine


def test_sessions_run_batches_of_any_size_from_bytes_and_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(small_unet_file())
    engine = OnnxRuntimeEngine()
    assert engine.available() is None
    assert engine.version() == runtime.__version__
    x = pictures(2).numpy()
    session = engine.open(path, threads=1)
    assert isinstance(session, Session)
    output = session.run(x)
    assert (output.dtype, output.shape) == (np.float32, (2, 3, 64, 64))
    assert np.array_equal(engine.open(small_unet_file()).run(x), output)
    assert np.array_equal(session.run(x[:, :, ::-1].astype(np.float64)[:, :, ::-1]), output)


def test_inputs_that_do_not_fit_are_refused() -> None:
    session = OnnxRuntimeEngine().open(small_unet_file(), threads=1)
    for shape in ((1, 3, 32, 32), (4, 32, 32)):
        with pytest.raises(InputError, match=r"expects inputs of \(batch, 4, height, width\)"):
            session.run(np.zeros(shape, np.float32))
    with pytest.raises(ZooError, match="failed on an input") as caught:
        session.run(np.zeros((1, 4, 30, 30), np.float32))
    assert "/onnxruntime_src" not in str(caught.value)


def test_files_that_do_not_load_are_integrity_errors(tmp_path: Path) -> None:
    engine = OnnxRuntimeEngine()
    with pytest.raises(InputError, match=r"none\.onnx"):
        engine.open(tmp_path / "none.onnx")
    model = quantizing_model()
    model.graph.node[3].op_type = "NoSuchOperator"
    with pytest.raises(IntegrityError, match="cannot load"):
        engine.open(model.SerializeToString())
    model = quantizing_model()
    model.graph.input.append(model.graph.input[0])
    model.graph.input[1].name = "second"
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    with pytest.raises(IntegrityError, match="2 inputs"):
        engine.open(model.SerializeToString())


def test_importing_the_engine_loads_neither_onnxruntime_nor_numpy() -> None:
    program = (
        "import sys, zoo.engines.onnxruntime as e; e.OnnxRuntimeEngine().available(), e.OnnxRuntimeEngine().version();"
        "print([m for m in ('onnxruntime', 'numpy', 'onnx', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_threads_arena_and_execution_mode_are_the_profiles() -> None:
    usable = usable_processors()
    plain = plugins.device("host")
    inputs = np.random.default_rng(0).random((1, 4, 32, 32), np.float32)

    def opened(profile: DeviceProfile | None, threads: int = 0) -> tuple[object, np.ndarray]:
        session = OnnxRuntimeEngine().open(tiny.small_unet(), threads=threads, profile=profile)
        return session._session.get_session_options(), session.run(inputs)

    default, expected = opened(None)
    assert default.intra_op_num_threads == usable
    assert default.enable_cpu_mem_arena
    frugal, output = opened(replace(plain, threads=1, arena=False))
    assert (frugal.intra_op_num_threads, frugal.enable_cpu_mem_arena) == (1, False)
    assert np.array_equal(output, expected)
    parallel, output = opened(replace(plain, execution="parallel", threads=1000), threads=1000)
    # never more than there are, in both pools together
    assert parallel.intra_op_num_threads * parallel.inter_op_num_threads <= usable
    assert (parallel.execution_mode == runtime.ExecutionMode.ORT_PARALLEL) == (usable > 1)
    assert np.array_equal(output, expected)


def test_the_processor_of_a_board_whose_gpu_has_no_int8_computes_int8() -> None:
    data = (shipped_folder("lighter-unet-int8") / "model.onnx").read_bytes()
    inputs = np.random.default_rng(0).random((1, 4, 32, 32), np.float32)
    engine = OnnxRuntimeEngine()
    there = engine.open(data, threads=1, profile=plugins.device("jetson-nano")).run(inputs)
    assert np.array_equal(there, engine.open(data, threads=1).run(inputs))


IMPORTS = """
import sys

class Watching:
    def find_spec(self, name, path=None, target=None):
        seen.append(name)

seen = []
sys.meta_path.insert(0, Watching())
from zoo.engines.ort_session import CPU, open_session
open_session(open(sys.argv[1], "rb").read(), [(CPU, {})], threads=1)
print(seen.index("numpy"), seen.index("onnxruntime"))
"""


def test_numpy_is_imported_before_the_runtime_which_imports_it_in_another_order(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(small_unet_file())
    command = [sys.executable, "-c", IMPORTS, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    first, second = map(int, done.stdout.split())
    assert first < second  # or it fails while another thread imports numpy
