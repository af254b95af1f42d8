"""Train `swift-unet` on photographs made into RAW files of any exposure; can be stopped and goes on where it was.

    python docs/benchmarks/flagship/train.py --photos DIR --minutes 80 --state DIR [--threads 1]

Each crop is a photograph taken back to the light on the sensor and exposed by `darkroom`'s cameras at 1 to 300 times
too little light. The loss is the mean absolute difference of the pictures as `zoo run` writes them, in sRGB, at full
and at a quarter of the resolution. The learning rate follows a cosine over the minutes, which count what was trained,
not what passed. `DIR/log.csv` gets a line a minute; `DIR/weights.safetensors` holds the averaged weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo.architectures.swift_unet import SwiftUNetArchitecture
from zoo.data.cameras import CAMERAS, Camera, LogLinear
from zoo.data.darkroom import _random_scene
from zoo.data.exposure import draw_shot, expose
from zoo.data.picture_folders import ImageSet
from zoo.raw.noise import NoiseProfile
from zoo.raw.pack import pack_mosaic
from zoo.raw.tone import KNEE, encode

SPEC = SwiftUNetArchitecture.input
SPAN = math.asinh(1 / KNEE)
RATIOS = (1.0, 300.0)


def vary(camera: Camera, rng: np.random.Generator) -> Camera:
    """Another camera: a mixture of two colour matrices, other read noise and banding, sometimes a phone's range."""
    other, share = CAMERAS[int(rng.integers(len(CAMERAS)))], rng.random()
    matrix = tuple(
        round(share * a + (1 - share) * b)
        for a, b in zip(camera.xyz_to_camera, other.xyz_to_camera, strict=True)
    )
    shift = rng.normal(0, 0.4)
    read = dataclasses.replace(camera.read, bias=camera.read.bias + shift)
    row = dataclasses.replace(camera.row, bias=camera.row.bias + shift + rng.normal(-0.3, 0.5))
    changed = dataclasses.replace(camera, xyz_to_camera=matrix, read=read, row=row)
    if rng.random() < 0.3:  # ten bits, a small sensor: calibrated at k 0.97 with a deviation of 1.7 (PMRID)
        changed = dataclasses.replace(
            changed, black=64, white=1023, gain_range=(0.04, 4.0), shapes=(0.14,),
            read=LogLinear(0.7, math.log(0.55), 0.3), row=LogLinear(0.7, math.log(0.1), 0.4),
        )  # fmt: skip
    return changed


class Quick(np.random.Generator):
    """Draws the counts of many photons from a normal distribution, which takes a fifth of the time."""

    def poisson(self, lam: np.ndarray) -> np.ndarray:  # type: ignore[override]
        counts = np.sqrt(lam) * self.standard_normal(lam.shape, dtype=np.float32)
        counts = np.rint(counts + lam)
        few = lam < 30
        if few.any():
            counts[few] = super().poisson(lam[few])
        return counts


