"""Networks for the emotion of a face: from one picture, or from the frames of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Architecture, InputPart, InputSpec, OutputSpec
from zoo.errors import UnknownIdError
from zoo.options import format_options, option, parse_options
from zoo.recipes.grammar import Stage, parse_stage
from zoo_emotion import EMOTIONS

if TYPE_CHECKING:
    from torch import nn

#: Height and width of a face.
SIDE = 48
#: The inputs of `videonet`: the frames of a clip, gray, and how many of them there are.
FRAMES, LENGTH = "frames", "length"
_HEADS = ("lstm", "attention")


class EmotionCnnArchitecture(Architecture):
    """A small convolutional network with batch norm, for a gray picture of 48 x 48 pixels."""

    contract = 1
    id = "emotion-cnn"
    summary = "the emotion of a face, of eight, from a gray picture of 48x48"
    task = "classification"
    input = InputSpec("gray", 1, example=(SIDE, SIDE), fixed_size=True, mean=(0.5,), std=(0.25,))
    output = OutputSpec("logits", len(EMOTIONS))

    def build(self) -> nn.Module:
        from zoo_emotion.networks import EmotionCnn

        return EmotionCnn(len(EMOTIONS))


@dataclass(frozen=True)
class VideoNetConfig:
    """Options of `videonet`, as in ``videonet:lstm(frames=16)``."""

    frames: int = option(8, minimum=2, maximum=64, help="frames of a clip; shorter clips are filled up")


class VideoNetArchitecture(Architecture):
    """The features of `emotion-cnn` for each frame, and a head that reads them in order.

    `videonet:lstm` ends with the state of an LSTM after the last frame, `videonet:attention` with a class token that
    attends to all frames. There are two inputs: `frames`, (frames, 1, 48, 48) in [0, 1], and `length`, how many of
    them count.

    Raises:
        UnknownIdError: There is no such head.
        UsageError: An option is wrong.
    """

    contract = 1
    family: ClassVar[bool] = True
    summary = "the emotion of a face from the frames of a clip: videonet:lstm, videonet:attention(frames=16)"
    paper = (
        "Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 1997; "
        "Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021"
    )
    task = "classification"
    output = OutputSpec("logits", len(EMOTIONS))

    def __init__(self, member: str | None = None) -> None:
        super().__init__(member)
        head, bracket, rest = (member or "").partition("(")
        if head not in _HEADS:
            raise UnknownIdError(
                f"videonet has no member '{head}'.",
                hint=f"Write one of:  {'  '.join(f'videonet:{each}' for each in _HEADS)}",
            )
        given = parse_stage(f"videonet{bracket}{rest}", "network").option_map
        self.config = parse_options("videonet", VideoNetConfig, given)
        self.head = head
        stated = Stage.of("videonet", format_options(self.config)) if bracket else "videonet"
        self.id = str(stated).replace("videonet", f"videonet:{head}", 1)
        count = self.config.frames
        self.input = InputSpec.of_parts(
            [
                InputPart(FRAMES, "tensor", (count, 1, SIDE, SIDE)),
                InputPart(LENGTH, "integer", (), low=1, high=count),
            ],
            fixed_size=True,
        )

    def build(self) -> nn.Module:
        from zoo_emotion.networks import AttentionHead, EmotionCnn, LstmHead, VideoNet

        features = EmotionCnn(len(EMOTIONS)).features
        head = {"lstm": LstmHead, "attention": AttentionHead}[self.head]
        return VideoNet(features, head(self.config.frames, len(EMOTIONS)))
