"""What a pull costs, against huggingface_hub's download of the same file: medians of interleaved runs.

    python docs/benchmarks/pull/measure.py [--rounds 9] [--mb 200]

Both fetch from the Hub on loopback of the test tree, each time into an empty cache, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import huggingface_hub

from zoo.artifacts import Manifest, open_artifact, write_artifact
from zoo.contracts import InputSpec, OutputSpec
from zoo.registry import entry_for

TESTS = Path(__file__).resolve().parents[3] / "tests"
HUB = """
import time
from huggingface_hub import hf_hub_download
started = time.perf_counter()
hf_hub_download("tester/big", "model.onnx", revision={commit!r})
print(time.perf_counter() - started)
"""
ZOO = """
import time
from zoo.download import pull
started = time.perf_counter()
assert pull("big").fresh == {fresh}
print(time.perf_counter() - started)
"""


def seconds(code: str, environment: dict[str, str]) -> tuple[float, float]:
    """Time of the call, and of the whole process with its imports."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout), time.perf_counter() - started


def measure(root: Path, size: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    spec = InputSpec("rgb", 3, example=(64, 64), fixed_size=True)
    manifest = Manifest("timm:resnet18", "", "sha256:" + "0" * 64, spec, OutputSpec("logits", 10))
    write_artifact(root / "big", manifest, {"model.onnx": os.urandom(size)})
    server = subprocess.Popen(
        [sys.executable, str(TESTS / "loopback_hub.py"), "--repo", f"tester/big={root / 'big'}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        commit = told["commits"]["tester/big"]
        entry = entry_for(open_artifact(root / "big"), "big", sources=[f"hf:tester/big@{commit}"])
        (root / "registry.toml").write_text(f"format = 1\n\n{entry}")
        environment = os.environ | {
            "HF_ENDPOINT": told["url"],
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_CACHE": str(root / "hub"),
            "NO_PROXY": "127.0.0.1",
            "ZOO_CACHE": str(root / "zoo"),
            "ZOO_REGISTRY": str(root / "registry.toml"),
        }
        times: dict[str, list[tuple[float, float]]] = {
            "huggingface_hub": [],
            "zoo": [],
            "zoo, nothing to do": [],
        }
        for turn in range(rounds + 1):
            for name, code in (
                ("huggingface_hub", HUB.format(commit=commit)),
                ("zoo", ZOO.format(fresh=True)),
                ("zoo, nothing to do", ZOO.format(fresh=False)),
            ):
                taken = seconds(code, environment)
                if turn:  # the first turn writes byte code and fills the page cache
                    times[name].append(taken)
            shutil.rmtree(root / "hub")
            shutil.rmtree(root / "zoo")
        return times
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--mb", type=int, default=200)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times = measure(Path(folder), chosen.mb * 1_000_000, chosen.rounds)
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in times.items()
    }
    versions = f"Python {platform.python_version()}, huggingface_hub {huggingface_hub.__version__}"
    print(
        f"{versions}, {platform.machine()}, {os.cpu_count()} processors, {chosen.mb} MB, {chosen.rounds} rounds\n"
    )
    print(
        "| | call s | times huggingface_hub | process s | times huggingface_hub |\n|---|---:|---:|---:|---:|"
    )
    base = medians["huggingface_hub"]
    for name, (call, process) in medians.items():
        print(f"| {name} | {call:.3f} | {call / base[0]:.2f} | {process:.3f} | {process / base[1]:.2f} |")


if __name__ == "__main__":
    main()
