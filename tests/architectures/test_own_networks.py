"""Networks of the user's own, `path/to/module.py:factory`: what is read of the file, refused, and recorded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from torch import nn

from support.mask_folders import folder as folder
from zoo import plugins
from zoo.architectures.own_networks import with_specs
from zoo.artifacts.artifact import open_artifact
from zoo.contracts import Architecture
from zoo.errors import InputError, UnknownIdError, UsageError, ZooError
from zoo.recipes import recipe_toml
from zoo_cli.main import main

SOURCE = """
import torch
from torch import nn
from zoo.contracts import Architecture, InputSpec, OutputSpec

class Net(nn.Module):
    def __init__(self, last=torch.sigmoid):
        super().__init__()
        self.inside = nn.Conv2d(1, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(4)
        self.deep = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 4, stride=4)
        self.head = nn.Conv2d(16, 1, 1)
        self.last = last

    def forward(self, x):
        skip = self.inside(x).relu()
        deep = self.up(self.deep(self.pool(skip)).relu())
        return self.last(self.head(torch.cat([skip, deep], 1)))

def classifier():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7))

def breaks():
    return 1 / 0

def number():
    return 3

class Whole(Architecture):
    id, summary, task = "whole", "with everything said", "segmentation"
    input, output = InputSpec("gray", 1, 4, (16, 16)), OutputSpec("mask", 1, 1)
    def build(self):
        return Net()
    def stages(self):
        return ({"down": "inside"},)

WEIGHT = 3
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mynet.py"
    path.write_text(SOURCE)
    return path


def own(name: str) -> Architecture:
    return plugins.architecture(name, own_files=True)


def test_what_the_net_takes_and_gives_is_said_by_options(source: Path) -> None:
    made = own(f"{source}:Net(input=gray:1x32x48,output=mask:1)")
    assert (made.task, made.input.kind, made.input.example) == ("segmentation", "gray", (32, 48))
    assert made.input.multiple_of == 4, "found by trying"
    assert not made.trained
    torch.manual_seed(3)
    first = made.build()
    torch.manual_seed(3)
    assert torch.equal(first.head.weight, made.build().head.weight)


PATCHES = """
import torch
from torch import nn

class Patches(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 4, side, side), nn.ConvTranspose2d(4, 1, side, side)

    def forward(self, x):
        return torch.sigmoid(self.up(self.down(x)))
"""


def test_an_output_smaller_than_the_input_is_refused_with_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "coarse.py"
    path.write_text("from torch import nn\n\ndef make():\n    return nn.Conv2d(3, 5, 4, 4)\n")
    with pytest.raises(InputError, match="returns 2x5x8x8, not 2x5x32x32 as stated") as refused:
        own(f"{path}:make(input=rgb:3x32x32,output=classes:5)")
    assert "one value for 4x4 pixels: enlarge it in forward(), as in  F.interpolate(" in str(
        refused.value.hint
    )


@pytest.mark.parametrize("side", [1, 3, 7, 12, 14, 16, 64])
def test_the_multiple_that_sides_must_be_of_is_found_by_trying(tmp_path: Path, side: int) -> None:
    path = tmp_path / "patches.py"
    path.write_text(f"{PATCHES}\ndef make():\n    return Patches({side})\n")
    assert own(f"{path}:make(input=gray:1x{8 * side}x{8 * side},output=mask:1)").input.multiple_of == side


def test_a_net_for_which_no_multiple_is_found_is_refused_until_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "patches.py"
    path.write_text(f"{PATCHES}\ndef make():\n    return Patches(97)\n")
    with pytest.raises(UsageError, match="but no other size") as caught:
        own(f"{path}:make(input=gray:1x97x97,output=mask:1)")
    assert "multiple_of=N" in str(caught.value.hint)
    assert own(f"{path}:make(input=gray:1x97x97,output=mask:1,multiple_of=97)").input.multiple_of == 97


