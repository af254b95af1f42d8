"""A network with early exits is as sure as it must be, and takes no longer than it may."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import onnx
from onnx import TensorProto, helper, numpy_helper
from support import tiny
from zoo.artifacts import Artifact, write_artifact
from zoo.contracts import InputSpec, OutputSpec
from zoo.errors import IntegrityError, UsageError
from zoo.export.conditional_work import skip_unneeded_work
from zoo.onnx.early_exits import exit_entropies, with_exit_entropies
from zoo.runner import api
from zoo.runner.exit_limits import entropy_for
from zoo_cli.main import main
from zoo_cli.param_types import Milliseconds

#: Of each exit, and of the end: the answers are the brightness of the image times these.
ANSWERS = [[8.0, 0.0, 0.0], [0.0, 8.0, 0.0], [0.0, 0.0, 8.0]]
FILE = [0.1, 0.2]


def model(exits: int = 2, **changes: Any) -> bytes:
    """A network whose exits answer class 0 and 1, and whose end answers class 2, the surer the brighter."""
    nodes = [helper.make_node("ReduceMean", ["input", "axes"], ["mean"], "mean", keepdims=0)]
    nodes.append(helper.make_node("Unsqueeze", ["mean", "one"], ["bright"], "bright"))
    weights = [
        numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
        numpy_helper.from_array(np.array([1]), "one"),
    ]
    last = "output" if not exits else "answer_3"
    for number, answer in enumerate(ANSWERS, 1):
        weights.append(numpy_helper.from_array(np.array([answer], np.float32), f"weight_{number}"))
        result = last if number == 3 else f"answer_{number}"
        nodes.append(helper.make_node("MatMul", ["bright", f"weight_{number}"], [result], f"answer_{number}"))
    late = last
    for number in range(exits, 0, -1):
        at = f"decision_{number}"
        value = changes.get(at, np.array([FILE[number - 1]], np.float32))
        weights.append(numpy_helper.from_array(value, f"{at}.entropy"))
        result = "output" if number == 1 else f"{at}:"
        nodes += [
            helper.make_node("Softmax", [f"answer_{number}"], [f"{at}_p"], f"{at}_p", axis=1),
            helper.make_node("LogSoftmax", [f"answer_{number}"], [f"{at}_l"], f"{at}_l", axis=1),
            helper.make_node("Mul", [f"{at}_p", f"{at}_l"], [f"{at}_m"], f"{at}_m"),
            helper.make_node("ReduceSum", [f"{at}_m", "one"], [f"{at}_s"], f"{at}_s", keepdims=1),
            helper.make_node("Neg", [f"{at}_s"], [f"{at}_h"], f"{at}_h"),
            helper.make_node("Less", [f"{at}_h", f"{at}.entropy"], [f"{at}_sure"], f"{at}_sure"),
            helper.make_node("Where", [f"{at}_sure", f"answer_{number}", late], [result], at),
        ]
        late = result
    entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, "H", "W"])
    end = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "exits", [entry], [end], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    skip_unneeded_work(proto)
    return proto.SerializeToString()


def images(*brightness: float) -> np.ndarray:
    return np.broadcast_to(np.float32(brightness)[:, None, None, None], (len(brightness), 3, 8, 8)).copy()


def entropy(bright: float) -> float:
    shares = np.exp([8 * bright, 0, 0]) / np.exp([8 * bright, 0, 0]).sum()
    return float(-(shares * np.log(shares)).sum())


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    spec = InputSpec("rgb", 3, example=(8, 8))
    described = tiny.manifest(input=spec, output=OutputSpec("logits", 3), golden=None)
    return write_artifact(tmp_path / "exits", described, {"model.onnx": model()})


def leave_at(artifact: Artifact, *brightness: float, **limits: float) -> list[int]:
    """Where images leave, 2 being the end: the class that is answered."""
    with api.load(artifact, threads=1, **limits) as runner:
        found = [int(runner(image[None]).argmax()) for image in images(*brightness)]
        assert runner(images(*brightness)).argmax(axis=1).tolist() == found  # together as alone
    return found


def test_thresholds_are_found_in_branches_and_changed_there() -> None:
    data = model()
    assert any(node.op_type == "If" for node in onnx.load_from_string(data).graph.node)
    assert exit_entropies(data) == pytest.approx(FILE)
    changed = with_exit_entropies(data, [0.5, 0.25])
    assert exit_entropies(changed) == [0.5, 0.25]
    onnx.checker.check_model(changed, full_check=True)
    assert exit_entropies(model(exits=0)) == []


@pytest.mark.parametrize("value", [np.array([1, 2, 3], np.float32), np.array([[1.0, 2.0]], np.float32)])
def test_a_threshold_that_is_not_one_number_is_refused(value: np.ndarray) -> None:
    with pytest.raises(IntegrityError, match="is not one number"):
        exit_entropies(model(decision_2=value))


def test_images_leave_from_the_confidence_asked_for(artifact: Artifact) -> None:
    sure, unsure = 0.55, 0.25  # 97.6 % and 78.7 %
    assert FILE[0] < entropy(sure) < FILE[1] < entropy_for(0.9) < entropy(unsure)
    assert leave_at(artifact, sure, unsure) == [1, 2]
    assert leave_at(artifact, sure, unsure, confidence=0.9) == [0, 2]
    assert leave_at(artifact, sure, unsure, confidence=0.999) == [2, 2]


@pytest.mark.parametrize("confidence", [0.5, 0.7, 0.9, 0.99, 1.0])
def test_no_image_leaves_below_the_confidence(confidence: float) -> None:
    shares = np.random.default_rng(0).dirichlet([0.2] * 5, 20_000)
    found = -(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=1)
    leaving = found < entropy_for(confidence)
    assert (shares[leaving].max(axis=1) >= confidence).all()
    assert leaving.any() == (confidence < 1)


def test_a_deadline_ends_the_network_at_the_last_exit_in_time(artifact: Artifact) -> None:
    hours, never = 1e9, 1e-9
    assert leave_at(artifact, 0.05, 0.2, deadline=hours, confidence=0.999) == [2, 2]
    assert leave_at(artifact, 0.05, 0.2, deadline=never) == [0, 0]
    with api.load(artifact, threads=1, deadline=never) as runner:
        assert "at exit 1 of 2 at the latest" in runner.loaded.exits
        assert "too long" in runner.loaded.exits


def test_a_network_without_exits_has_no_such_limits(
    tmp_path: Path, artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tiny.manifest(input=artifact.manifest.input, output=artifact.manifest.output, golden=None)
    plain = write_artifact(tmp_path / "plain", manifest, {"model.onnx": model(exits=0)})
    with pytest.raises(UsageError, match="has no early exits"):
        api.load(plain, confidence=0.9)
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main(["run", str(plain.path), "x.png", "--deadline", "30ms"]))
    assert ended.value.code == UsageError.exit_code
    assert "has no early exits" in capsys.readouterr().err


def test_times_have_units() -> None:
    read = Milliseconds().convert
    assert [read(each, None, None) for each in ("30ms", "1.5s", "0.2 ms")] == [30.0, 1500.0, 0.2]
    for wrong in ("30", "fast", "-3ms", "0s", "nans", ""):
        with pytest.raises(click.BadParameter):
            read(wrong, None, None)


def test_the_entropy_of_a_confidence_is_that_of_two_classes() -> None:
    assert entropy_for(0.5) == pytest.approx(math.log(2))
    assert entropy_for(1.0) == 0
