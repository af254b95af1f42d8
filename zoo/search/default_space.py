"""The space that is searched where none is stated."""

from __future__ import annotations

from zoo import plugins
from zoo.architectures.own_networks import with_specs
from zoo.architectures.weight_option import split_weights


def default_space(architecture: str, takes: str = "", gives: str = "") -> str:
    """Return the space of the task of a network, which the task states.

    Args:
        architecture: Its name.
        takes: Input of a network of the user's own, as in "rgb:3x224x224".
        gives: Output of it, as in "mask:1".

    Raises:
        ZooError: There is no such network.
    """
    name, _ = split_weights(architecture)
    return plugins.task_of(plugins.architecture(with_specs(name, takes, gives), own_files=True)).space
