"""A picture is one picture however it is cut: the artifact says how far its network looks, measured on its file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from support.mask_folders import folder as folder
from zoo.artifacts.artifact import open_artifact
from zoo.contracts.architecture import WHOLE_FRAME
from zoo.images.decibels import psnr
from zoo_cli.main import main

NETS = """
import torch
from torch import nn

INPUT, OUTPUT, TRAINED = "gray:1x64x64", "mask:1", True

def dilated():
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=20, dilation=20), nn.ReLU(),
                         nn.Conv2d(8, 1, 5, padding=2), nn.Sigmoid())

def wide():
    return nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
                         nn.Conv2d(64, 1, 3, padding=1), nn.Sigmoid())

def normed():
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.InstanceNorm2d(8), nn.Conv2d(8, 1, 3, padding=1),
                         nn.Sigmoid())
"""


def made(net: str, folder: Path) -> Path:
    source, out = folder / "net.py", folder / "out"
    source.write_text(NETS)
    data = ["--data", f"masks(root={folder})", "--crop", "32"]
    assert main(["train", f"{source}:{net}", *data, "--steps", "0", "--out", str(out), "--json"]) == 0
    return out


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    rows, columns = np.mgrid[:400, :520]
    noise = np.random.default_rng(0).normal(0, 20, rows.shape)
    path = tmp_path / "frame.png"
    Image.fromarray(np.clip(rows / 2 + columns / 8 + noise, 0, 255).astype(np.uint8)).save(path)
    return path


def run(artifact: Path, frame: Path, name: str, *options: str) -> np.ndarray:
    out = frame.parent / name
    arguments = ["run", str(artifact), str(frame), "-o", str(out), "--format", "tiff", "--json", *options]
    assert main(arguments) == 0
    return tifffile.imread(out / "frame.tiff") / 65535


@pytest.mark.usefixtures("own_cache")
def test_tiles_of_a_network_of_ones_own_make_the_picture_of_the_whole_frame(
    folder: Path, frame: Path
) -> None:
    artifact = made("dilated", folder)
    assert open_artifact(artifact).manifest.input.halo == 22
    whole = run(artifact, frame, "whole")
    for side in (80, 130, 333):
        tiles = run(artifact, frame, f"tiles{side}", "--tile", str(side))
        assert psnr(float(np.mean((tiles - whole) ** 2))) > 60


@pytest.mark.usefixtures("own_cache")
def test_a_network_that_looks_at_the_whole_frame_is_given_it_or_refused_with_what_it_needs(
    folder: Path, frame: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    artifact = made("normed", folder)
    assert "zoo run computes each file in one piece" in capfd.readouterr().err
    manifest = open_artifact(artifact).manifest
    assert manifest.input.halo == WHOLE_FRAME
    assert "in one piece" in (artifact / "README.md").read_text()
    run(artifact, frame, "whole")
    capfd.readouterr()
    tiled = ["run", str(artifact), str(frame), "-o", str(frame.parent / "tiles"), "--format", "tiff"]
    assert main([*tiled, "--tile", "128"]) == 2
    assert "every output of this network depends on the whole frame" in capfd.readouterr().err
    Image.open(frame).resize((4000, 3000)).save(frame)
    assert main([*tiled, "--memory", "200MB"]) == 2
    refused = capfd.readouterr().err
    assert "frame.png in one piece, as this network needs it, does not fit" in refused
    least = re.search(r"--memory (\d+MB)", refused)
    assert least
    assert main([*tiled, "--memory", least[1]]) == 0


@pytest.mark.usefixtures("own_cache")
def test_ranges_of_the_whole_frame_make_a_network_look_at_all_of_it(folder: Path) -> None:
    source, out = folder / "net.py", folder / "out"
    source.write_text(NETS)
    arguments = [
        "apply",
        "ptq(mode=dynamic)",
        f"{source}:wide",
        "--data",
        f"masks(root={folder})",
        "--crop",
        "32",
    ]
    assert main([*arguments, "--out", str(out), "--json"]) == 0
    assert open_artifact(out).manifest.input.halo == WHOLE_FRAME
