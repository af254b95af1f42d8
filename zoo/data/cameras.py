"""Noise and colour of real cameras, for simulating dark exposures.

Noise figures: the calibration published with Wei et al., "A Physics-based Noise Formation Model for Extreme
Low-light Raw Denoising", CVPR 2020 (ELD, MIT licence), for 14-bit files. Colour matrices: the D65 matrices
XYZ -> camera that LibRaw uses for these models.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LogLinear:
    """log(scale) is normal with mean ``slope * log(K) + bias`` and deviation `sigma`; scale in sensor units."""

    slope: float
    bias: float
    sigma: float


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes:
        black: Black level in sensor units.
        white: White level in sensor units.
        gain_range: System gain K, sensor units per electron.
        read: Scale of the Tukey-lambda read noise, whose shape is drawn from `shapes`.
        shapes: Shapes of the read noise.
        row: Banding, one value per row.
        red_gain: Range of the white-balance gain of red under usual light.
        blue_gain: The same for blue.
        xyz_to_camera: Colour matrix for D65, row by row, times 10,000.
    """

    name: str
    black: int
    white: int
    gain_range: tuple[float, float]
    read: LogLinear
    shapes: tuple[float, ...]
    row: LogLinear
    red_gain: tuple[float, float]
    blue_gain: tuple[float, float]
    xyz_to_camera: tuple[int, int, int, int, int, int, int, int, int]


CAMERAS = (
    Camera(
        "Sony A7S II", 512, 16383, (0.09392, 6.0106),
        LogLinear(0.4621, 0.5657, 0.2634), (-0.143, -0.114, -0.086, 0.0, 0.129),
        LogLinear(0.5275, -0.5918, 0.2943), (1.8, 2.6), (1.4, 2.2),
        (5838, -1430, -246, -3497, 11477, 2297, -748, 1885, 5778),
    ),
    Camera(
        "Nikon D850", 400, 16383, (0.41504, 26.5625),
        LogLinear(0.4774, -0.0904, 0.2392), (-0.243, -0.218, -0.186, -0.136, -0.1),
        LogLinear(0.4483, -1.7977, 0.2322), (1.7, 2.3), (1.2, 1.8),
        (10405, -3755, -1270, -5461, 13787, 1793, -1040, 2015, 6785),
    ),
    Camera(
        "Canon EOS 5D Mark IV", 2048, 16383, (0.21819, 13.9641),
        LogLinear(0.6559, 1.0927, 0.2860), (0.014, 0.061, 0.086, 0.114, 0.2),
        LogLinear(0.4713, -0.8079, 0.2436), (1.7, 2.3), (1.4, 2.0),
        (6446, -366, -864, -4436, 12204, 2513, -952, 2496, 6348),
    ),
    Camera(
        "Canon EOS 70D", 2048, 15488, (0.40750, 26.0798),
        LogLinear(0.4869, 1.4643, 0.3820), (-0.171, -0.114, -0.057, 0.05, 0.143),
        LogLinear(0.7292, -0.9371, 0.2502), (1.7, 2.3), (1.4, 2.0),
        (7034, -804, -1014, -4420, 12564, 2058, -851, 1994, 5758),
    ),
    Camera(
        "Canon EOS 700D", 2048, 15303, (0.44763, 28.6482),
        LogLinear(0.5982, 1.5370, 0.3888), (-0.157, -0.107, -0.007, 0.036, 0.129),
        LogLinear(0.6221, -0.7756, 0.2485), (1.7, 2.3), (1.4, 2.0),
        (6602, -841, -939, -4472, 12458, 2247, -975, 2039, 6148),
    ),
)  # fmt: skip
