"""The same request makes the same bytes, on one kind of machine with one set of versions."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

#: What the digest was measured with, on one thread: sums over parts depend on their number.
VERSIONS = {"torch": "2.14.1+cu130", "onnx": "1.23.2", "onnxscript": "0.7.2", "numpy": "2.4.6"}
#: Processor included: libraries choose their kernels, and so the order of sums, by it.
MACHINE = ("x86_64", "AVX512", "AuthenticAMD family 25 model 17")
MODEL = "8aff9ce02ab66fe62af9bbd08f5a9dd359128dbb5ed982fc618156d6e175fb1d"


def reason_to_skip() -> str:
    """Why the digest cannot be expected here; "" if it can."""
    try:
        import torch

        # only torch itself says which build it is
        found = {name: version(name) for name in VERSIONS} | {"torch": str(torch.__version__)}
    except ImportError as error:
        return f"not installed: {error}"
    differing = [f"{name} {found[name]}" for name, wanted in VERSIONS.items() if found[name] != wanted]
    if differing:
        return f"the digest is that of other versions than {', '.join(differing)}"
    here = (platform.machine(), torch.backends.cpu.get_cpu_capability(), processor())
    return "" if here == MACHINE else f"the digest is that of {' '.join(MACHINE)}, this is {' '.join(here)}"


def processor() -> str:
    """The processor's vendor, family and model; "" where they cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    found = [
        re.search(rf"^{key}\s*: (.+)$", text, re.MULTILINE) for key in ("vendor_id", "cpu family", "model")
    ]
    vendor, family, model = (each[1] if each else "" for each in found)
    return f"{vendor} family {family} model {model}"


@pytest.mark.slow
def test_ptq_of_the_unet_makes_the_bytes_that_it_always_made(tmp_path: Path) -> None:
    if reason := reason_to_skip():
        pytest.skip(reason)
    command = [
        sys.executable,
        "-m",
        "zoo_cli",
        "apply",
        "ptq(observer=minmax,symmetric=true)",
        "unet",
        "--seed",
        "0",
        "--out",
        "ptq",
    ]
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "ZOO_PLUGINS": "",
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("ZOO_CACHE", None)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    assert hashlib.sha256((tmp_path / "ptq" / "model.onnx").read_bytes()).hexdigest() == MODEL
