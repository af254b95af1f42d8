"""An ONNX file in place of an architecture: what is read of it, refused, and recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import onnx
import zoo
from onnx import TensorProto, helper, numpy_helper
from support import tiny
from support.onnx_models import plain_run, quantizing_model
from zoo import plugins
from zoo.architectures.onnx_reading import read_onnx_file
from zoo.artifacts.artifact import open_artifact
from zoo.checkpoints.foreign_files import artifact_of_file
from zoo.checkpoints.resolver import locate_artifact
from zoo.errors import InputError, IntegrityError, UnknownIdError, UsageError, ZooError
from zoo.recipes import recipe_toml
from zoo_cli.main import main


def classifier(height: int | str = 32) -> onnx.ModelProto:
    """(1, 3, height, 32) to (1, 7)."""
    rng = np.random.default_rng(0)
    weights = {
        "stem.weight": rng.normal(0, 0.3, (8, 3, 3, 3)),
        "deep.weight": rng.normal(0, 0.2, (16, 8, 3, 3)),
        "fc.weight": rng.normal(0, 1, (7, 16)),
        "fc.bias": rng.normal(0, 1, 7),
    }
    nodes = [
        helper.make_node("Conv", ["image", "stem.weight"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "deep.weight"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["scores"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, 32])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 7])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    onnx.save_model(classifier(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_a_file_is_compressed_and_the_artifact_does_what_it_does(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["apply", "ptq", str(file), "--images", "4", "--out", str(out), "--max-loss", "none"]) == 0
    artifact = open_artifact(out)
    assert artifact.manifest.architecture.startswith("onnx:net@")
    assert artifact.manifest.precision == "int8"
    assert artifact.metrics()["training"]["starting_weights"] == "its own"
    inputs = np.random.default_rng(1).random((1, 3, 32, 32), dtype=np.float32)
    before, after = (plain_run(each.read_bytes(), inputs) for each in (file, out / "model.onnx"))
    assert np.abs(after - before).max() < 0.1 * np.abs(before).max()
    again = recipe_toml.read(out / "recipe.toml").architecture
    assert again is not None
    assert plugins.architecture(again, own_files=True).id == artifact.manifest.architecture


def test_a_recipe_refuses_another_file_of_the_same_name(file: Path) -> None:
    named = plugins.architecture(str(file), own_files=True).named
    changed = classifier()
    changed.graph.initializer[3].CopyFrom(numpy_helper.from_array(np.zeros(7, np.float32), "fc.bias"))
    onnx.save_model(changed, file)
    with pytest.raises(InputError, match="not the file that the recipe was made with"):
        plugins.architecture(named, own_files=True)


def test_layers_are_called_as_their_weights_are(file: Path) -> None:
    names = dict(plugins.architecture(str(file), own_files=True).build().named_modules())
    assert {"stem", "deep", "fc"} <= set(names)


def test_open_sides_need_an_example(tmp_path: Path) -> None:
    path = tmp_path / "open.onnx"
    onnx.save_model(classifier("h"), path)
    with pytest.raises(UsageError, match="3xHx32, which leaves open"):
        plugins.architecture(str(path), own_files=True)
    with pytest.raises(UsageError, match="3xHx32, not 3x64x64"):
        plugins.architecture(f"{path}(input=rgb:3x64x64)", own_files=True)
    built = plugins.architecture(f"{path}(input=rgb:3x64x32)", own_files=True)
    assert built.input.example == (64, 32)


def test_a_file_that_a_download_names_is_not_read(file: Path) -> None:
    with pytest.raises(UnknownIdError, match="names an ONNX file on its author's machine"):
        plugins.architecture(str(file))


def test_int8_files_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    made = quantizing_model()
    made.graph.input[0].type.tensor_type.shape.CopyFrom(classifier().graph.input[0].type.tensor_type.shape)  # type: ignore[attr-defined]
    path.write_bytes(made.SerializeToString())  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="computes in integers already"):
        plugins.architecture(str(path), own_files=True)
    path.write_bytes(b"no model")
    with pytest.raises(IntegrityError):
        plugins.architecture(str(path), own_files=True)
    with pytest.raises(ZooError, match="does not exist"):
        plugins.architecture(str(tmp_path / "absent.onnx"), own_files=True)


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    path = tmp_path / "divided.onnx"
    onnx.save_model(classifier(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_weights_in_a_second_file_are_read(divided: Path, file: Path) -> None:
    inputs = np.random.default_rng(1).random((1, 3, 32, 32), dtype=np.float32)
    np.testing.assert_array_equal(
        plain_run(read_onnx_file(divided).data, inputs), plain_run(file.read_bytes(), inputs)
    )
    assert plugins.architecture(str(divided), own_files=True).id.startswith("onnx:divided@")


@pytest.mark.parametrize("place", ["../weights.bin", "/etc/passwd", "a/weights.bin", "..", ""])
def test_weights_elsewhere_are_not_read(divided: Path, place: str) -> None:
    (divided.parent.parent / "weights.bin").write_bytes(bytes(1 << 16))
    _change(divided, "location", place)
    with pytest.raises(IntegrityError, match="not a file in its own folder"):
        read_onnx_file(divided)


def test_a_link_is_not_followed_and_no_byte_beyond_the_end_is_read(divided: Path, tmp_path: Path) -> None:
    weights = divided.with_name("weights.bin")
    content = weights.read_bytes()
    weights.write_bytes(content[:-4])
    with pytest.raises(IntegrityError, match="beyond the end"):
        read_onnx_file(divided)
    weights.unlink()
    (tmp_path / "elsewhere").write_bytes(content)
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ZooError):
        read_onnx_file(divided)


def _change(path: Path, key: str, value: str) -> None:
    model = onnx.load_model(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == key:
                entry.value = value
    path.write_bytes(model.SerializeToString())


def test_the_sum_of_a_network_is_the_same_in_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 8 * 27 + 16 * 72 + 7 * 16 + 7


def test_a_u_net_accepts_what_its_file_does(tmp_path: Path) -> None:
    path = tmp_path / "unet.onnx"
    path.write_bytes(tiny.small_unet())
    built = plugins.architecture(f"{path}(input=packed-raw:4x32x32)", own_files=True)
    assert (built.input.multiple_of, built.output.kind, built.output.scale) == (2, "rgb", 2)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_file_is_measured_as_it_is(file: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(file), "--against", str(file), "--images", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["quality"]["top1_agreement"] == 1.0
    artifact = locate_artifact(str(file), files=True)
    assert artifact.path.is_relative_to(cache)
    assert artifact.manifest.output.kind == "logits"
    assert artifact.manifest.precision == "float32"
    assert locate_artifact(str(file), files=True).path == artifact.path
    with pytest.raises(ZooError):
        locate_artifact(str(file))  # such files are measured, not published or run
    with zoo.load(artifact) as net:
        assert net(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 7)


def test_a_file_that_computes_in_integers_is_explained_but_not_compressed(
    file: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rounded = tmp_path / "rounded.onnx"
    made = classifier()
    made.graph.node[0].input[0] = "values"
    scale, zero = (numpy_helper.from_array(v, n) for v, n in ((np.float32(1 / 255), "s"), (np.uint8(0), "z")))
    made.graph.initializer.extend([scale, zero])
    made.graph.node.insert(0, helper.make_node("QuantizeLinear", ["image", "s", "z"], ["levels"]))
    made.graph.node.insert(1, helper.make_node("DequantizeLinear", ["levels", "s", "z"], ["values"]))
    onnx.save_model(made, rounded)
    assert main(["explain", str(rounded), "--images", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tensors"]
    assert locate_artifact(str(rounded), files=True).manifest.precision == "int8"
    assert main(["apply", "ptq", str(rounded), "--out", str(tmp_path / "out")]) == 5


def test_a_file_is_measured_with_the_normalisation_that_is_stated(file: Path, cache: Path) -> None:
    mean, std = np.array([0.1, 0.2, 0.3], np.float32), np.array([0.5, 0.6, 0.7], np.float32)
    made = classifier()
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1  # as PaddlePaddle writes an open side
    onnx.save_model(made, file)
    plain = locate_artifact(str(file), files=True)
    artifact = locate_artifact(f"{file}(mean=[0.1,0.2,0.3],std=[0.5,0.6,0.7])", files=True)
    image = np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)
    onnx.checker.check_model(onnx.load_model(artifact.path / "model.onnx"))
    with zoo.load(plain) as net, zoo.load(artifact) as normalising:
        wanted = net((image - mean[:, None, None]) / std[:, None, None])
        np.testing.assert_allclose(normalising(image), wanted, rtol=1e-4, atol=1e-4)


def test_commands_state_the_size_that_a_file_leaves_open(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "open.onnx"
    onnx.save_model(classifier("height"), path)
    assert main(["eval", str(path), "--against", str(path), "--images", "1"]) == 2
    stated = ["--input", "rgb:3x32x32", "--json"]
    assert main(["eval", str(path), "--against", str(path), "--images", "1", *stated]) == 0
    assert main(["bench", str(path), "--rounds", "3", *stated]) == 0
    capsys.readouterr()
    assert main(["explain", str(path), "--images", "1", *stated]) == 2
    assert "quantized" in capsys.readouterr().err  # it was read, but nothing is rounded in it
    assert main(["bench", str(tmp_path), *stated]) == 2
    assert "is not an ONNX file" in capsys.readouterr().err


def test_sizes_that_do_not_suit_a_branch_that_is_not_taken_are_refused(tmp_path: Path, cache: Path) -> None:
    value = helper.make_empty_tensor_value_info
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("MatMul", ["sound", f"w{units}"], [name])], name, [], [value(name)]
        )
        for name, units in (("then", 16), ("else", 8))
    }
    graph = helper.make_graph(
        [
            helper.make_node("Equal", ["rate", "sixteen"], ["q"]),
            helper.make_node("If", ["q"], ["y"], **branches),
        ],
        "by rate",
        [
            helper.make_tensor_value_info("sound", 1, ["n", "samples"]),
            helper.make_tensor_value_info("rate", 7, []),
        ],
        [helper.make_tensor_value_info("y", 1, ["n", 2])],
        [numpy_helper.from_array(np.int64(16), "sixteen")]
        + [numpy_helper.from_array(np.ones((units, 2), np.float32), f"w{units}") for units in (8, 16)],
    )
    path = tmp_path / "branches.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    name = f'{path}(input="sound=tensor:16,rate=integer:16..16")'
    with pytest.raises(InputError, match="must suit every branch of its If operators") as refused:
        artifact_of_file(name)
    assert "Keep the branch that is used" in str(refused.value.hint)


def test_files_with_several_outputs_are_measured_too(tmp_path: Path, cache: Path) -> None:
    made = classifier()
    made.graph.output.append(helper.make_tensor_value_info("d", TensorProto.FLOAT, [1, 16, 16, 16]))
    onnx.save_model(made, tmp_path / "two.onnx")
    artifact = locate_artifact(str(tmp_path / "two.onnx"), files=True)
    assert {name: spec.channels for name, spec in artifact.manifest.extra_outputs.items()} == {"d": 16}
    assert (
        main(["eval", str(tmp_path / "two.onnx"), "--against", str(tmp_path / "two.onnx"), "--images", "1"])
        == 0
    )
    assert main(["bench", str(tmp_path / "two.onnx"), "--rounds", "3"]) == 0


def two_outputs(path: Path, extra: str, channels: int = 4) -> str:
    """(N, 3, 8, 8) to (N, 3), and to (N, channels, 1, 1) called `extra`."""
    weights = np.random.default_rng(0).normal(0, 1, (channels, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
        helper.make_node("Conv", ["p", "w"], [extra]),
    ]
    made = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["n", 3, 8, 8]), ("y", ["n", 3]), (extra, ["n", channels, 1, 1]))
    ]
    graph = helper.make_graph(nodes, "g", made[:1], made[1:], [numpy_helper.from_array(weights, "w")])
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


def test_files_whose_outputs_another_tool_named_are_compared_in_order(tmp_path: Path) -> None:
    one, other = two_outputs(tmp_path / "a.onnx", "first"), two_outputs(tmp_path / "b.onnx", "Second/y:0")
    found = zoo.evaluate(one, "photos", images=2, against=other).quality
    assert {name: list(each.values()) for name, each in found.extras.items()} == {"first": [0, 100]}
    wider = two_outputs(tmp_path / "c.onnx", "first", channels=5)
    with pytest.raises(
        UsageError, match=r"first \(tensor 5\), and cannot be compared with .* first \(tensor 4\)"
    ):
        zoo.evaluate(one, "photos", images=2, against=wider)
