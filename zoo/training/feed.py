"""Batches of training crops, made ahead of time by a background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from zoo.contracts import Architecture, CropSize, Dataset, Sample

_AHEAD = 4
#: Numbers of a labelled box, and what rows of them hold that are not used.
_BOX, _UNUSED = 5, -1


@dataclass(frozen=True)
class Batch:
    """A batch of samples.

    Attributes:
        inputs: (N, C, H, W).
        targets: Those of the samples, with a batch dimension; None for unlabelled data. Of boxes, (N, most boxes, 5),
            rows that are not used have the class -1.
    """

    inputs: torch.Tensor
    targets: torch.Tensor | None


class Feed:
    """The batches of one process, from global batch number `start` on.

    Global batch b holds crops b*batch ... (b+1)*batch - 1 whatever the number of processes; a process takes its
    equal share of each. That makes the loss of two processes the loss of one, and resuming exact.
    """

    def __init__(
        self,
        dataset: Dataset,
        architecture: Architecture,
        *,
        size: CropSize,
        batch: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        share = batch // world
        self._samples = _strided(dataset, architecture, size, seed, start * batch, batch, rank * share, share)
        self._share = share
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="zoo-feed", daemon=True)
        self._thread.start()

    def _fill(self) -> None:
        try:
            while not self._stop.is_set():
                self._put(collate(list(islice(self._samples, self._share))))
        except BaseException as error:  # handed to the consumer, which raises it
            self._put(error)

    def _put(self, item: Batch | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def __iter__(self) -> Iterator[Batch]:
        while True:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()
        self._thread.join(timeout=10)


def _strided(
    dataset: Dataset,
    architecture: Architecture,
    size: CropSize,
    seed: int,
    first: int,
    stride: int,
    offset: int,
    count: int,
) -> Iterator[Sample]:
    if count == stride:
        yield from dataset.crops(architecture, size, seed, first)
        return
    position = first
    while True:
        yield from islice(dataset.crops(architecture, size, seed, position + offset), count)
        position += stride


def collate(samples: list[Sample]) -> Batch:
    """Stack samples into a batch."""
    inputs = torch.from_numpy(np.stack([sample.inputs for sample in samples]))
    targets = [sample.target for sample in samples if sample.target is not None]
    if len(targets) < len(samples):
        return Batch(inputs, None)
    shapes = {target.shape for target in targets}
    if len(shapes) > 1 and all(target.ndim == 2 and target.shape[1] == _BOX for target in targets):
        most = max(len(target) for target in targets)
        targets = [
            np.pad(target, ((0, most - len(target)), (0, 0)), constant_values=_UNUSED) for target in targets
        ]
    elif len(shapes) > 1:
        return Batch(inputs, None)
    return Batch(inputs, torch.from_numpy(np.stack(targets)))
