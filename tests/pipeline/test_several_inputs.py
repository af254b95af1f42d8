"""Networks with several inputs: stated in a file or shown by an example, compressed, exported and run by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

import zoo
from onnx import TensorProto, helper, numpy_helper
from zoo import plugins
from zoo.checkpoints.foreign_files import artifact_of_file
from zoo.data.choose import open_dataset
from zoo.errors import InputError
from zoo.modules.several_inputs import SeveralInputs, with_one_input, with_own_inputs
from zoo.runner.api import run

FILE = """
import torch
from torch import nn

INPUTS = {"left": "rgb:3x16x16", "right": "rgb:3x16x16", "count": "integer:1..8"}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.Linear(8, 4)

    def forward(self, right, left, count):
        features = self.conv(torch.cat([left, right], 1)).relu().mean((2, 3))
        return self.head(features) / count[:, None]
"""


class Clip(nn.Module):
    """A classifier of frames (N, T, 3, H, W), of which the first few count."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.wide = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 128, 3)
        self.head = nn.Linear(128, 3)

    def forward(self, frames: Tensor, length: Tensor) -> Tensor:
        assert length.dtype == torch.int64
        batch, times = frames.shape[:2]
        found = (
            self.wide(self.conv(frames.flatten(0, 1)).relu()).relu().mean((2, 3)).unflatten(0, (batch, times))
        )
        counted = (torch.arange(times)[None] < length[:, None]).to(found)
        return self.head((found * counted[:, :, None]).sum(1) / length[:, None])


def clips(count: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {
        "frames": torch.rand(count, 4, 3, 16, 16, generator=draw),
        "length": torch.randint(1, 5, (count,), generator=draw),
        "label": torch.arange(count) % 3,
    }


def test_a_clip_with_its_length_is_quantized_and_run_by_name(tmp_path: Path) -> None:
    net, batch = Clip().eval(), clips(8)
    example = {"frames": batch["frames"][:2], "length": batch["length"][:2]}
    before = {key: value.clone() for key, value in net.state_dict().items()}
    result = zoo.apply(net, "ptq", data=[batch], example=example, max_loss=None, out=tmp_path / "clip")
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert result.metrics["top1"]["after"] is not None

    session = onnxruntime.InferenceSession(tmp_path / "clip" / "model.onnx")
    assert [each.name for each in session.get_inputs()] == ["frames", "length"]
    golden = load_file(tmp_path / "clip" / "golden.safetensors")
    assert golden["input.0.frames"].shape == (1, 4, 3, 16, 16)
    expected = session.run(None, {name: golden[f"input.0.{name}"] for name in ("frames", "length")})[0]
    assert np.allclose(expected, golden["output.0"], atol=1e-5)

    frames, length = (each.numpy() for each in example.values())
    with zoo.load(tmp_path / "clip") as runner:
        found = runner(length=length, frames=frames)
        assert np.array_equal(found, runner(frames, length))
        with pytest.raises(InputError, match="1 input for a network with 2"):
            runner(frames)
    assert result.model is not None
    assert np.allclose(found, result.model(*example.values()).detach().numpy(), atol=1e-5)
    with torch.no_grad():
        assert np.abs(found - net(*example.values()).numpy()).max() < 0.05

    np.savez(tmp_path / "in.npz", frames=frames, length=length)
    np.savez(tmp_path / "lone.npz", frames=frames[0])
    ran, refused = run(tmp_path / "clip", [tmp_path / "in.npz", tmp_path / "lone.npz"])
    assert ran.findings is not None
    assert {row["sample"] for row in ran.findings} == {0, 1}
    assert "expects 'frames', 'length'" in str(refused.error)
    (named,) = run(tmp_path / "clip", tmp_path / "lone.npz", inputs={"length": str(length[0])})
    assert named.findings is not None
    assert named.findings[0]["logit"] == pytest.approx(float(found[0].max()), abs=1e-4)


def test_a_file_states_its_inputs_and_arrays_are_found_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FILE)
    architecture = plugins.architecture(f"{tmp_path}/net.py:Net", own_files=True)
    assert [part.name for part in architecture.input.parts] == ["left", "right", "count"]
    assert (architecture.output.kind, architecture.output.channels) == ("logits", 4)
    draw = np.random.default_rng(0)
    arrays = {
        "right": draw.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8),
        "left": draw.random((20, 3, 16, 16), dtype=np.float32),
        "count": np.arange(20) % 8 + 1,
    }
    np.savez(tmp_path / "data.npz", **arrays, labels=np.arange(20) % 4)
    _, data = open_dataset(f"tensors(file={tmp_path}/data.npz)")
    data.check(architecture)
    sample = next(data.frames(architecture, "test"))
    number = int(sample.name.partition("/")[2])
    left, right, count = architecture.input.packing.unpack(sample.inputs[None])
    assert np.array_equal(left[0], arrays["left"][number])
    assert np.allclose(right[0], arrays["right"][number].transpose(2, 0, 1) / 255)
    assert count[0] == arrays["count"][number]
    del arrays["count"]
    np.savez(tmp_path / "data.npz", **arrays)
    _, lacking = open_dataset(f"tensors(file={tmp_path}/data.npz)")
    with pytest.raises(InputError, match="'count'"):
        lacking.check(architecture)


