"""Train `swift-unet` or `tiny-unet` on photographs made into RAW files of any exposure; type it again to resume.

    python docs/benchmarks/flagship/train.py --photos DIR --minutes 80 --state DIR [--threads 1]

Each crop is a photograph taken back to the light on the sensor and exposed by `darkroom`'s cameras at 1 to 300 times
too little light; every other batch is of dark exposures alone. The loss is minus the mean PSNR of the pictures as `zoo
run` writes them, in sRGB, so that no exposure outweighs another, with their structural dissimilarity, and the mean
absolute difference at a quarter of the resolution. Crops grow as training goes on: what is very dark needs
surroundings. The learning rate follows a cosine over the minutes, which count what was trained, not what passed.
`DIR/log.csv` gets a line a minute; `DIR/weights.safetensors` holds the averaged weights.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo import plugins
from zoo.contracts import Architecture
from zoo.data.darkroom import Darkroom, DarkroomConfig
from zoo.raw.tone import KNEE
from zoo.training.weights import load_start

#: Every other batch is at least this many times too dark.
DARK = 30.0
#: Crops of a batch and their side, in cells of the mosaic, from each share of the training on.
SHAPES = ((0.0, (8, 64)), (0.4, (4, 96)), (0.75, (2, 128)))
SPAN = math.asinh(1 / KNEE)


def batches(
    dataset: Darkroom, architecture: Architecture, seed: int, start: int, size: int, side: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (inputs, targets on the curve, matrices to sRGB)."""
    crops = dataset.crops(architecture, side, seed, start)
    while True:
        made = list(islice(crops, size))
        columns = [
            [each.inputs for each in made],
            [each.target for each in made],
            [each.to_srgb for each in made],
        ]
        inputs, targets, matrices = (torch.from_numpy(np.stack(column)) for column in columns)
        yield inputs, targets, matrices


def picture(values: Tensor, matrices: Tensor) -> Tensor:
    """What the runner makes of the network's output, differentiably: sRGB, (N, 3, H, W)."""
    linear = torch.sinh(values.clamp(-0.2, 1.02) * SPAN) * KNEE
    srgb = torch.einsum("nij,njhw->nihw", matrices, linear).clamp(0, 1)
    curve = 1.055 * srgb.clamp_min(0.0031308).pow(1 / 2.4) - 0.055
    return torch.where(srgb <= 0.0031308, srgb * 12.92, curve)


def structure(made: Tensor, wanted: Tensor) -> Tensor:
    """The mean structural similarity of pictures, over windows of 7 x 7 pixels."""

    def mean(values: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(values, 7, 1)

    a, b = mean(made), mean(wanted)
    spread = mean(made * made) - a * a + mean(wanted * wanted) - b * b
    common = mean(made * wanted) - a * b
    light = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    return (light * (2 * common + 9e-4) / (spread + 9e-4)).mean()


def loss_of(outputs: Tensor, targets: Tensor, matrices: Tensor) -> Tensor:
    made, wanted = picture(outputs, matrices), picture(targets, matrices)
    difference = made - wanted
    squares = difference.square().mean(dim=(1, 2, 3)) + 1e-5
    coarse = nn.functional.avg_pool2d(difference, 4).abs().mean()
    near = 0.5 * coarse + 0.2 * (outputs - targets).abs().mean()
    return 0.1 * squares.log().mean() + near + 0.2 * (1 - structure(made, wanted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="swift-unet")
    parser.add_argument("--photos", action="append", default=[])
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--start", type=Path, help="artifact or weights to begin with, in place of random ones"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    short = (
        device == "cuda" or torch.cpu._is_avx512_bf16_supported()
    )  # elsewhere bfloat16 is slower than float32
    photos = tuple(arguments.photos)
    of_any, of_dark = (
        Darkroom(DarkroomConfig(photos=photos, min_ratio=least, varied=True)) for least in (1.0, DARK)
    )
    architecture = plugins.architecture(arguments.architecture)
    model = architecture.build().to(device, memory_format=torch.channels_last)
    if arguments.start:
        load_start(model, architecture, str(arguments.start))
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

    taken: tuple[int, int] | None = None
    losses: list[float] = []
    waited, logged, stored = 0.0, time.monotonic(), time.monotonic()
    while trained < 60 * arguments.minutes:
        started = time.monotonic()
        progress = trained / (60 * arguments.minutes)
        shape = [shape for least, shape in SHAPES if progress >= least][-1]
        if shape != taken:
            taken = shape
            crops = [
                batches(each, architecture, arguments.seed, 8 * step, *shape) for each in (of_any, of_dark)
            ]
        dark = step % 2
        inputs, targets, matrices = (each.to(device) for each in next(crops[dark]))
        waited += time.monotonic() - started
        rate = arguments.rate * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = max(rate, 1e-6)
        with torch.autocast(device, torch.bfloat16, enabled=short):
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
