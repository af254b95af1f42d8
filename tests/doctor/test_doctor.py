"""`zoo doctor` reads a machine's files; here those of boards are laid out as the boards have them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from support import fake_distributions
from zoo import plugins
from zoo.devices import board_of
from zoo.doctor import Finding, Severity, examine
from zoo.doctor.remedies import engine_remedy
from zoo.errors import UnknownIdError
from zoo_cli.main import cli

MEMINFO = "MemTotal: 4059436 kB\nMemAvailable: 1059436 kB\nSwapTotal: {} kB\nSwapFree: {} kB\n"


def board(root: Path, model: str, *, swap: tuple[int, int] = (0, 0), governor: str = "schedutil") -> Path:
    files = {
        "proc/device-tree/model": model + "\0",
        "proc/meminfo": MEMINFO.format(*swap),
        "proc/cpuinfo": "Features : fp asimd evtstrm aes crc32 cpuid\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": governor + "\n",
        "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


@pytest.mark.parametrize(
    ("model", "profile"),
    [
        ("NVIDIA Jetson Nano Developer Kit", "jetson-nano"),
        ("NVIDIA Jetson Xavier NX Developer Kit", "jetson-xavier-nx"),
        ("Jetson-AGX", "jetson-agx-xavier"),
        ("quill", "jetson-tx2"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "jetson-orin-nano"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "jetson-agx-orin"),
        ("Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi-5"),
        ("Some Other Board", None),
    ],
)
def test_a_board_is_known_by_its_device_tree(tmp_path: Path, model: str, profile: str | None) -> None:
    assert board_of(board(tmp_path, model)) == profile


def test_a_nano_that_swaps_is_told_so_with_the_command(tmp_path: Path) -> None:
    found = by_subject(
        examine(root=board(tmp_path, "NVIDIA Jetson Nano Developer Kit", swap=(2048000, 1024000)))
    )
    assert "Jetson Linux 32.7.1, profile jetson-nano" in found["board"].found
    assert found["swap"].state is Severity.NOTE
    assert "1,000 of 2,000 MB" in found["swap"].found
    assert "swapoff" in found["swap"].remedy
    assert found["processor"].state is Severity.NOTE
    assert found["jetson-nano: int8 on the GPU"].state is Severity.NOTE


def test_unused_swap_and_fixed_clocks_are_fine(tmp_path: Path) -> None:
    root = board(
        tmp_path, "NVIDIA Jetson Nano Developer Kit", swap=(2048000, 2048000), governor="performance"
    )
    found = by_subject(examine(root=root))
    assert found["swap"].state is Severity.OK
    assert found["clocks"].state is Severity.OK


def test_the_engine_that_is_used_is_named_and_missing_ones_are_noted(tmp_path: Path) -> None:
    found = by_subject(examine(root=board(tmp_path, "NVIDIA Jetson Nano Developer Kit")))
    assert found["engine onnxruntime"].found.endswith("the one that is used")
    assert found["engine tensorrt"].state is Severity.NOTE


def test_what_is_missing_comes_with_the_command_that_brings_it_to_this_board(tmp_path: Path) -> None:
    """Real files of a driver, no TensorRT in this build of ONNX Runtime."""
    root = board(tmp_path, "NVIDIA Jetson Orin Nano Developer Kit")
    (root / "dev").mkdir()
    (root / "dev/nvhost-gpu").touch()
    orin, nano = plugins.device("jetson-orin-nano"), plugins.device("jetson-nano")
    assert engine_remedy("tensorrt", orin, root).endswith(
        "pip install onnxruntime-gpu --index-url https://pypi.jetson-ai-lab.io/jp6/cu126"
    )
    assert "has no onnxruntime-gpu for JetPack 4.6" in engine_remedy("cuda", nano, root)
    assert engine_remedy("cuda", plugins.device("x86-cpu"), root).endswith("pip install onnxruntime-gpu")
    assert engine_remedy("tensorrt", orin, tmp_path / "without-a-gpu") == ""
    assert engine_remedy("onnxruntime", nano) == "in your clone of compression-zoo:  pip install '.[cpu]'"


def test_an_engine_that_would_be_preferred_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ZOO_PLUGINS", "")
    finding = by_subject(examine("x86-cpu"))["engine openvino"]
    assert finding.state is Severity.NOTE
    assert finding.remedy.endswith("pip install ./plugins/zoo-openvino") or "ZOO_PLUGINS" in finding.found


def test_memory_and_processors_are_those_of_the_machine_that_is_looked_at(tmp_path: Path) -> None:
    found = by_subject(examine(root=board(tmp_path, "NVIDIA Jetson Nano Developer Kit")))
    assert found["memory"].found.startswith("3,964 MB for this process")


def test_a_cuda_build_of_torch_without_a_gpu_is_noted_with_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, root = tmp_path / "site", board(tmp_path / "board", "NVIDIA Jetson Nano Developer Kit")
    site.mkdir()
    info = fake_distributions.install(site, "torch", {}, version="2.14.1")
    records = ("torch/lib/libtorch_cuda.so,,500000000", "torch/lib/libtorch_cpu.so,,400000000")
    (info / "RECORD").write_text("\n".join(records))
    info = fake_distributions.install(site, "nvidia-of-a-test", {})
    (info / "RECORD").write_text("nvidia/lib/libcublas.so,,90000000000")
    monkeypatch.syspath_prepend(str(site))
    torch = by_subject(examine(root=root))["torch"]
    assert torch.state is Severity.NOTE
    assert float(re.search(r"([\d.]+) GB", torch.found)[1]) >= 90.5
    assert "--index-url https://download.pytorch.org/whl/cpu" in torch.remedy
    (root / "dev").mkdir()
    (root / "dev/nvidia0").touch()
    assert "torch" not in by_subject(examine(root=root))


def test_two_distributions_of_onnx_runtime_are_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_distributions.install(tmp_path, "onnxruntime-gpu", {}, version="1.18.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = by_subject(examine("host"))["onnxruntime"]
    assert finding.state is Severity.PROBLEM
    assert "pip uninstall" in finding.remedy
    assert "pip install onnxruntime-gpu" in finding.remedy  # from where, depends on the board


def test_this_machine_is_examined_as_json() -> None:
    done = CliRunner().invoke(cli, ["doctor", "--json"], obj={"debug": False})
    found = {finding["subject"]: finding for finding in json.loads(done.output)["findings"]}
    assert {"board", "processor", "memory", "swap", "python", "onnxruntime"} <= set(found)
    assert done.exit_code == any(each["state"] == "problem" for each in found.values())


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UnknownIdError):
        examine("jetson-nona")