def test_a_network_keeps_its_names_and_inputs_are_passed_by_name(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FILE)
    architecture = plugins.architecture(f"{tmp_path}/net.py:Net", own_files=True)
    net = architecture.build().eval()
    inputs = (torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16), torch.tensor([2.0, 5.0]))
    expected = net(left=inputs[0], right=inputs[1], count=inputs[2])
    keys = list(net.state_dict())
    one = with_one_input(net, architecture.input.parts)
    assert list(one.state_dict()) == keys
    packed = architecture.input.pack(inputs)
    assert torch.allclose(one(torch.from_numpy(packed)), expected)
    assert torch.allclose(SeveralInputs(one, architecture.input.parts)(*inputs), expected)
    assert torch.allclose(with_own_inputs(one)(left=inputs[0], right=inputs[1], count=inputs[2]), expected)


def test_an_onnx_file_with_several_inputs_is_converted_and_measured(tmp_path: Path) -> None:
    values = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8]),
        helper.make_tensor_value_info("word", TensorProto.INT64, ["n", 4]),
    ]
    draw = np.random.default_rng(0)
    weights = {
        "table": draw.random((5, 6), dtype=np.float32),
        "kernel": draw.random((6, 3, 3, 3), dtype=np.float32) - np.float32(0.5),
    }
    nodes = [
        helper.make_node("Gather", ["table", "word"], ["words"]),
        helper.make_node("ReduceMean", ["words"], ["meaning"], axes=[1], keepdims=0),
        helper.make_node("Conv", ["image", "kernel"], ["features"]),
        helper.make_node("Relu", ["features"], ["positive"]),
        helper.make_node("ReduceMean", ["positive"], ["seen"], axes=[2, 3], keepdims=0),
        helper.make_node("Add", ["seen", "meaning"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes, "two", values, [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 6])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "two.onnx"
    path.write_bytes(model.SerializeToString())
    architecture = plugins.architecture(str(path), own_files=True)
    kinds = [(part.name, part.kind, part.shape) for part in architecture.input.parts]
    assert kinds == [("image", "rgb", (3, 8, 8)), ("word", "integer", (4,))]
    image, word = draw.random((2, 3, 8, 8), dtype=np.float32), np.array([[0, 1, 2, 3], [4, 4, 0, 1]])
    packed = torch.from_numpy(architecture.input.pack([image, word]))
    expected = onnxruntime.InferenceSession(path).run(None, {"image": image, "word": word})[0]
    net = with_one_input(architecture.build().eval(), architecture.input.parts)
    assert np.allclose(net(packed).detach().numpy(), expected, atol=1e-5)
    with zoo.load(artifact_of_file(str(path)), engine="onnxruntime") as runner:
        assert np.allclose(runner(image=image, word=word), expected, atol=1e-5)