UNFIT = {
    "scripted": (
        "torch.jit.trace(layer, torch.zeros(1, 1, 8, 8))",
        "scripted or traced module",
        "the nn.Module that it was made from",
    ),
    "exported": (
        "torch.export.export(layer.eval(), (torch.zeros(1, 1, 8, 8),)).module()",
        "exported module",
        "the nn.Module that it was made from",
    ),
    "without values": ("layer.to('meta')", "'conv.weight' has no values", "load its weights"),
    "with a lock": ("setattr(layer, 'lock', threading.Lock()) or layer", "cannot be copied", "Remove"),
}


@pytest.mark.parametrize("how", UNFIT)
def test_a_module_that_cannot_be_compressed_is_refused_with_the_way_out(tmp_path: Path, how: str) -> None:
    made, message, hint = UNFIT[how]
    path = tmp_path / "unfit.py"
    path.write_text(
        "import threading\nimport torch\nfrom collections import OrderedDict\nfrom torch import nn\n"
        "layer = nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 1, 1)))\n"
        f"def make():\n    return {made}\n"
    )
    with pytest.raises(InputError, match=message) as caught:
        own(f"{path}:make(input=gray:1x8x8,output=mask:1)")
    assert hint in str(caught.value.hint)


def test_a_module_is_taken_out_of_its_wrappers(tmp_path: Path) -> None:
    path = tmp_path / "wrapped.py"
    path.write_text(
        "import torch\nfrom torch import nn\n"
        "def make():\n    inner = nn.Sequential(torch.compile(nn.Conv2d(1, 1, 1)), nn.ReLU())\n"
        "    inner.compile()\n    return torch.compile(nn.DataParallel(inner))\n"
    )
    made = own(f"{path}:make(input=gray:1x8x8,output=mask:1)").build()
    assert [type(part) for part in made.modules()] == [nn.Sequential, nn.Conv2d, nn.ReLU]


def test_a_module_that_keeps_tensors_with_a_history_is_copied_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "keeping.py"
    path.write_text(
        "import torch\nfrom torch import nn\n"
        "def make():\n    net = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(1, 1, 1)))\n"
        "    net.features = {'last': [net(torch.ones(1, 1, 8, 8))]}\n    return net\n"
    )
    made = own(f"{path}:make(input=gray:1x8x8,output=mask:1)").build()
    assert made(torch.ones(1, 1, 8, 8)).allclose(made.features["last"][0])


def test_functions_set_on_a_module_belong_to_what_is_built(tmp_path: Path) -> None:
    path = tmp_path / "set.py"
    path.write_text(
        "from torch import nn\n"
        "def make():\n    net = nn.Sequential(nn.Conv2d(1, 1, 1))\n    whole = net.forward\n"
        "    net.forward = lambda x: whole(x) * 2 - net[0](x)\n    return net\n"
    )
    made = own(f"{path}:make(input=gray:1x8x8,output=mask:1)").build()
    torch.nn.init.zeros_(made[0].weight)
    torch.nn.init.zeros_(made[0].bias)
    assert not made(torch.ones(1, 1, 8, 8)).any()


def test_the_file_may_say_it_itself(source: Path) -> None:
    source.write_text(
        SOURCE + 'INPUT, OUTPUT, TRAINED = "gray:1x32x32", "mask:1", True\nSTAGES = [{"down": "deep"}]\n'
    )
    made = own(f"{source}:Net")
    assert (made.output.kind, made.output.scale, made.trained) == ("mask", 1, True)
    assert made.stages() == ({"down": "deep"},)


def test_a_factory_may_give_a_whole_architecture(source: Path) -> None:
    made = own(f"{source}:Whole")
    assert (made.input.example, made.stages()) == ((16, 16), ({"down": "inside"},))
    assert type(made.build()).__name__ == "Net"


def test_what_an_architecture_leaves_out_is_told_from_its_output_or_named(source: Path) -> None:
    stated = SOURCE.replace(
        'id, summary, task = "whole", "with everything said", "segmentation"', 'id = "whole"'
    )
    source.write_text(stated)
    assert own(f"{source}:Whole").task == "segmentation"
    source.write_text(stated.replace('OutputSpec("mask", 1, 1)', 'OutputSpec("mask", 1)'))
    with pytest.raises(UsageError, match="is mask with the scale 0"):
        own(f"{source}:Whole")
    source.write_text(stated.replace("input, output = ", "input, outputs = "))
    with pytest.raises(InputError, match=r"Whole of .* has no output"):
        own(f"{source}:Whole")


