"""The contract of architectures: a named network, with what is needed to compress it."""

# Annotations are not postponed: opening an artifact would have to evaluate their texts, which takes a millisecond.
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from zoo.contracts.contract_version import CONTRACT_VERSION
from zoo.contracts.input_parts import InputPart, Packing, pack_inputs, packing_of
from zoo.contracts.limits import Key, Limits

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

#: The kinds of output of a network; see :class:`OutputSpec`.
OutputKind = Literal["rgb", "gray", "mask", "classes", "logits", "boxes", "tensor"]
#: How images are resized, by Pillow's names.
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
#: The most pixels of a side of an image.
LARGEST_SIDE = 1 << 16
#: The most inputs of a network.
MOST_PARTS = 64
#: `InputSpec.halo` of a network whose every output depends on the whole frame.
WHOLE_FRAME = LARGEST_SIDE
#: The task of a network that only states the kind of its output. Images are developed from RAW files or made of images.
TASKS: Mapping[str, str] = {
    "rgb": "raw-to-rgb",
    "gray": "image-to-image",
    "mask": "segmentation",
    "classes": "segmentation",
    "logits": "classification",
    "boxes": "detection",
    "tensor": "any",
}


@dataclass(frozen=True)
class InputSpec:
    """The input of a network.

    Attributes:
        kind: "packed-raw" (amplified sensor data, one channel per colour-filter position), "rgb", "gray", or "tensor"
            (numbers in any range, which a program prepares).
        channels: Channels of the input tensor (N, channels, H, W), float32, in [0, 1] unless it is a tensor.
        multiple_of: H and W must be multiples of this.
        example: (H, W) of the input tensor used for tracing and for the cost figures.
        fixed_size: Whether only `example` is accepted.
        mosaic: "bayer" (2x2 cell, 4 channels), "xtrans" (6x6 cell, 9 channels) or None.
        white_balance: Whether the camera's white-balance gains are applied to the packed data.
        mean: Mean per channel, subtracted inside the exported graph; empty for none.
        std: Standard deviation per channel, divided by inside the exported graph; empty for none.
        halo: Input pixels on each side of a tile that its output depends on, if tiles start at multiples of
            `multiple_of`; WHOLE_FRAME if a frame cannot be cut into tiles; None if unknown.
        crop_pct: For evaluating classifiers: the side that is cut out of the middle of an image, as a share of the
            shorter side it is resized to; None if unknown.
        interpolation: How images are resized for it; None if unknown.
        noise_planes: For packed-raw: channels after those of the mosaic that tell the noise (:mod:`zoo.raw.tone`).
            With them the values are on the curve described there, and are not cut off at black; 0 for none.
        target_level: For packed-raw: mean of the green channel after amplification that the network was trained
            for; None if unknown.
        parts: The inputs of a network that has several, or one that is no image; empty for an image. The kind is
            "tensor" then, and `channels` and `example` are those of the array that :meth:`pack` returns.
    """

    kind: Literal["packed-raw", "rgb", "gray", "tensor"]
    channels: Annotated[int, Limits(1, 1024)]
    multiple_of: Annotated[int, Limits(1, 1024)] = 1
    example: Annotated[tuple[int, int], Limits(1, LARGEST_SIDE), Key(required=True)] = (256, 256)
    fixed_size: bool = False
    mosaic: Literal["bayer", "xtrans"] | None = None
    white_balance: bool = False
    mean: Annotated[tuple[float, ...], Limits(most=1024)] = ()
    std: Annotated[tuple[float, ...], Limits(most=1024)] = ()
    halo: Annotated[int | None, Limits(0, LARGEST_SIDE)] = None
    target_level: Annotated[float | None, Limits(0.001, 1)] = None
    crop_pct: Annotated[float | None, Limits(0.05, 1)] = None
    interpolation: Interpolation | None = None
    noise_planes: Annotated[int, Limits(0, 4)] = 0
    parts: Annotated[tuple[InputPart, ...], Limits(most=MOST_PARTS)] = ()

    @classmethod
    def of_parts(cls, parts: Sequence[InputPart], **fields: Any) -> "InputSpec":
        """Return the input of a network with several inputs, or one that is no image.

        Args:
            parts: What they are.
            fields: Other fields, such as `multiple_of`.
        """
        packing = packing_of(parts)
        height, width = packing.sides
        if not packing.planes:
            fields["fixed_size"] = True
        return cls(
            "tensor",
            packing.channels,
            example=(height or 1, width or 1),
            parts=tuple(parts),
            **fields,
        )

    @property
    def packing(self) -> Packing:
        """Return how `parts` are held in one array."""
        return packing_of(self.parts)

    def pack(self, given: Mapping[str, Any] | Sequence[Any]) -> "npt.NDArray[np.float32]":
        """Return inputs as one array, (N, C, H, W), which is what :attr:`zoo.contracts.Sample.inputs` holds of each.

        Args:
            given: Each of `parts` by name or in order, an array with a batch dimension.

        Raises:
            InputError: An input is missing or unknown, or one does not have the shape or the numbers stated.
        """
        return pack_inputs(self.parts, given, fixed=self.fixed_size)


