"""Published weights come from the Hub as safetensors, pinned and checked, and from the cache without a network."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save
from torch import nn

import zoo
from support.loopback_hub import LoopbackHub
from zoo import plugins
from zoo.errors import InputError, IntegrityError, NetworkError, UnknownIdError, ZooError
from zoo.training.weights import build_start, load_start

NAME = "timm:mobilenetv3_small_050.lamb_in1k"
REPOSITORY = "timm/mobilenetv3_small_050.lamb_in1k"
OWN = "tester/net"


def trained(seed: int = 7, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("mobilenetv3_small_050", **options)


def weights(net: nn.Module) -> bytes:
    return save({key: value.contiguous() for key, value in net.state_dict().items()})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield hub


def test_a_name_with_a_tag_loads_the_published_weights_and_pins_them(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = hub.add_repo(REPOSITORY, {"model.safetensors": weights(trained())})
    architecture = plugins.architecture(NAME)
    assert not hub.seen, "nothing is asked before the weights are wanted"
    assert architecture.trained
    assert architecture.input.mean == (0.485, 0.456, 0.406)
    assert architecture.input.crop_pct == 0.875
    assert architecture.input.interpolation == "bicubic"
    net = build_start(architecture, "auto")
    start = load_start(net, architecture, "auto")
    assert start.trained
    assert f"{REPOSITORY}@{sha}/model.safetensors sha256:" in start.remark
    assert architecture.identity() in start.remark
    assert torch.equal(net.state_dict()["conv_stem.weight"], trained().state_dict()["conv_stem.weight"])
    hub.commit(REPOSITORY, {"model.safetensors": weights(trained(8))})
    assert architecture.named == f"{NAME}@{sha}"
    pinned = plugins.architecture(architecture.named)
    assert torch.equal(pinned.build().state_dict()["conv_stem.weight"], net.state_dict()["conv_stem.weight"])
    newest = zoo.create_model(NAME)
    assert torch.equal(newest.state_dict()["conv_stem.weight"], trained(8).state_dict()["conv_stem.weight"])
    asked = len(hub.seen)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert torch.equal(
        zoo.create_model(NAME).state_dict()["conv_stem.weight"], newest.state_dict()["conv_stem.weight"]
    )
    assert len(hub.seen) == asked


@pytest.mark.parametrize("name", [f"hf-hub:{OWN}", f"timm:hf-hub:{OWN}"])
def test_a_network_in_timms_format_is_built_as_it_is_described(hub: LoopbackHub, name: str) -> None:
    described = {
        "architecture": "mobilenetv3_small_050", "num_classes": 7, "num_features": 1024,
        "pretrained_cfg": {
            "input_size": [3, 96, 96], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "crop_pct": 0.9,
            "interpolation": "bilinear", "classifier": "classifier", "first_conv": "conv_stem", "tag": "unheard_of",
        },
    }  # fmt: skip
    files = {
        "config.json": json.dumps(described).encode(),
        "model.safetensors": weights(trained(num_classes=7)),
    }
    hub.add_repo(OWN, files)
    architecture = plugins.architecture(name)
    spec = architecture.input
    assert (spec.example, spec.mean, spec.crop_pct, spec.interpolation) == (
        (96, 96),
        (0.5,) * 3,
        0.9,
        "bilinear",
    )
    assert architecture.output.channels == 7
    state = architecture.build().state_dict()
    assert torch.equal(state["classifier.weight"], trained(num_classes=7).state_dict()["classifier.weight"])


def test_pickled_weights_on_the_hub_are_not_loaded(hub: LoopbackHub, tmp_path: Path) -> None:
    torch.save(trained().state_dict(), tmp_path / "pytorch_model.bin")
    hub.add_repo(REPOSITORY, {"pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes()})
    with pytest.raises(InputError, match=r"no model\.safetensors") as refused:
        zoo.create_model(NAME)
    assert "--weights FILE" in str(refused.value.hint)
    assert not hub.asked("*pytorch_model.bin", method="GET")


def test_damage_is_found(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add_repo(REPOSITORY, {"model.safetensors": weights(trained())})
    zoo.create_model(NAME)
    blob = next((tmp_path / "hub-cache").rglob("model.safetensors")).resolve()
    content = bytearray(blob.read_bytes())
    content[-100] ^= 1
    blob.write_bytes(content)
    with pytest.raises(IntegrityError, match="damaged"):
        zoo.create_model(NAME)


def test_numbers_that_are_not_finite_are_refused(hub: LoopbackHub) -> None:
    net = trained()
    with torch.no_grad():
        net.conv_stem.weight[0, 0, 0, 0] = torch.nan
    hub.add_repo(REPOSITORY, {"model.safetensors": weights(net)})
    with pytest.raises(IntegrityError, match=r"conv_stem\.weight"):
        zoo.create_model(NAME)


def test_errors_name_the_next_command(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownIdError, match=f"no repository {REPOSITORY}"):
        zoo.create_model(NAME)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE") as refused:
        zoo.create_model(NAME)
    assert f"hf download {REPOSITORY} model.safetensors" in str(refused.value.hint)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    # The client waits between its attempts, twenty seconds in all.
    at_once = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", at_once)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NetworkError, match="does not answer"):
        zoo.create_model(NAME)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    with pytest.raises(NetworkError, match="there is no network"):
        zoo.create_model(NAME)


def test_weights_of_a_file_need_no_hub(hub: LoopbackHub, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(weights(trained()))
    net = zoo.create_model(NAME, weights=str(tmp_path / "mine.safetensors"))
    assert torch.equal(net.state_dict()["conv_stem.weight"], trained().state_dict()["conv_stem.weight"])
    assert not hub.seen


def test_classes_and_size_are_options(hub: LoopbackHub) -> None:
    hub.add_repo(REPOSITORY, {"model.safetensors": weights(trained())})
    architecture = plugins.architecture(f"{NAME}(classes=10,size=64)")
    assert (architecture.output.channels, architecture.input.example) == (10, (64, 64))
    state = architecture.build().state_dict()
    assert state["classifier.weight"].shape[0] == 10
    assert torch.equal(state["conv_stem.weight"], trained().state_dict()["conv_stem.weight"])
    assert architecture.id == f"{NAME}(classes=10,size=64)"


def test_a_name_without_a_tag_is_random_and_says_so() -> None:
    architecture = plugins.architecture("timm:mobilenetv3_small_050")
    start = load_start(architecture.build_blank(), architecture, "auto")
    assert not start.trained
    assert "random" in start.remark
    assert "timm:mobilenetv3_small_050.lamb_in1k" in start.remark


def test_torchvision_weights_must_have_the_sha256_that_they_are_named_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = pytest.importorskip("torchvision.models")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    architecture = plugins.architecture("torchvision:squeezenet1_1")
    assert architecture.id == "torchvision:squeezenet1_1.IMAGENET1K_V1"
    assert architecture.input.crop_pct == 224 / 256
    with pytest.raises(NetworkError, match="not in the cache"):
        architecture.build()
    url = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
    path = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(models.squeezenet1_1().state_dict(), path)
    with pytest.raises(IntegrityError, match="sha256"):
        architecture.build()
    with pytest.raises(UnknownIdError, match="did you mean 'IMAGENET1K_V1'"):
        plugins.architecture("torchvision:squeezenet1_1.IMAGENET1K_V2")
    shutil.rmtree(tmp_path / "hub")
    with pytest.raises(ZooError, match="did you mean"):
        plugins.architecture("torchvision:squeezenet1_2")