def test_a_detector_that_picks_boxes_for_each_image_is_refused_with_what_to_return(source: Path) -> None:
    source.write_text(
        "import torch\nfrom torch import nn\nclass Net(nn.Conv2d):\n    def forward(self, images):\n"
        "        return [{'boxes': super(Net, self).forward(each[None]).reshape(-1, 4)} for each in images]\n"
        "def make():\n    return Net(3, 4, 1)\n"
    )
    with pytest.raises(InputError, match=r"a list with an entry for each image \(boxes\)") as caught:
        own(f"{source}:make(input=rgb:3x8x8)")
    assert "boxes:CLASSES" in str(caught.value)


def test_logits_are_recognised_by_their_shape(source: Path) -> None:
    made = own(f"{source}:classifier(input=gray:1x16x16)")
    assert (made.task, made.output.channels) == ("classification", 7)


def test_its_name_and_identity_hold_the_digest_of_the_file(source: Path) -> None:
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    made = own(f"{source}:Net(input=gray:1x32x32,output=mask:1)")
    assert made.id == f"module:mynet.py:Net@{digest[:12]}"
    assert digest in made.identity()
    assert own(made.named).identity() == made.identity()
    source.write_text(
        SOURCE.replace("8, 8, 3", "8, 8, 5").replace(
            "padding=1)\n        self.up", "padding=2)\n        self.up"
        )
    )
    with pytest.raises(InputError, match="not the file that the recipe was made with"):
        own(made.named)
    assert own(f"{source}:Net(input=gray:1x32x32,output=mask:1)").identity() != made.identity()


def test_the_statements_that_would_suit_an_output_are_named(source: Path) -> None:
    with pytest.raises(UsageError) as caught:
        own(f"{source}:Net(input=gray:1x32x32)")
    assert (caught.value.hint or "").endswith("mask:1 or gray:1 or tensor:1")
    source.write_text("from torch import nn\ndef pyramid(): return nn.Conv2d(3, 4, 3, stride=2)\n")
    with pytest.raises(UsageError) as caught:
        own(f"{source}:pyramid(input=rgb:3x48x48)")
    assert (caught.value.hint or "").endswith(": tensor:4")


def test_a_size_that_a_graph_of_fx_refuses_prints_no_code(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source.write_text(
        "import torch\nfrom torch import nn\nclass Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x + nn.functional.interpolate(x[..., ::2, ::2], scale_factor=2.0)\n"
        "def make(): return torch.fx.symbolic_trace(Net())\n"
    )
    assert own(f"{source}:make(input=rgb:3x16x16,output=rgb:3)").input.multiple_of == 2
    assert capsys.readouterr().err == ""


def test_the_file_may_state_the_normalisation_and_options_overrule_it(source: Path) -> None:
    source.write_text(
        "from torch import nn\nMEAN = [0.1, 0.2, 0.3]\nSTD = 0.5, 0.5, 0.5\n"
        'INPUT = "rgb:3x8x8"\nOUTPUT = "mask:2"\ndef make(): return nn.Conv2d(3, 2, 1)\n'
    )
    assert own(f"{source}:make").input.mean == (0.1, 0.2, 0.3)
    assert own(f"{source}:make(mean=[0.5,0.5,0.5])").input.mean == (0.5, 0.5, 0.5)
    source.write_text(source.read_text().replace("MEAN = [0.1, 0.2, 0.3]", "MEAN = 0.1, 0.2"))
    with pytest.raises(UsageError, match="mean and std each need 3 numbers"):
        own(f"{source}:make")
    source.write_text(source.read_text().replace("MEAN = 0.1, 0.2", "MEAN = 0.1"))
    with pytest.raises(InputError, match="MEAN, which lists a number per channel, failed"):
        own(f"{source}:make")


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (":Net", "is not stated"),
        (":Net(input=gray:1x32x32)", "2x1x32x32, and its kind is not stated"),
        (":Net(input=rgb:1x32x32)", "rgb has 3 channels"),
        (":Net(input=32)", "not KIND:CHANNELSxHEIGHTxWIDTH"),
        (":Net(input=gray:1x32x32,output=mask:2)", "returns 2x1x32x32, not 2x2x32x32 as stated"),
        (":Net(input=gray:1x30x32,output=mask:1)", "30x32 is not a multiple of 4"),
        (":Net(input=gray:1x32x32,output=mask:0)", "have no size"),
        (":Net(inputs=gray:1x32x32)", "no option 'inputs'"),
        (":classifier(input=rgb:3x16x16)", r"classifier on 2x3x16x16 failed: RuntimeError"),
        (":breaks(input=gray:1x8x8)", r"mynet\.py, line 25: breaks failed: ZeroDivisionError"),
        (":number(input=gray:1x8x8)", r"returns int, not a torch\.nn\.Module"),
        (":WEIGHT", "no function or class 'WEIGHT'"),
        (":absent", "no function or class 'absent'"),
    ],
)
def test_what_is_wrong_is_said(source: Path, ending: str, text: str) -> None:
    with pytest.raises(ZooError, match=text):
        own(f"{source}{ending}")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("def make(:\n", r"line 1: importing failed: SyntaxError"),
        ("import os\n\nimport no_such_module\n", r"line 3: importing failed: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", r"line 1: importing failed: SystemExit"),
    ],
)
def test_a_file_that_cannot_be_executed_is_named_with_the_line(
    tmp_path: Path, content: str, text: str
) -> None:
    (tmp_path / "broken.py").write_text(content)
    with pytest.raises(InputError, match=text):
        own(f"{tmp_path}/broken.py:make")
    with pytest.raises(InputError, match="does not exist"):
        own(f"{tmp_path}/absent.py:make")


