"""The weights in the name of a network: ``./mynet.py:make(weights=mynet.pth)``, wherever a network is named."""

from __future__ import annotations

from zoo.errors import UsageError
from zoo.recipes.grammar import Stage, parse_stage

_OPTION = "weights"


def split_weights(name: str) -> tuple[str, str]:
    """Return the name of a network without the option ``weights``, and the option's value, "" if it has none.

    Args:
        name: A network, such as ``timm:resnet18(weights=mine.pth)``.

    Raises:
        RecipeError: The options are malformed.
        UsageError: The value is a list.
    """
    start = name.find("(")
    if start < 0 or f"{_OPTION}=" not in name.replace(" ", ""):
        return name, ""
    stage = parse_stage(f"network{name[start:]}", "network")
    options = dict(stage.option_map)
    value = options.pop(_OPTION, "")
    if not isinstance(value, str):
        raise UsageError(f"'{name[:start]}' takes the weights of one file, not of several.")
    return name[:start].rstrip() + str(Stage.of("network", options)).removeprefix("network"), value
