"""`zoo.apply` on modules and ONNX files that return several outputs."""

from __future__ import annotations

import functools
import json
from collections import OrderedDict
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.errors import InputError
from zoo.modules.output_tree import arranged, names_of


class Pair(NamedTuple):
    logits: Tensor
    features: Tensor


class Two(nn.Module):
    """A classifier that returns its features, too."""

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.last = nn.Linear(8 * 16, 2)
        self.form = form

    def forward(self, x: Tensor) -> Any:
        features = self.second(self.first(x).relu()).relu()
        logits = self.last(features.flatten(1))
        if self.form == "dict":
            return {"logits": logits, "features": features}
        return (logits, {"features": features})


@dataclass
class Answer(OrderedDict[str, Any]):
    """As transformers returns: a dictionary, and attributes, of what is not None."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    features: Tensor | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) is not None:
                super().__setitem__(each.name, getattr(self, each.name))

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(self.values())


def as_told(forward: Any) -> Any:
    @functools.wraps(forward)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        whole = kwargs.pop("return_dict", None) is not False
        answer = forward(self, *args, **kwargs)
        return answer if whole else answer.to_tuple()

    return call


class Answering(Two):
    """A classifier with the signature and decorator of those of transformers."""

    @as_told
    def forward(
        self, pixel_values: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> Answer:
        assert pixel_values is not None
        logits, others = super().forward(pixel_values)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return Answer(loss=loss, logits=logits, features=others["features"])


def test_answers_as_transformers_gives_them(tmp_path: Path) -> None:
    def loss(outputs: Any, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs["logits"], targets)

    net = Answering("tuple")
    result = zoo.apply(
        net, "qat", data=images(24), loss=loss, steps=2, batch=4, max_loss=None, out=tmp_path / "out"
    )
    manifest = json.loads((result.artifact / "zoo.json").read_text())
    assert manifest["output"] == {**manifest["output"], "kind": "logits", "channels": 2}
    assert list(manifest["extra_outputs"]) == ["features"]
    assert set(result.model(images(1)[0])) == {"logits", "features"}
    assert isinstance(net(images(1)[0]), Answer), "the network itself is not changed"


def images(count: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0, :4].sum((1, 2)) > x[:, 0, 4:].sum((1, 2))).long()


def of(outputs: Any) -> tuple[Tensor, Tensor]:
    return (
        (outputs["logits"], outputs["features"])
        if isinstance(outputs, dict)
        else (outputs[0], outputs[1]["features"])
    )


@pytest.mark.parametrize(("form", "name"), [("dict", "features"), ("tuple", "1_features")])
def test_losses_and_metrics_get_what_the_module_returns(form: str, name: str, tmp_path: Path) -> None:
    seen: set[str] = set()

    def loss(outputs: Any, targets: Tensor) -> Tensor:
        logits, features = of(outputs)
        seen.add("loss")
        assert features.shape == (4, 8, 4, 4)
        return nn.functional.cross_entropy(logits, targets) + 0.01 * features.square().mean()

    def energy(outputs: Any, targets: Tensor) -> Tensor:
        logits, features = of(outputs)
        seen.add("metric")
        assert len(logits) == len(features) == len(targets)
        return features.square().mean()

    result = zoo.apply(
        Two(form), "qat", data=images(24), loss=loss, metric={"energy": energy}, steps=2, batch=4, max_loss=None,
        out=tmp_path / "out",
    )  # fmt: skip
    assert seen == {"loss", "metric"}
    manifest = json.loads((result.artifact / "zoo.json").read_text())
    assert manifest["output"]["kind"] == "logits"
    assert list(manifest["extra_outputs"]) == [name]
    assert {"energy", "top1"} <= set(result.metrics)


def test_a_metric_without_a_loss_trains_the_main_output(tmp_path: Path) -> None:
    result = zoo.apply(
        Two("tuple"), "qat", data=images(16), metric=lambda outputs, _: of(outputs)[1].mean(), steps=2, batch=4,
        max_loss=None, out=tmp_path / "out",
    )  # fmt: skip
    assert "metric" in result.metrics


def test_without_labels_each_output_follows_the_original(tmp_path: Path) -> None:
    result = zoo.apply(Two("dict"), "ptq", data=images(16)[0], max_loss=None, out=tmp_path / "out")
    quality = json.loads((result.artifact / "metrics.json").read_text())["files"][-1]["quality"]
    assert "features" in quality["extra_outputs"]


def test_outputs_of_onnx_files_keep_their_names(tmp_path: Path) -> None:
    torch.onnx.export(
        Two("tuple").eval(), (torch.rand(1, 1, 8, 8),), tmp_path / "two.onnx", output_names=["scores", "Feature Map"],
        dynamo=False,
    )  # fmt: skip
    result = zoo.apply(
        str(tmp_path / "two.onnx"), "ptq", data=images(16)[0], max_loss=None, out=tmp_path / "out"
    )
    manifest = json.loads((result.artifact / "zoo.json").read_text())
    assert manifest["output"] == {**manifest["output"], "kind": "logits", "channels": 2}
    assert list(manifest["extra_outputs"]) == ["feature_map"]
    assert isinstance(result.model(torch.rand(1, 1, 8, 8)), dict)


def test_a_second_output_called_output_is_refused(tmp_path: Path) -> None:
    class Named(Two):
        def forward(self, x: Tensor) -> Any:
            logits, others = super().forward(x)
            return {"logits": logits, "output": others["features"]}

    with pytest.raises(InputError, match="'output' besides its main output, 'logits'"):
        zoo.apply(Named("tuple"), "ptq", data=images(8)[0], out=tmp_path / "out")


def test_outputs_are_arranged_as_they_were_returned() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    names = names_of([Pair(a, b), {"x": (a, None)}])
    assert names == [Pair("0_logits", "0_features"), {"x": ("1_x_0", None)}]
    assert arranged(names, {"0_features": 2, "1_x_0": 3}, 1) == [Pair(1, 2), {"x": (3, None)}]
