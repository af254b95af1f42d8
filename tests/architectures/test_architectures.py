"""The built-in architectures: sizes, shapes, and the family of timm."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch

from zoo import plugins
from zoo.architectures.timm_models import TimmArchitecture
from zoo.architectures.unet import (
    LighterUNetArchitecture,
    LightUNetArchitecture,
    UNetArchitecture,
    XTransUNetArchitecture,
)
from zoo.errors import UnknownIdError, UsageError, ZooError

PARAMETERS = {
    UNetArchitecture: 7_760_748,
    LightUNetArchitecture: 4_285_676,
    LighterUNetArchitecture: 1_513_812,
    XTransUNetArchitecture: 7_762_683,
}


@pytest.mark.parametrize("architecture", PARAMETERS)
def test_parameters_are_the_published_ones(architecture: type[UNetArchitecture]) -> None:
    with torch.device("meta"):
        net = architecture().build()
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[architecture]


@pytest.mark.parametrize("architecture", PARAMETERS)
def test_output_is_what_the_specs_say(architecture: type[UNetArchitecture]) -> None:
    made = architecture()
    net = made.build()
    for height, width in ((made.input.multiple_of, 3 * made.input.multiple_of), made.input.example):
        with torch.device("meta"):
            outputs = net.to("meta")(torch.empty(2, made.input.channels, height, width))
        assert outputs.shape == (2, 3, made.output.scale * height, made.output.scale * width)
        assert made.output.channels == 3
        assert height % made.input.multiple_of == width % made.input.multiple_of == 0


@pytest.mark.parametrize("architecture", PARAMETERS)
def test_initialisation_follows_the_seed(architecture: type[UNetArchitecture]) -> None:
    nets = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        nets.append(architecture().build().head.weight)
    assert torch.equal(nets[0], nets[1])
    assert not torch.equal(nets[0], nets[2])


def test_stages_name_modules_of_the_net() -> None:
    with torch.device("meta"):
        net = UNetArchitecture().build()
    stages = UNetArchitecture().stages()
    names = [name for stage in stages for name in stage.values()]
    assert {type(net.get_submodule(name)).__name__ for name in names} == {"DoubleConv", "ConvTranspose2d"}
    assert len(stages) == 5
    assert len(set(names)) == len(names) == 13


@pytest.mark.parametrize(
    ("name", "count"), [("resnet20", 269_722), ("dncnn", 558_403), ("tiny-unet", 97_085)]
)
def test_small_networks_have_the_stated_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        net = plugins.architecture(name).build()
    assert sum(p.numel() for p in net.parameters()) == count


# ------------------------------------------------------------------------------------------------------ timm


def test_timm_specs_come_from_its_records() -> None:
    resnet = TimmArchitecture("resnet18")
    assert (resnet.id, resnet.task, resnet.output.kind) == ("timm:resnet18", "classification", "logits")
    assert (resnet.input.channels, resnet.input.example, resnet.output.channels) == (3, (224, 224), 1000)
    assert resnet.input.mean == (0.485, 0.456, 0.406)
    assert resnet.input.std == (0.229, 0.224, 0.225)
    assert not resnet.input.fixed_size
    vit = TimmArchitecture("test_vit")
    assert vit.input.fixed_size
    assert vit.input.example == (160, 160)
    assert vit.input.mean == (0.5, 0.5, 0.5)


def test_timm_networks_run_on_their_specs_and_build_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("resnet18", "test_vit"):
        made = TimmArchitecture(name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net = made.build().eval()
        with torch.no_grad():
            outputs = net(torch.rand(1, made.input.channels, *made.input.example))
        assert outputs.shape == (1, made.output.channels)
    assert capfd.readouterr() == ("", "")


def test_timm_spec_is_read_without_building_the_net() -> None:
    """Three billion parameters would take minutes and 11 GB."""
    made = TimmArchitecture("aimv2_3b_patch14_448")
    assert made.input.example == (448, 448)
    assert made.output.channels == 1000  # timm knows it as a feature extractor


def test_timm_tag_is_accepted_and_changes_what_it_was_published_with() -> None:
    assert TimmArchitecture("resnet18.a1_in1k").id == "timm:resnet18.a1_in1k"
    assert TimmArchitecture("vit_base_patch16_224.augreg_in21k").output.channels == 21843


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("resnet81", "resnet18"),
        ("ResNet18", "resnet18"),
        ("resnet18.a1_in1", "resnet18.a1_in1k"),
        ("mobilenet_v2_100", "mobilenetv2_100"),
    ],
)
def test_misspelt_timm_name_gets_the_one_meant(wrong: str, meant: str) -> None:
    with pytest.raises(UnknownIdError, match=f"did you mean '{meant}'"):
        TimmArchitecture(wrong)


@pytest.mark.parametrize("wrong", ["hf_hub:timm/resnet18", "../x", "*", "é", "resnet18.", ".a1_in1k"])
def test_nothing_but_timms_own_names_is_taken(wrong: str) -> None:
    with pytest.raises(UnknownIdError):
        TimmArchitecture(wrong)


@pytest.mark.parametrize("member", [None, ""])
def test_family_without_a_member_says_what_to_write(member: str | None) -> None:
    with pytest.raises(UsageError, match="timm:NAME"):
        TimmArchitecture(member)


def test_network_that_timm_cannot_build_is_a_clear_error() -> None:
    made = TimmArchitecture("resnet18")
    made._build_name = "resnet18.no_such_tag"
    with pytest.raises(ZooError, match="timm cannot build 'resnet18'"):
        made.build()


def test_absent_timm_ends_with_the_command_that_installs_it() -> None:
    code = (
        "import sys; sys.modules['timm'] = None\n"
        "from zoo.architectures.timm_models import TimmArchitecture\n"
        "from zoo.errors import MissingDependencyError\n"
        "try: TimmArchitecture('resnet18')\n"
        "except MissingDependencyError as error: print(error)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install '.[compress]'" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"
