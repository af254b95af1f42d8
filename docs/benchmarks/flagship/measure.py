"""Compare checkpoints with LibRaw's development over exposures from correct to 300 times too dark.

    python docs/benchmarks/flagship/measure.py --photos DIR --out results.jsonl [--images 12] ARTIFACT...

Each photograph of DIR becomes a DNG file by `darkroom`'s cameras: a random camera and gain at each ratio ("any"), and
the lowest, the middle and the highest gain of the camera at some. What is already in the output is not done again.
`--table` prints the means of what there is.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pmrid
import rawpy

from zoo import plugins
from zoo.checkpoints.resolver import locate_artifact
from zoo.data.cameras import CAMERAS
from zoo.data.darkroom import Exposure
from zoo.data.exposure import colour_matrix, draw_shot, expose
from zoo.data.picture_folders import folder_pictures, read_picture
from zoo.evaluation.evaluator import deployed_architecture
from zoo.evaluation.predict import make_predictor
from zoo.images.srgb import linear_to_srgb, srgb_to_linear
from zoo.onnx.check import load_checked_model
from zoo.raw.decode import decode
from zoo.raw.develop import matrix_of
from zoo.raw.dng import dng_bytes
from zoo.raw.pack import pack_mosaic
from zoo.tasks.image_scores import compare_images

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "quality"))

from classical import denoisers

RATIOS = (1, 2, 4, 10, 30, 100, 200, 300)
GAINS = {"lowest": 0.0, "middle": 0.5, "highest": 1.0}
RATIOS_BY_GAIN = (1, 4, 30)


def exposures(path: Path, done: Callable[[str, int], bool]) -> Iterator[tuple[str, int, Exposure]]:
    """Yield (gain, ratio, exposure) of a photograph; deterministic, and the same scene light at every ratio."""
    pixels = read_picture(path)
    linear = srgb_to_linear(pixels)
    picture = pixels.astype(np.float32) / 255
    cases = [("any", ratio) for ratio in RATIOS] + [
        (gain, ratio) for gain in GAINS for ratio in RATIOS_BY_GAIN
    ]
    for gain, ratio in cases:
        if done(gain, ratio):
            continue
        rng = np.random.default_rng((7, *path.stem.encode()))
        shot = dataclasses.replace(draw_shot(rng, CAMERAS, (1.0, 1.0)), ratio=float(ratio))
        if gain in GAINS:
            low, high = shot.camera.gain_range
            shot = dataclasses.replace(
                shot, gain=math.exp(math.log(low) + GAINS[gain] * math.log(high / low))
            )
        frame = expose(linear, shot, rng)
        data = dng_bytes(frame, xyz_to_camera=colour_matrix(shot.camera), camera=shot.camera.name)
        yield gain, ratio, Exposure(data, picture, shot)


def by_libraw(exposure: Exposure, dng: bytes | None = None, ratio: float = 0.0) -> np.ndarray:
    """LibRaw's picture, (3, H, W), at the brightness whose mean is that of the photograph, which favours it.

    It is that of the exposure, or of another file, which is `ratio` times too dark.
    """
    with rawpy.imread(io.BytesIO(dng or exposure.dng)) as raw:
        developed = raw.postprocess(
            use_camera_wb=True, no_auto_bright=True, gamma=(1, 1), output_bps=16, user_flip=0
        )
    linear = developed.astype(np.float32) / 65535 * (ratio or exposure.shot.ratio)
    wanted = exposure.target.mean()
    small = linear[::3, ::3]
    low, high = 0.05, 20.0
    for _ in range(24):
        gain = (low * high) ** 0.5
        dark = linear_to_srgb(np.clip(small * gain, 0, 1)).mean() < wanted
        low, high = (gain, high) if dark else (low, gain)
    return linear_to_srgb(np.clip(linear * gain, 0, 1)).transpose(2, 0, 1)


def by_network(name: str) -> Callable[[Exposure], np.ndarray]:
    artifact = locate_artifact(name)
    architecture = deployed_architecture(artifact)
    predict = make_predictor(plugins.engine("onnxruntime").open(load_checked_model(artifact)), architecture)

    def picture(exposure: Exposure) -> np.ndarray:
        frame = decode(exposure.dng)
        to_srgb = matrix_of(frame) if architecture.output.colors == "camera" else None
        made = predict(pack_mosaic(frame, architecture.input, exposure.shot.ratio).data, to_srgb)
        return made[:, : exposure.target.shape[0], : exposure.target.shape[1]]

    return picture


def by_denoiser(exposure: Exposure) -> np.ndarray:
    """LibRaw's picture after the denoiser of scikit-image and the strength that suit it best, which favours it."""
    developed = by_libraw(exposure).transpose(1, 2, 0)
    target = exposure.target.transpose(2, 0, 1)
    made = (denoise(developed).transpose(2, 0, 1) for _, denoise in denoisers(developed))
    return min(made, key=lambda picture: float(np.mean((np.clip(picture, 0, 1) - target) ** 2)))


