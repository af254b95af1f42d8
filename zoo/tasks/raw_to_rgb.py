"""The task of developing RAW files."""

from __future__ import annotations

from typing import ClassVar

from zoo.tasks.image_to_image import ImageToImageTask


class RawToRgbTask(ImageToImageTask):
    """Images from packed sensor data."""

    id: ClassVar[str] = "raw-to-rgb"
    summary: ClassVar[str] = "sRGB images from RAW files"
    outputs: ClassVar[tuple[str, ...]] = ("rgb",)
    data: ClassVar[str] = "darkroom"
    data_hint: ClassVar[str] = "Try --data darkroom"
    #: Networks of this task are U-Nets as a rule, whose deepest stages hold most weights and matter least.
    space: ClassVar[str] = f"stage-prune?+{ImageToImageTask.space}"