@dataclass(frozen=True)
class OutputSpec:
    """The output of a network.

    Attributes:
        kind: "rgb" (N, 3, scale*H, scale*W), sRGB in [0, 1], clipped inside the exported graph; "gray", the same with
            one channel; "mask" (N, channels, scale*H, scale*W), probabilities in [0, 1], with the sigmoid inside the
            network; "classes" (N, channels, scale*H, scale*W), logits of which the highest is the pixel's class;
            "logits" (N, channels), a single one being that of the second of two classes, against 0; "boxes" (N, any
            number, 6), a detection a row: x0, y0, x1, y1 in input pixels, the score, and the class, an unused row
            having the score 0; or "tensor" (N, ...), anything else.
        channels: Channels (or classes) of the output. Of a tensor, the length of its second axis.
        scale: Output pixels per input pixel along each side; 0 for outputs that are not images.
        colors: "srgb", or "camera": white-balanced camera colours on the curve of :mod:`zoo.raw.tone`, which the
            runner takes to sRGB by the matrix of the file.
    """

    kind: OutputKind
    channels: Annotated[int, Limits(1, 1 << 20)]
    scale: Annotated[int, Limits(0, 64)] = 0
    colors: Literal["srgb", "camera"] = "srgb"

    @property
    def classes(self) -> int:
        """Return how many classes it tells apart: a single logit is that of the second of two, against 0."""
        return 2 if self.kind == "logits" and self.channels == 1 else self.channels

    @property
    def dense(self) -> bool:
        """Return whether it has a value for each pixel, so that it can be computed in tiles."""
        return self.kind in ("rgb", "gray", "mask", "classes")

    @property
    def bounded(self) -> bool:
        """Return whether it is an image or a mask, in [0, 1]."""
        return self.kind in ("rgb", "gray", "mask")


def task_for(takes: InputSpec, gives: OutputSpec) -> str:
    """Return the id of the task of a network that only states its input and output."""
    images = takes.kind != "packed-raw" and gives.kind == "rgb"
    return "image-to-image" if images else TASKS[gives.kind]


class Architecture:
    """A named builder of an `nn.Module`, with what is needed to compress it.

    A subclass sets the class attributes and implements :meth:`build`. A *family* (``timm:resnet18``) sets
    ``family = True`` and is constructed with the part after the colon; it sets specs in ``__init__``. With
    ``member_optional = True`` its id alone is a name too, for which it is constructed with None.
    """

    contract: ClassVar[int] = CONTRACT_VERSION
    family: ClassVar[bool] = False
    member_optional: ClassVar[bool] = False
    #: Whether :meth:`build` loads trained weights by itself.
    trained: bool = False
    #: Name for recipe files, if that differs from what the user typed.
    named: str = ""
    #: Where the trained weights are from that :meth:`build` has loaded, with their sha256; "" if that is not known.
    weights_from: str = ""
    id: str
    summary: str
    paper: str = ""
    #: Id of its task.
    task: str
    input: InputSpec
    output: OutputSpec
    #: The other outputs of a network that returns several, by name: keys and positions, joined by underscores. They are
    #: exported and compared with the original's.
    extra_outputs: Mapping[str, OutputSpec] = MappingProxyType({})
    #: Name of the output that `output` describes; "" for "out", "logits", "output" or the first.
    main_output: str = ""
    #: What training on labels minimises in place of the task's loss: a function of what the network returns and of
    #: targets with a batch dimension, to a scalar; None for the task's.
    loss: "Callable[[Any, Any], Any] | None" = None
    #: What the network returns where that is more than a tensor, with the names of the outputs in place of tensors;
    #: "" if it is not known. A program's own metrics are called with outputs in that form.
    returns: Any = ""

    def __init__(self, member: str | None = None) -> None:
        self.member = member

    def build(self) -> "nn.Module":
        """Return a freshly initialised network in float32; initialisation follows torch's global seed."""
        raise NotImplementedError

    def build_blank(self) -> "nn.Module":
        """Return a network whose weights will be replaced; one that loads trained weights need not fetch them."""
        return self.build()

    def published_as(self) -> str:
        """Return how else to name it for trained weights, as the rest of a sentence (", or write ..."); "" if none."""
        return ""

    def identity(self) -> str:
        """Return what its networks depend on beyond name and version, such as a digest of a file; "" for nothing.

        It is part of the fingerprint.
        """
        return ""

    def stages(self) -> Sequence[Mapping[str, Any]]:
        """Return the names of the modules of each stage, outermost first: {"down": ..., "up": ...}; may be empty."""
        return ()

    def feature_blocks(self) -> tuple[str, ...]:
        """Return the modules of :meth:`stages` that end in a feature: on the way down, and up after the skip."""
        return tuple(stage[side] for stage in self.stages() for side in ("down", "join") if side in stage)
