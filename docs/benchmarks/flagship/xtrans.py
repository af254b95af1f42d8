"""Give the weights of `unet`, for Bayer sensors, to a network for X-Trans sensors, as a start for its training.

    python docs/benchmarks/flagship/xtrans.py start.safetensors
    zoo apply depthwise unet-xtrans --weights start.safetensors --data 'darkroom(photos=[photos-free])' --minutes 40

All layers but the first and the last are the same. A channel of the first convolution gets the kernels of its
colour's channels, shared among the channels of that colour; each of the nine pixels of a packed pixel starts as the
nearest of Bayer's four. A packed pixel is three pixels wide in place of two, which training has to get used to.
"""

from __future__ import annotations

import sys

import numpy as np
from safetensors.numpy import save_file

from zoo import plugins
from zoo.training.weights import load_start

#: Channels of a packed Bayer pixel by colour; see zoo/raw/pack.py.
BAYER = {"red": (0,), "green": (1, 3), "blue": (2,)}
XTRANS = ("red", "green", "blue", "red", "blue", "green", "green", "green", "green")


def first(weight: np.ndarray) -> np.ndarray:
    """(32, 4, 3, 3) -> (32, 9, 3, 3): the sum over the channels of a colour stays what it is."""
    channels = [weight[:, BAYER[colour]].sum(axis=1) / XTRANS.count(colour) for colour in XTRANS]
    return np.stack(channels, axis=1)


def last(values: np.ndarray) -> np.ndarray:
    """(12, ...) -> (27, ...): the outputs of a colour, 2 x 2, become 3 x 3."""
    cells = values.reshape(3, 2, 2, *values.shape[1:])
    nearest = (0, 0, 1)
    return cells[:, nearest][:, :, nearest].reshape(27, *values.shape[1:])


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    architecture = plugins.architecture("unet")
    network = architecture.build()
    load_start(network, architecture, "unet")
    weights = {name: each.numpy() for name, each in network.state_dict().items()}
    weights["down1.conv1.weight"] = first(weights["down1.conv1.weight"])
    for name in ("head.weight", "head.bias"):
        weights[name] = last(weights[name])
    save_file({name: np.ascontiguousarray(each) for name, each in weights.items()}, sys.argv[1])


if __name__ == "__main__":
    main()
