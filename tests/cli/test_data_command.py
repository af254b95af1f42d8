"""`zoo data`: what it prints, writes and returns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.class_folders import write_classes
from zoo.data.choose import leaving_out_bad
from zoo_cli.main import main


def test_a_sound_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_classes(tmp_path / "data")
    assert main(["data", "folder(root=data)"]) == 0
    printed = capsys.readouterr().out
    assert "Sizes: 40x32 (30)" in printed
    assert "Wrote out/folder-sheet.png." in printed
    assert (tmp_path / "out/folder-sheet.png").read_bytes().startswith(b"\x89PNG")


def test_a_damaged_folder_is_one_document_and_exit_code_5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classes(tmp_path)
    (tmp_path / "bee/0.png").write_bytes(b"")
    assert main(["data", f"folder(root={tmp_path})", "--json", "--no-sheet"]) == 5
    found = json.loads(capsys.readouterr().out)
    assert sum(found["scenes"].values()) == 29
    assert "bee/0.png is empty (0 bytes)" in found["notes"][0]


def test_bad_files_are_left_out_by_an_option_of_the_command_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classes(tmp_path)
    (tmp_path / "bee/0.png").write_bytes(b"")
    data = f"folder(root={tmp_path})"
    assert leaving_out_bad(data) == f"folder(root={tmp_path},skip_bad=true)"
    assert main(["apply", "ptq", "timm:resnet18", "--data", data]) == 5
    assert "--skip-bad" in capsys.readouterr().err
    assert main(["apply", "ptq", "timm:resnet18", "--data", data, "--skip-bad"]) == 2
    assert "3 classes" in capsys.readouterr().err, "the files are left out; the network does not suit"
    assert main(["data", data, "--skip-bad", "--no-sheet"]) == 0
    assert "Left out: 1 file cannot be used" in capsys.readouterr().out
    assert main(["apply", "ptq", "timm:resnet18", "--data", "photos", "--skip-bad"]) == 2
    assert "has no option skip_bad" in capsys.readouterr().err


def test_data_without_a_test_split_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classes(tmp_path / "data")
    (tmp_path / "net.py").write_text(
        "from torch import nn\nINPUT, OUTPUT = 'rgb:3x32x32', 'logits:3'\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))\n"
    )
    data = f"folder(root={tmp_path / 'data'},test_share=0)"
    assert main(["apply", "ptq", f"{tmp_path / 'net.py'}:make", "--data", data]) == 5
    printed = capsys.readouterr().err
    assert "folder has no images in its test split" in printed
    assert "export" not in printed
