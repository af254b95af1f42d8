"""The classical path on darkroom images: LibRaw's development, brightness matched, then a denoiser.

    python docs/benchmarks/quality/classical.py [--photos DIR] [--split test]

LibRaw develops the dark file to linear 16-bit sRGB with the camera's white balance. The result is amplified by the
gain that brings its mean to that of the photograph wanted (which no photographer knows; it favours this path),
put on the sRGB curve, and denoised with each of scikit-image's denoisers at several strengths. The strength is
chosen for each image by looking at the photograph, which favours this path once more.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Iterator

import numpy as np
import rawpy
from skimage.restoration import (
    denoise_bilateral,
    denoise_nl_means,
    denoise_tv_chambolle,
    denoise_wavelet,
    estimate_sigma,
)

from zoo.data.darkroom import Darkroom, DarkroomConfig, Exposure
from zoo.images.srgb import linear_to_srgb
from zoo.tasks.image_scores import compare_images

Denoiser = Callable[[np.ndarray], np.ndarray]


def develop(exposure: Exposure) -> np.ndarray:
    """The (H, W, 3) picture in [0, 1] of LibRaw, with the brightness of the photograph."""
    with rawpy.imread(io.BytesIO(exposure.dng)) as raw:
        developed = raw.postprocess(
            use_camera_wb=True, no_auto_bright=True, gamma=(1, 1), output_bps=16, user_flip=0
        )
    linear = developed.astype(np.float32) / 65535 * exposure.shot.ratio
    wanted = exposure.target.mean()
    low, high = 0.05, 20.0
    for _ in range(30):  # the mean on the sRGB curve grows with the gain
        gain = (low * high) ** 0.5
        low, high = (
            (gain, high) if linear_to_srgb(np.clip(linear * gain, 0, 1)).mean() < wanted else (low, gain)
        )
    return linear_to_srgb(np.clip(linear * gain, 0, 1))


def denoisers(picture: np.ndarray) -> Iterator[tuple[str, Denoiser]]:
    """Each denoiser at several strengths, around the noise estimated from the picture."""
    sigma = float(np.mean(estimate_sigma(picture, channel_axis=-1)))
    yield "none", lambda p: p
    for weight in (0.1, 0.2, 0.4, 0.8):
        yield "total variation", lambda p, w=weight: denoise_tv_chambolle(p, weight=w, channel_axis=-1)
    for factor in (1.0, 2.0, 4.0):
        yield (
            "wavelet",
            lambda p, f=factor: denoise_wavelet(p, sigma=sigma * f, channel_axis=-1, convert2ycbcr=True),
        )
    for factor in (0.6, 1.0, 1.6):
        yield (
            "non-local means",
            lambda p, f=factor: denoise_nl_means(
                p, h=sigma * f, sigma=sigma, patch_size=5, patch_distance=6, fast_mode=True, channel_axis=-1
            ),
        )
    yield (
        "bilateral",
        lambda p: denoise_bilateral(p, sigma_color=0.3, sigma_spatial=2, win_size=7, channel_axis=-1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", action="append", default=[])
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    arguments = parser.parse_args()
    dataset = Darkroom(DarkroomConfig(photos=tuple(arguments.photos)))
    table: dict[str, dict[str, list[float]]] = {}
    for _, exposure in dataset.exposures(arguments.split):
        developed = develop(exposure)
        target = exposure.target.transpose(2, 0, 1)
        best: dict[str, tuple[float, float]] = {}
        for name, denoise in denoisers(developed):
            scores = compare_images(denoise(developed).transpose(2, 0, 1), target)
            best[name] = max(best.get(name, (0.0, 0.0)), (scores["psnr_db"], scores["ssim"]))
        for name, (psnr, ssim) in best.items():
            row = table.setdefault(name, {"psnr_db": [], "ssim": []})
            row["psnr_db"].append(psnr)
            row["ssim"].append(ssim)
    print(
        json.dumps(
            {n: {k: round(float(np.mean(v)), 3) for k, v in row.items()} for n, row in table.items()},
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
