"""A file that another tool wrote is read in zoo's form, and computes what it did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as runtime
import pytest
from onnxruntime import quantization

import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from support.onnx_models import plain_run
from zoo.architectures.onnx_input import file_input, with_stated_sizes
from zoo.architectures.onnx_reading import read_onnx_file
from zoo.errors import InputError, IntegrityError, UsageError
from zoo.onnx.check import check_onnx
from zoo.onnx.graph import read_model

NODE = helper.make_node
IMAGE = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)
Given = dict[str, np.ndarray]


def value(name: str, shape: Sequence[Any], kind: int = T.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def save(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    domains: Sequence[tuple[str, int]] = (("", 13),),
    functions: Sequence[Any] = (),
    **constants: Any,
) -> Path:
    tensors = [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), tensors)
    sets = [helper.make_opsetid(*each) for each in domains]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8, functions=list(functions)), path)
    return path


def weights(*shape: int, kind: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(kind)


def run(data: bytes, given: Given) -> list[np.ndarray]:
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    found: list[np.ndarray] = runtime.InferenceSession(data, options).run(None, given)
    return found


def pooled(source: str, target: str) -> list[Any]:
    return [NODE("GlobalAveragePool", [source], ["pool"]), NODE("Flatten", ["pool"], [target])]


def bytes_last(path: Path) -> None:
    cast = [NODE("Cast", ["image:0"], ["f"], to=1), NODE("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2])]
    ends = [value("image:0", [1, 8, 8, 3], T.UINT8)], [value("y", [1, 4])]
    save(path, [*cast, NODE("Conv", ["t", "w"], ["c"]), *pooled("c", "y")], *ends, w=weights(4, 3, 3, 3))


def halves(path: Path) -> None:
    ends = [value("x", [1, 3, 8, 8], T.FLOAT16)], [value("y", [1, 4], T.FLOAT16)]
    save(
        path,
        [NODE("Conv", ["x", "w"], ["c"]), *pooled("c", "y")],
        *ends,
        w=weights(4, 3, 3, 3, kind=np.float16),
    )


def old(path: Path) -> None:
    nodes = [NODE("Upsample", ["x", "s"], ["u"]), NODE("Conv", ["u", "w"], ["y"])]
    ends = [value("x", [1, 3, 8, 8])], [value("y", [1, 4, 14, 14])]
    scales = np.array([1, 1, 2, 2], np.float32)
    save(path, nodes, *ends, domains=[("", 9)], s=scales, w=weights(4, 3, 3, 3))


def function(path: Path) -> None:
    body = [NODE("Sigmoid", ["a"], ["s"]), NODE("Mul", ["a", "s"], ["b"])]
    swish = helper.make_function("mine", "Swish", ["a"], ["b"], body, [helper.make_opsetid("", 13)])
    nodes = [NODE("Swish", ["x"], ["c"], domain="mine"), *pooled("c", "y")]
    ends = [value("x", [1, 3, 8, 8])], [value("y", [1, 3])]
    save(path, nodes, *ends, domains=[("", 13), ("mine", 1)], functions=[swish])


def unused_domain(path: Path) -> None:
    ends = [value("x", [1, 3, 8, 8])], [value("y", [1, 3])]
    save(path, pooled("x", "y"), *ends, domains=[("", 13), ("ai.onnx.ml", 2)])


def labels(path: Path) -> None:
    nodes = [*pooled("x", "p"), NODE("ArgMax", ["p"], ["label"], axis=1, keepdims=0)]
    save(path, nodes, [value("x", ["n", 3, 8, 8])], [value("label", ["n"], T.INT64)])


def squeezed(path: Path) -> None:
    nodes = [NODE("GlobalAveragePool", ["x"], ["p"]), NODE("Squeeze", ["p"], ["y"])]
    save(path, nodes, [value("x", [1, 3, 8, 8])], [value("y", [3])])


SAME: list[tuple[Callable[[Path], None], Callable[[bytes], np.ndarray]]] = [
    (bytes_last, lambda data: run(data, {"image:0": (IMAGE * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)})[0]),
    (halves, lambda data: run(data, {"x": IMAGE.astype(np.float16)})[0]),
    (old, lambda data: run(data, {"x": IMAGE})[0]),
    (function, lambda data: run(data, {"x": IMAGE})[0]),
    (unused_domain, lambda data: run(data, {"x": IMAGE})[0]),
    (labels, lambda data: run(data, {"x": IMAGE})[0][:, None]),
    (squeezed, lambda data: run(data, {"x": IMAGE})[0][None]),
]  # fmt: skip


@pytest.mark.parametrize(("write", "expected"), SAME, ids=[write.__name__ for write, _ in SAME])
def test_a_file_in_another_form_computes_the_same_for_an_image(
    write: Callable[[Path], None], expected: Callable[[bytes], np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    write(path)
    data = read_onnx_file(path).data
    check_onnx(data)
    assert file_input(data, "", path).example == (8, 8)
    found = plain_run(data, IMAGE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(path.read_bytes()), rtol=1e-3, atol=1e-4)


def test_a_file_in_the_usual_form_stays_byte_for_byte(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", pooled("x", "y"), [value("x", [1, 3, 8, 8])], [value("y", [1, 3])])
    assert read_onnx_file(path).data == path.read_bytes()


def test_states_of_recurrent_layers_and_lone_numbers_get_the_batch_first(tmp_path: Path) -> None:
    nodes = [NODE("Mul", ["sound", "rate"], ["m"]), NODE("Add", ["m", "state"], ["State.1"]),
             NODE("ReduceMean", ["State.1"], ["Mean/y:0"], axes=[0], keepdims=0)]  # fmt: skip
    inputs = [value("sound", ["n", 4]), value("state", [2, "n", 4]), value("rate", [])]
    path = save(
        tmp_path / "net.onnx", nodes, inputs, [value("Mean/y:0", ["n", 4]), value("State.1", [2, "n", 4])]
    )
    data = read_onnx_file(path).data
    parts = {part.name: part.shape for part in file_input(data, "", path).parts}
    assert parts == {"sound": (4,), "state": (2, 4), "rate": ()}
    sound, state, rate = weights(1, 4), weights(2, 1, 4), np.float32(3)
    ours = run(data, {"sound": sound, "state": state.transpose(1, 0, 2), "rate": rate[None]})
    theirs = run(path.read_bytes(), {"sound": sound, "state": state, "rate": np.asarray(rate)})
    assert read_model(data).outputs == ["Mean/y:0", "state_1"]
    np.testing.assert_allclose(ours[0], theirs[0])
    np.testing.assert_allclose(ours[1], theirs[1].transpose(1, 0, 2))


def test_integer_operators_of_onnx_runtime_become_those_of_the_standard(tmp_path: Path) -> None:
    nodes = [NODE("Conv", ["x", "w"], ["c"]), NODE("Sigmoid", ["c"], ["s"]), NODE("Mul", ["c", "s"], ["m"]),
             NODE("Concat", ["m", "c"], ["a"], axis=1), *pooled("a", "f"),
             NODE("Gemm", ["f", "v", "b"], ["y"])]  # fmt: skip
    constants = {"w": weights(4, 3, 3, 3), "v": weights(8, 5), "b": weights(5)}
    plain = save(tmp_path / "a.onnx", nodes, [value("x", [1, 3, 8, 8])], [value("y", [1, 5])], **constants)

    class Reader(quantization.CalibrationDataReader):
        left = iter([{"x": IMAGE}])

        def get_next(self) -> Given | None:
            return next(self.left, None)

    path = tmp_path / "b.onnx"
    form = quantization.QuantFormat.QOperator
    quantization.quantize_static(plain, path, Reader(), quant_format=form, per_channel=True)
    assert any(node.domain for node in onnx.load(path).graph.node)
    data = read_onnx_file(path).data
    check_onnx(data)
    np.testing.assert_allclose(plain_run(data, IMAGE), run(path.read_bytes(), {"x": IMAGE})[0], atol=1e-6)


def test_a_batch_of_a_stated_size_becomes_one_of_any(tmp_path: Path) -> None:
    conv = [NODE("Conv", ["0", "w"], ["c"]), *pooled("c", "y")]
    path = save(
        tmp_path / "net.onnx", conv, [value("0", [4, 2, 8, 8])], [value("y", [4, 5])], w=weights(5, 2, 3, 3)
    )
    data = read_onnx_file(path).data
    (part,) = file_input(data, "", path).parts
    assert (part.name, part.kind, part.shape) == ("x_0", "tensor", (2, 8, 8))
    given = weights(4, 2, 8, 8)
    found = np.concatenate([run(data, {"x_0": each[None]})[0] for each in given])
    np.testing.assert_allclose(found, run(path.read_bytes(), {"0": given})[0], rtol=1e-4, atol=1e-5)


def test_sizes_left_open_are_stated_by_name(tmp_path: Path) -> None:
    nodes = [NODE("Concat", ["a", "b"], ["c"], axis=1), NODE("ReduceMean", ["c"], ["y"], axes=[1])]
    path = save(
        tmp_path / "net.onnx", nodes, [value("a", ["n", "k"]), value("b", ["n", -1])], [value("y", ["n", 1])]
    )
    data = read_onnx_file(path).data
    with pytest.raises(UsageError, match="leaves sizes open") as caught:
        file_input(data, "", path)
    assert "--input 'a=tensor:64,b=tensor:64'" in str(caught.value)
    spec = file_input(data, "a=tensor:3,b=tensor:2:-1..1", path)
    assert [part.shape for part in spec.parts] == [(3,), (2,)]
    assert [each.dims for each in read_model(with_stated_sizes(data, spec)).inputs] == [[None, 3], [None, 2]]
    for wrong in ("a=tensor:3x2,b=tensor:2", "a=integer:3,b=tensor:2", "z=tensor:3", "tensor:3"):
        with pytest.raises(UsageError):
            file_input(data, wrong, path)


def test_a_foreign_operator_is_named_and_an_old_one_without_successor(tmp_path: Path) -> None:
    ends = [value("x", [1, 3, 8, 8])], [value("y", [1, 3, 8, 8])]
    domains = [("", 13), ("com.microsoft", 1)]
    path = save(
        tmp_path / "a.onnx", [NODE("Gelu", ["x"], ["y"], domain="com.microsoft")], *ends, domains=domains
    )
    with pytest.raises(IntegrityError, match=r"operator 'Gelu' of 'com\.microsoft'"):
        check_onnx(read_onnx_file(path).data)
    path = save(
        tmp_path / "b.onnx", [NODE("Crop", ["x"], ["y"], border=[0, 0, 0, 0])], *ends, domains=[("", 8)]
    )
    with pytest.raises((InputError, IntegrityError), match="operator"):
        check_onnx(read_onnx_file(path).data)
