"""The results of trained stages, kept in a folder so that another recipe with the same beginning can start there.

A file holds tensors and numbers only, in safetensors: the weights after the training of a stage. Their network is
rebuilt by running the rewrites again, which is deterministic. The key of the file covers the rewritten weights, so
that what was trained is only ever put into the network that it was trained in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, save

from zoo.artifacts.safetensors_check import checked_tensors
from zoo.errors import IntegrityError, ZooError
from zoo.modules.state_digest import state_digest
from zoo.storage.atomic import read_bytes, write_bytes_atomic, writing
from zoo.training.loop import TrainingResult

if TYPE_CHECKING:
    from torch import nn

    from zoo.contracts import Reporter
    from zoo.pipeline.stages import TrainingStage

_LARGEST = 1 << 36
_LONGEST_NAME = 80
_RANDOM = "random"


class StageStore:
    """A folder of stage results, which is made if it is missing.

    Raises:
        OutputError: It cannot be made.
    """

    def __init__(self, folder: Path, reporter: Reporter) -> None:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._reporter = reporter

    def load(self, stage: TrainingStage, key: str, network: nn.Module) -> TrainingResult | None:
        """Put the kept result of a stage into `network` and return what its training did; None if there is none.

        A file that is damaged, or does not belong to this stage and network, is reported and not used.
        """
        path = self._path(stage, key)
        if not path.is_file():
            return None
        try:
            content = checked_tensors(read_bytes(path, _LARGEST, error=IntegrityError), str(path))
            tensors = load(content)
            result = _checked(_described(content), key, tensors, network.state_dict())
        except (ZooError, KeyError, TypeError, ValueError) as error:
            reason = error.message if isinstance(error, ZooError) else f"{path} is damaged: {error}"
            self._reporter.note(f"{reason.rstrip('.')}. {stage.name} is trained again.")
            return None
        torch.set_rng_state(tensors.pop(_RANDOM))
        network.load_state_dict(tensors)
        self._reporter.note(f"{stage.name} is not trained: its result is kept in {path}.")
        return result

    def save(self, stage: TrainingStage, key: str, network: nn.Module, result: TrainingResult) -> None:
        """Keep the result of a stage.

        Raises:
            OutputError: It cannot be written.
        """
        tensors = {
            name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()
        }
        tensors[_RANDOM] = torch.get_rng_state()
        described = {"key": key, "training": asdict(result)}
        described["sha256"] = _digest(described, tensors)
        path = self._path(stage, key)
        write_bytes_atomic(path, save(tensors, metadata={"stage": json.dumps(described)}))

    def _path(self, stage: TrainingStage, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / f"{stage.name[:_LONGEST_NAME]}-{digest[:16]}.safetensors"


def _described(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    described = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["stage"])
    if not isinstance(described, dict):
        raise TypeError("it does not state its content")
    return described


def _checked(
    described: Mapping[str, Any],
    key: str,
    tensors: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
) -> TrainingResult:
    """Return what the training of the stage did, if the file is intact and its tensors are those of the network."""
    if described["sha256"] != _digest(described, tensors):
        raise ValueError("its content was altered")
    if described["key"] != key:
        raise ValueError("it holds the result of another stage")
    forms = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    random = forms.pop(_RANDOM)
    if random != (torch.get_rng_state().shape, torch.uint8) or forms != {
        name: (tensor.shape, tensor.dtype) for name, tensor in wanted.items()
    }:
        raise ValueError("its tensors are not those of the network")
    return TrainingResult(**described["training"])


def _digest(described: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 of everything that a file holds except the digest itself."""
    stated = json.dumps([described["key"], described["training"]], sort_keys=True)
    return hashlib.sha256(f"{stated}{state_digest(tensors)}".encode()).hexdigest()