def by_pmrid(weights: Path) -> Callable[[Exposure], np.ndarray]:
    network = pmrid.load(weights)

    def picture(exposure: Exposure) -> np.ndarray:
        clean = pmrid.denoise(network, decode(exposure.dng), exposure.shot.ratio)
        return by_libraw(exposure, dng_bytes(clean, xyz_to_camera=colour_matrix(exposure.shot.camera)), 1.0)

    return picture


def table(rows: list[dict]) -> str:
    """Markdown tables of the means, PSNR and SSIM."""
    found: dict[tuple[str, int, str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        found[row["gain"], row["ratio"], row["path"]].append((row["psnr_db"], row["ssim"]))
    paths = list(dict.fromkeys(row["path"] for row in rows))
    lines = []
    for gains in (("any",), tuple(GAINS)):
        columns = [(gain, ratio) for gain in gains for ratio in (RATIOS if gain == "any" else RATIOS_BY_GAIN)]
        columns = [each for each in columns if any((*each, path) in found for path in paths)]
        heads = [f"x{ratio}" if gain == "any" else f"{gain} gain, x{ratio}" for gain, ratio in columns]
        lines += ["", "| path | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
        for path in paths:
            cells = []
            for column in columns:
                scores = found.get((*column, path))
                cells.append("" if not scores else "{:.2f} / {:.3f}".format(*np.mean(scores, axis=0)))
            lines.append(f"| {path} | " + " | ".join(cells) + " |")
    return "\n".join(lines[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifacts", nargs="*")
    parser.add_argument("--photos", action="append", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int)
    parser.add_argument("--pmrid", type=Path, help="its weights, to compare with it")
    parser.add_argument(
        "--denoisers", action="store_true", help="compare with those of scikit-image, at oracle strength"
    )
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    rows = (
        [json.loads(line) for line in arguments.out.read_text().splitlines()]
        if arguments.out.exists()
        else []
    )
    if arguments.table:
        print(table(rows))
        return
    done = {(row["photo"], row["gain"], row["ratio"], row["path"]) for row in rows}
    paths: dict[str, Callable[[Exposure], np.ndarray]] = {"LibRaw": by_libraw}
    if arguments.denoisers:
        paths["LibRaw, denoised"] = by_denoiser
    if arguments.pmrid:
        paths["LibRaw, PMRID"] = by_pmrid(arguments.pmrid)
    paths |= {Path(name).name: by_network(name) for name in arguments.artifacts}
    pictures = [each for folder in arguments.photos for each in folder_pictures(Path(folder))]
    with arguments.out.open("a") as out:
        for picture in pictures[: arguments.images]:
            name = picture.scene

            def skip(gain: str, ratio: int, name: str = name) -> bool:
                return all((name, gain, ratio, path) in done for path in paths)

            for gain, ratio, exposure in exposures(picture.path, skip):
                target = exposure.target.transpose(2, 0, 1)
                for path, make in paths.items():
                    if (name, gain, ratio, path) in done:
                        continue
                    scores = compare_images(make(exposure), target)
                    row = {"photo": name, "gain": gain, "ratio": ratio, "path": path}
                    row |= {key: round(scores[key], 4) for key in ("psnr_db", "ssim")}
                    out.write(json.dumps(row) + "\n")
                    out.flush()


if __name__ == "__main__":
    main()
