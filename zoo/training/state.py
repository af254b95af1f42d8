"""Saving and loading an unfinished training; tensors in safetensors, numbers in its header, nothing pickled."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from zoo.errors import IntegrityError
from zoo.storage.atomic import write_bytes_atomic


@dataclass
class Progress:
    """Where a training stands.

    Attributes:
        key: The run it belongs to; a state of another run is not resumed.
    """

    key: str
    step: int = 0
    seconds: float = 0.0
    total: int | None = None
    losses: list[list[float]] = field(default_factory=list)


def save_state(
    path: Path, progress: Progress, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write the state atomically."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    tensors["random"] = torch.get_rng_state()
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_bytes_atomic(path, save(plain, metadata={"progress": json.dumps(asdict(progress))}))


def load_state(
    path: Path, key: str, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Restore model and optimizer; return None if there is no state at `path` for the run called `key`."""
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            progress = Progress(**json.loads((file.metadata() or {})["progress"]))
            if progress.key != key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"The training state {path} is damaged: {error}", hint=f"Start again:  rm {path}"
        ) from error
    weights = {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}
    model.load_state_dict(weights)
    slots: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, slot = name.split(".", 2)
            slots.setdefault(int(index), {})[slot] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
    torch.set_rng_state(tensors["random"])
    return progress
