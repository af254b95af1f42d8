"""The options of a network of the user's own: what its input and output are, where that is not known otherwise."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError
from zoo.options import option

if TYPE_CHECKING:
    from zoo.contracts import InputSpec


@dataclass(frozen=True)
class NetworkConfig:
    """What a network of the user's own takes and gives, where its file does not say so itself."""

    input: str = option("", help="its input, KIND:CxHxW, as in rgb:3x256x256 or gray:1x512x512")
    output: str = option("", help="its output, as in mask:1, logits:10, or rgb:3x2 for twice the size")
    multiple_of: int | None = option(
        None,
        minimum=1,
        maximum=1024,
        unit="pixel",
        help="height and width must be multiples of it; determined by trial if none",
    )
    fixed_size: bool = option(False, help="whether only inputs of the stated size are accepted")
    mean: tuple[float, ...] = option((), help="normalisation per channel, done inside the exported graph")
    std: tuple[float, ...] = option((), help="normalisation per channel, done inside the exported graph")
    sha256: str = option("", help="sha256 that the file must have; stated by recipe files")


def complete_input(spec: InputSpec, config: NetworkConfig, name: str) -> InputSpec:
    """Return an input as it is known, with what the options add to it.

    Args:
        spec: The input.
        config: The options.
        name: What messages call the network.

    Raises:
        UsageError: There is not one mean and one standard deviation per channel.
    """
    changes: dict[str, Any] = {}
    if config.mean or config.std:
        if not len(config.mean) == len(config.std) == spec.channels:
            raise UsageError(f"{name}: mean and std each need {spec.channels} numbers.")
        changes = {"mean": config.mean, "std": config.std}
    return dataclasses.replace(spec, fixed_size=config.fixed_size or spec.fixed_size, **changes)