class Crops:
    """Batches of (inputs, targets on the curve, matrices to sRGB)."""

    def __init__(self, photos: list[str], seed: int) -> None:
        self._set = ImageSet(photos, packaged=True)
        self.pictures = self._set.of("train") + self._set.of("val")
        for picture in self.pictures:
            self._set.pixels(picture)
        self._seed = seed

    def batch(self, number: int, size: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = Quick(np.random.PCG64((self._seed, number)))
        made = [self._crop(side, rng) for _ in range(size)]
        inputs, targets, matrices = (torch.from_numpy(np.stack(each)) for each in zip(*made, strict=True))
        return inputs, targets, matrices

    def _crop(self, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        picture = self.pictures[int(rng.integers(len(self.pictures)))]
        linear = _random_scene(self._set.pixels(picture), 2 * side, rng)
        shot = draw_shot(rng, CAMERAS, RATIOS)
        if rng.random() < 0.5:
            shot = draw_shot(rng, (vary(shot.camera, rng),), RATIOS)
        frame = expose(linear, shot, rng)
        assert frame.noise is not None
        assert frame.to_srgb is not None
        if rng.random() < 0.2:  # hot and dead pixels
            hit = rng.random(frame.mosaic.shape) < 10 ** rng.uniform(-5, -3)
            frame.mosaic[hit] = rng.integers(shot.camera.black, shot.camera.white, int(hit.sum()))
        # What a file states, or what is estimated, is not exact.
        told = tuple(float(v) for v in np.exp(rng.normal(0, 0.2, 2)))
        noise = NoiseProfile(
            tuple(v * told[0] for v in frame.noise.shot),  # type: ignore[arg-type]
            tuple(v * told[1] for v in frame.noise.read),  # type: ignore[arg-type]
        )
        inputs = pack_mosaic(dataclasses.replace(frame, noise=noise), SPEC, shot.ratio).data
        to_srgb = np.array(frame.to_srgb, dtype=np.float32).reshape(3, 3)
        camera = np.clip(linear @ np.linalg.inv(to_srgb).T, 0, 1).transpose(2, 0, 1)
        return inputs, encode(np.ascontiguousarray(camera)), to_srgb


def picture(values: Tensor, matrices: Tensor) -> Tensor:
    """What the runner makes of the network's output, differentiably: sRGB, (N, 3, H, W)."""
    linear = torch.sinh(values.clamp(-0.2, 1.02) * SPAN) * KNEE
    srgb = torch.einsum("nij,njhw->nihw", matrices, linear).clamp(0, 1)
    curve = 1.055 * srgb.clamp_min(0.0031308).pow(1 / 2.4) - 0.055
    return torch.where(srgb <= 0.0031308, srgb * 12.92, curve)


def loss_of(outputs: Tensor, targets: Tensor, matrices: Tensor) -> Tensor:
    made, wanted = picture(outputs, matrices), picture(targets, matrices)
    difference = made - wanted
    coarse = nn.functional.avg_pool2d(difference, 4).abs().mean()
    return difference.abs().mean() + 0.5 * coarse + 0.2 * (outputs - targets).abs().mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", action="append", default=[])
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="weights to begin with, in place of random ones")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    crops = Crops(arguments.photos, arguments.seed)
    model = SwiftUNetArchitecture().build().to(device, memory_format=torch.channels_last)
    if arguments.start:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(arguments.start))
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.rate, weight_decay=1e-4)
    arguments.state.mkdir(parents=True, exist_ok=True)
    saved = arguments.state / "state.pt"
    step, trained = 0, 0.0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, step, trained = state["average"], state["step"], state["trained"]

    def save() -> None:
        partial = saved.with_suffix(".partial")
        torch.save(
            {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average,
                "step": step, "trained": trained,
            },
            partial,
        )  # fmt: skip
        partial.rename(saved)
        save_file(
            {name: value.contiguous() for name, value in average.items()},
            arguments.state / "weights.safetensors",
        )

    losses: list[float] = []
    waited, logged, stored = 0.0, time.monotonic(), time.monotonic()
    while trained < 60 * arguments.minutes:
        started = time.monotonic()
        progress = trained / (60 * arguments.minutes)
        size, side = (8, 64) if progress < 0.5 else (4, 96)
        inputs, targets, matrices = (each.to(device) for each in crops.batch(step, size, side))
        waited += time.monotonic() - started
        rate = arguments.rate * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = max(rate, 1e-6)
        with torch.autocast(device, torch.bfloat16):
            outputs = model(inputs.contiguous(memory_format=torch.channels_last))
        loss = loss_of(outputs.float(), targets, matrices)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        kept = min(0.999, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - kept)
        losses.append(loss.item())
        trained += time.monotonic() - started
        if time.monotonic() - logged > 60:
            share = waited / (time.monotonic() - logged)
            with (arguments.state / "log.csv").open("a") as log:
                log.write(f"{step},{trained / 60:.2f},{np.mean(losses):.5f},{rate:.2e},{share:.3f}\n")
            losses, waited, logged = [], 0.0, time.monotonic()
        if time.monotonic() - stored > 180:
            save()
            stored = time.monotonic()
    save()


if __name__ == "__main__":
    main()
