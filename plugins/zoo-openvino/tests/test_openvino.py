"""OpenVINO computes what ONNX Runtime computes, in float32 and in int8."""

import subprocess
import sys

import numpy as np
import pytest

from zoo import plugins
from zoo.artifacts.golden import psnr
from zoo.catalogue import shipped_folder
from zoo.errors import InputError, IntegrityError
from zoo_openvino import OpenVinoEngine

INPUTS = np.random.default_rng(0).random((1, 4, 64, 96), dtype=np.float32)


def outputs(engine: str, checkpoint: str) -> np.ndarray:
    model = (shipped_folder(checkpoint) / "model.onnx").read_bytes()
    return plugins.engine(engine).open(model, threads=1).run(INPUTS)


@pytest.mark.parametrize(
    ("checkpoint", "least"), [("lighter-unet", 60), ("lighter-unet-int8", 30), ("unet", 60)]
)
def test_it_agrees_with_onnx_runtime(checkpoint: str, least: float) -> None:
    assert psnr(outputs("openvino", checkpoint), outputs("onnxruntime", checkpoint)) > least


def test_the_profile_of_a_pc_prefers_it() -> None:
    assert plugins.device("x86-cpu").engines[0] == "openvino"
    assert plugins.engine("openvino").available() is None


def test_an_output_is_the_callers_to_keep() -> None:
    model = (shipped_folder("lighter-unet") / "model.onnx").read_bytes()
    session = OpenVinoEngine().open(model)
    first = session.run(INPUTS)
    kept = first.copy()
    session.run(INPUTS * 0.5)
    assert np.array_equal(first, kept)


def test_a_wrong_shape_is_refused_before_openvino_sees_it() -> None:
    model = (shipped_folder("lighter-unet") / "model.onnx").read_bytes()
    with pytest.raises(InputError, match="takes"):
        OpenVinoEngine().open(model).run(np.zeros((1, 3, 64, 64), np.float32))


@pytest.mark.parametrize("damage", [lambda data: data[:1000], lambda data: b"not ONNX at all"])
def test_a_damaged_file_is_an_integrity_error(damage) -> None:
    data = (shipped_folder("lighter-unet") / "model.onnx").read_bytes()
    with pytest.raises(IntegrityError):
        OpenVinoEngine().open(damage(data))


def test_importing_it_loads_no_openvino() -> None:
    code = "import sys, zoo_openvino; sys.exit('openvino' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
