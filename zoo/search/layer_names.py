"""The layers of a network that options can name."""

from __future__ import annotations

from zoo import plugins
from zoo.extras import require


def layer_names(architecture: str) -> tuple[str, ...]:
    """Return the names of a network's convolutions and linear layers, in order of definition.

    Raises:
        ZooError: There is no such network.
    """
    require("torch", "Naming the layers of a network")
    from torch import nn

    network = plugins.architecture(architecture, own_files=True).build()
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)
    return tuple(name for name, module in network.named_modules() if isinstance(module, kinds))
