"""OpenVINO computes what ONNX Runtime computes, in float32 and in int8."""

import subprocess
import sys

import numpy as np
import openvino
import pytest

import onnx
from zoo import plugins
from zoo.artifacts import open_artifact
from zoo.artifacts.golden import check_golden, output_psnr
from zoo.contracts.input_parts import Packing
from zoo.errors import InputError
from zoo.onnx.uint8 import to_unsigned
from zoo.registry import shipped_folder
from zoo.testing import engine_checks, onnx_files
from zoo_openvino import OpenVinoEngine
from zoo_openvino.fake_quantize import fuse_pairs

TestOpenVino = engine_checks(OpenVinoEngine, package="openvino")

INPUTS = np.random.default_rng(0).random((1, 4, 64, 96), dtype=np.float32)


def outputs(engine: str, checkpoint: str) -> np.ndarray:
    model = (shipped_folder(checkpoint) / "model.onnx").read_bytes()
    return plugins.engine(engine).open(model, threads=1).run(INPUTS)


@pytest.mark.parametrize(
    ("checkpoint", "least"), [("lighter-unet", 60), ("lighter-unet-int8", 30), ("unet", 60)]
)
def test_it_agrees_with_onnx_runtime(checkpoint: str, least: float) -> None:
    assert output_psnr(outputs("openvino", checkpoint), outputs("onnxruntime", checkpoint)) > least


def read(data: bytes) -> openvino.Model:
    return openvino.Core().read_model(data)


def quantizers(model: openvino.Model) -> int:
    return sum(node.get_type_name() == "FakeQuantize" for node in model.get_ops())


def test_each_activation_is_quantized_once() -> None:
    model = read((shipped_folder("lighter-unet-int8") / "model.onnx").read_bytes())
    before = quantizers(model)
    assert fuse_pairs(model)
    layers = sum("Convolution" in node.get_type_name() for node in model.get_ops())
    activations = sum(node.get_type_name() == "PRelu" for node in model.get_ops())
    assert quantizers(model) == layers + activations < before


def test_symmetric_int8_comes_as_near_to_the_stored_outputs_as_in_onnx_runtime() -> None:
    artifact = open_artifact(shipped_folder("lighter-unet-int8"))
    model = artifact.path / "model.onnx"
    found = {
        engine: check_golden(plugins.engine(engine).open(model, threads=1), artifact, engine)
        for engine in ("openvino", "onnxruntime")
    }
    assert found["openvino"] > found["onnxruntime"] - 0.5


def test_levels_moved_to_uint8_are_computed_as_the_signed_ones() -> None:
    data = to_unsigned((shipped_folder("lighter-unet-int8") / "model.onnx").read_bytes())
    assert fuse_pairs(read(data))
    signed = outputs("openvino", "lighter-unet-int8")
    assert np.array_equal(OpenVinoEngine().open(data, threads=1).run(INPUTS), signed)


def test_levels_mostly_on_one_side_of_zero_are_computed_as_in_onnx_runtime() -> None:
    model = onnx.load_from_string(
        to_unsigned((shipped_folder("lighter-unet-int8") / "model.onnx").read_bytes())
    )
    zero = next(tensor for tensor in model.graph.initializer if tensor.name == "zoo_zero_point")
    zero.raw_data = bytes([120])
    data = model.SerializeToString()
    assert fuse_pairs(read(data))
    expected = plugins.engine("onnxruntime").open(data, threads=1).run(INPUTS)
    assert output_psnr(OpenVinoEngine().open(data, threads=1).run(INPUTS), expected) > 30


def test_the_profile_of_a_pc_prefers_it() -> None:
    assert plugins.device("x86-cpu").engines[0] == "openvino"
    assert plugins.engine("openvino").available() is None


def test_several_inputs_and_outputs_are_taken_and_given_by_name() -> None:
    image, levels = INPUTS[:, :3], np.array([[3, -2]], np.float32)
    packed = Packing([(3, None, None), (2,)]).pack([image, levels])
    session = OpenVinoEngine().open(onnx_files.network_of_several())
    found = session.run_all(packed)
    assert list(found) == ["output", "map"]
    for name, wanted in onnx_files.expected_of_several(image, levels).items():
        assert output_psnr(found[name], wanted) > 60
    with pytest.raises(InputError, match=r"\(batch, 5, height, width\), not \(1, 3"):
        session.run(image)


def test_importing_it_loads_no_openvino() -> None:
    code = "import sys, zoo_openvino; sys.exit('openvino' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