def test_a_name_from_a_download_never_executes_a_file(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('executed', 'w')\n")
    for name in (f"{tmp_path}/evil.py:make", f"module:{tmp_path}/evil.py:make"):
        with pytest.raises(UnknownIdError, match="a Python file on its author's machine"):
            plugins.architecture(name)
    assert not Path("executed").exists()


def test_options_of_the_command_line_become_part_of_the_name() -> None:
    assert with_specs("a/b.py:make", "gray:1x8x8", "") == "a/b.py:make(input=gray:1x8x8)"
    assert with_specs("b.py:make(trained=true)", "", "mask:1") == "b.py:make(trained=true,output=mask:1)"
    assert with_specs("unet", "", "") == "unet"
    with pytest.raises(UsageError, match="stated twice"):
        with_specs("b.py:make(input=gray:1x8x8)", "gray:1x8x8", "")
    with pytest.raises(UsageError, match="'unet' defines its own"):
        with_specs("unet", "gray:1x8x8", "")


def test_an_artifact_of_an_own_network_needs_the_file_no_more(source: Path, folder: Path, capsys) -> None:
    out, data = folder / "out", f"masks(root={folder})"
    args = ["apply", "depthwise+distill", f"{source}:Net", "--input", "gray:1x32x32", "--output", "mask:1"]
    args += ["--data", data, "--steps", "2", "--batch", "2", "--crop", "32", "--out", str(out), "--json"]
    assert main(args) == 0
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    made = open_artifact(out)
    assert made.manifest.architecture == f"module:mynet.py:Net@{digest[:12]}"
    assert digest in str(recipe_toml.read(out / "recipe.toml").architecture)
    before, after = json.loads(capsys.readouterr().out)["files"]
    assert after["parameters"] < before["parameters"]
    stored = load(made.read("model.safetensors"))
    assert {name.partition(".")[0] for name in stored} == {"inside", "deep", "up", "head"}, "no adapters"
    source.unlink()
    assert main(["eval", str(out), "--data", data, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["quality"]["dice"] == pytest.approx(after["quality"]["dice"])
    again = ["apply", "--recipe", str(out / "recipe.toml"), "--out", str(folder / "again")]
    assert main([*again, "--trust-code"]) == 5


def test_zoo_info_describes_an_own_network(source: Path, capsys) -> None:
    assert main(["info", f"{source}:Whole", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["parameters"] == 80 + 584 + 1032 + 17
