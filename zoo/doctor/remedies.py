"""The command that brings an engine, for the board it is missing on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.engines.cuda import CUDA
from zoo.engines.ort_session import provider_problem
from zoo.engines.tensorrt import TENSORRT
from zoo.extras import IN_THE_CLONE, install_command
from zoo.machine.nvidia import has_gpu

if TYPE_CHECKING:
    from zoo.contracts import DeviceProfile

#: Where NVIDIA keeps its wheels of onnxruntime-gpu, by the first number of JetPack, for its Python.
_INDEX = {"6": "https://pypi.jetson-ai-lab.io/jp6/cu126"}
#: Engines whose distribution lies in the clone.
_IN_PLUGINS = ("openvino",)


def engine_remedy(name: str, profile: DeviceProfile, root: Path = Path("/")) -> str:
    """Return the command that makes an engine run here; "" if no installation would help."""
    if name == "onnxruntime":
        return runtime_remedy(profile)
    if name in _IN_PLUGINS:
        return f"{IN_THE_CLONE}:  pip install ./plugins/zoo-{name}"
    if name not in ("cuda", "tensorrt"):
        return f"Install the plugin that provides the engine '{name}'."
    if not has_gpu(root):
        return ""
    if provider_problem(TENSORRT if name == "tensorrt" else CUDA) is not None:
        return gpu_runtime_remedy(profile)
    return "sudo apt install tensorrt" if "jetpack" in profile.software else "pip install tensorrt"


def runtime_remedy(profile: DeviceProfile) -> str:
    """Return how ONNX Runtime is installed: as NVIDIA built it where there is such a build, else for the processor."""
    return gpu_runtime_remedy(profile) if _index(profile) else f"{IN_THE_CLONE}:  {install_command('cpu')}"


def gpu_runtime_remedy(profile: DeviceProfile) -> str:
    """Return how an ONNX Runtime that knows NVIDIA's GPUs is installed, in place of any other."""
    if "jetpack" not in profile.software:
        return "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
    index = _index(profile)
    if not index:
        return (
            f"NVIDIA has no onnxruntime-gpu for JetPack {profile.software['jetpack']} and a Python that zoo runs on: "
            "build it on the board (https://onnxruntime.ai/docs/build/eps.html), or do without the GPU"
        )
    return f"pip uninstall -y onnxruntime && pip install onnxruntime-gpu --index-url {index}"


def _index(profile: DeviceProfile) -> str:
    return _INDEX.get(profile.software.get("jetpack", "").partition(".")[0], "")
