"""What decoding in a child process costs: time and memory, against decoding in this process."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zoo.raw.decode import RawFrame, decode
from zoo.raw.dng import dng_bytes
from zoo.raw.isolated import IsolatedDecoder

SIZES = {"2 megapixels": (1156, 1734), "24 megapixels": (4000, 6000)}
MATRIX = np.array([[0.6461, -0.1164, -0.0857], [-0.3825, 1.1597, 0.2534], [-0.0416, 0.1540, 0.6]])


def sample(shape: tuple[int, int]) -> bytes:
    """An uncompressed DNG of noise around a grey."""
    pixels = np.random.default_rng(0).normal(2000, 50, shape).astype(np.uint16)
    cell = np.array([[0, 1], [3, 2]])
    return dng_bytes(RawFrame(pixels, cell, (512,) * 4, (16383,) * 4, (2, 1, 1.5)), xyz_to_camera=MATRIX)


def timed(work: Callable[[], RawFrame], rounds: int) -> tuple[float, RawFrame]:
    """Median seconds, the pixels being read once too, as packing does."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        frame = work()
        int(frame.mosaic.max())
        times.append(time.perf_counter() - started)
    return statistics.median(times), frame


def memory_of(process: int) -> dict[str, float]:
    """The child's resident set now, at its peak, and what of it is its own, in MB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    share = next(line for line in rollup if line.startswith("Pss:"))
    kilobytes = {"now": status["VmRSS"], "peak": status["VmHWM"], "share": share.split(":")[1]}
    return {name: int(value.split()[0]) / 1024 for name, value in kilobytes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.dng")
        path.write_bytes(sample((64, 96)))
        starts = []
        for _ in range(rounds):
            started = time.perf_counter()
            with IsolatedDecoder() as decoder:
                decoder.decode(path)
                starts.append(time.perf_counter() - started)
        print(
            f"first file of 64 x 96 pixels, the child's start included: {statistics.median(starts) * 1e3:.0f} ms"
        )
        print("| file | here ms | in the child ms | more ms | child's RSS peak MB | idle MB | its share MB |")
        for name, shape in SIZES.items():
            path.write_bytes(sample(shape))
            inside, expected = timed(lambda: decode(path), rounds)
            with IsolatedDecoder() as decoder:
                decoder.decode(path)
                outside, found = timed(lambda: decoder.decode(path), rounds)
                assert np.array_equal(found.mosaic, expected.mosaic)
                assert decoder.process_id is not None
                memory = memory_of(decoder.process_id)
            print(
                f"| {name} | {inside * 1e3:.0f} | {outside * 1e3:.0f} | {(outside - inside) * 1e3:.0f} "
                f"| {memory['peak']:.0f} | {memory['now']:.0f} | {memory['share']:.0f} |"
            )


if __name__ == "__main__":
    main()
