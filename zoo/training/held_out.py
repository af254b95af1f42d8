"""The loss of networks on the same crops, drawn again from the data that they are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from zoo import plugins
from zoo.data.calibration import calibration_batch
from zoo.modules.output_tree import split_outputs
from zoo.tasks.losses import following_loss
from zoo.training.feed import collate
from zoo.training.inputs import normalise

if TYPE_CHECKING:
    from zoo.contracts import Architecture, CropSize, Dataset

#: Batches that are compared on. Both networks see the same ones, so that few tell which is better.
_BATCHES = 16
_SEED = 104_729


def held_out_losses(
    networks: Sequence[nn.Module],
    architecture: Architecture,
    dataset: Dataset,
    *,
    size: CropSize,
    batch: int,
    seed: int,
    teacher: nn.Module,
) -> list[float]:
    """Return the loss of each network on the same crops, drawn apart from those of training and calibration.

    Args:
        networks: In eval mode, in which they compute what is exported.
        architecture: What they are, of a task whose loss takes the main output alone.
        dataset: What they are trained on.
        size: Of a crop, as in training.
        batch: Size of a batch of training.
        seed: That of training.
        teacher: What the task's loss is replaced by following where there are no targets.
    """
    compare = plugins.task_of(architecture).loss(architecture.output)
    follow = following_loss(architecture.output)
    each = calibration_batch(architecture, batch)
    crops = dataset.crops(architecture, size, seed + _SEED)
    totals = [0.0] * len(networks)

    def output(network: nn.Module, inputs: Tensor) -> Tensor:
        return split_outputs(network(inputs), architecture)[0].float()

    with torch.no_grad():
        for _ in range(_BATCHES):
            samples = collate(list(islice(crops, each)))
            inputs = normalise(samples.inputs, architecture.input)
            labelled = samples.targets is not None and compare is not None
            target = samples.targets if labelled else output(teacher, inputs)
            for place, network in enumerate(networks):
                loss = (compare if labelled else follow)(output(network, inputs), target)  # type: ignore[misc, arg-type]
                totals[place] += float(loss) / _BATCHES
    return totals
