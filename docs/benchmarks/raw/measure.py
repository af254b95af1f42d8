"""What decoding in a child process costs, in time and memory, against decoding in this process.

    python docs/benchmarks/raw/measure.py [--rounds 25]

The shortest of the rounds counts: what is longer was other work on the machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zoo.raw.decode import RawFrame, decode
from zoo.raw.dng import dng_bytes
from zoo.raw.subprocess_decoder import SubprocessDecoder

SIZES = {"2 megapixels": (1156, 1734), "24 megapixels": (4000, 6000)}
MATRIX = np.array([[0.6461, -0.1164, -0.0857], [-0.3825, 1.1597, 0.2534], [-0.0416, 0.1540, 0.6]])


def sample(shape: tuple[int, int]) -> bytes:
    """An uncompressed DNG of noise around a grey."""
    pixels = np.random.default_rng(0).normal(2000, 50, shape).astype(np.uint16)
    cell = np.array([[0, 1], [3, 2]])
    return dng_bytes(RawFrame(pixels, cell, (512,) * 4, (16383,) * 4, (2, 1, 1.5)), xyz_to_camera=MATRIX)


def timed(work: Callable[[], RawFrame]) -> float:
    """Milliseconds of decoding once, the pixels being read once too, as packing does."""
    started = time.perf_counter()
    int(work().mosaic.max())
    return (time.perf_counter() - started) * 1e3


def memory_of(process: int) -> dict[str, float]:
    """The child's resident set now, at its peak, and what of it is its own, in MB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    share = next(line for line in rollup if line.startswith("Pss:"))
    kilobytes = {"now": status["VmRSS"], "peak": status["VmHWM"], "share": share.split(":")[1]}
    return {name: int(value.split()[0]) / 1024 for name, value in kilobytes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.dng")
        path.write_bytes(sample((64, 96)))
        starts = []
        for _ in range(rounds):
            with SubprocessDecoder() as decoder:
                starts.append(timed(lambda decoder=decoder: decoder.decode(path)))
        print(f"first file of 64 x 96 pixels, the child's start included: {min(starts):.0f} ms")
        print("| file | here ms | in the child ms | child's RSS peak MB | idle MB | its share MB |")
        print("|---|---:|---:|---:|---:|---:|")
        for name, shape in SIZES.items():
            path.write_bytes(sample(shape))
            with SubprocessDecoder() as decoder:
                assert np.array_equal(decoder.decode(path).mosaic, decode(path).mosaic)
                assert decoder.process_id is not None
                inside, outside = [], []
                for _ in range(rounds):  # in turns, so that other work on the machine slows both alike
                    inside.append(timed(lambda: decode(path)))
                    outside.append(timed(lambda decoder=decoder: decoder.decode(path)))
                memory = memory_of(decoder.process_id)
            print(
                f"| {name} | {min(inside):.0f} | {min(outside):.0f} "
                f"| {memory['peak']:.0f} | {memory['now']:.0f} | {memory['share']:.0f} |"
            )


if __name__ == "__main__":
    main()
