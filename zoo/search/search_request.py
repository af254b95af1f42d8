"""What `zoo search` is asked to do, as plain data that a folder keeps."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import InputError, UsageError
from zoo.pipeline.loss_limit import LossLimit, parse_limit
from zoo.pipeline.request import ApplyRequest, make_request
from zoo.recipes.grammar import Recipe
from zoo.schema import parse_json
from zoo.search.goals import DEFAULT_GOALS, Goal
from zoo.search.study_log import Sampler
from zoo.storage.atomic import read_bytes, write_bytes_atomic

SETTINGS_NAME = "search.json"
STUDY_NAME = "study.db"
DEFAULT_TRIALS = 100
DEFAULT_MINUTES = 60.0
DEFAULT_STEPS = 200
_LARGEST = 1 << 20
_FORM = 1
#: What may be stated differently when a search is resumed: none of it changes what a candidate is or is worth.
_FREE = ("limits", "max_loss", "trials", "minutes", "workers", "ray")


@dataclass(frozen=True)
class SearchRequest:
    """A space of recipes for an architecture, what is to be minimised in it, and how long.

    Attributes:
        architecture: Its id, or a network of the user's own as ``module.py:factory`` or ``model.onnx``.
        space: As :func:`zoo.recipes.space_grammar.parse_space` reads it.
        folder: What everything is kept in.
        stated: Options of `zoo apply` that were stated: data, weights, seed and so on.
        goals: What is minimised.
        limits: Budgets by goal; in milliseconds, bytes, multiply-accumulates.
        max_loss: The most that may be lost of the task's first measure; None for any loss.
        trials: Candidates at most.
        minutes: Time at most, all runs together.
        steps: Of each training of a candidate that is trained in full; 0 for closed forms and calibration only.
        workers: Processes.
        sampler: What proposes candidates.
        seed: Of what is proposed; that of the trainings is among `stated`.
        storage: Address of an Optuna storage; "" for a file of the folder.
        latency_model: File of a model that predicts latencies, as :mod:`zoo.benchmarking.latency_model` makes it; "" to
            measure them on this machine.
        ray: Address of a Ray cluster, "auto" for the one of this machine, "" for none.
    """

    architecture: str
    space: str
    folder: Path
    stated: Mapping[str, Any] = field(default_factory=dict)
    goals: tuple[Goal, ...] = DEFAULT_GOALS
    limits: Mapping[Goal, float] = field(default_factory=dict)
    max_loss: str | None = None
    trials: int = DEFAULT_TRIALS
    minutes: float = DEFAULT_MINUTES
    steps: int = DEFAULT_STEPS
    workers: int = 1
    sampler: Sampler = "tpe"
    seed: int = 0
    storage: str = ""
    latency_model: str = ""
    ray: str = ""

    @property
    def url(self) -> str:
        """Return the address of the storage."""
        return self.storage or f"sqlite:///{(self.folder / STUDY_NAME).absolute()}"

    @property
    def device(self) -> str:
        """Return the id of the profile of the target board, "" for none."""
        return str(self.stated.get("device", ""))

    @property
    def loss_limit(self) -> LossLimit | None:
        """Return what may be lost; None for any loss.

        Raises:
            UsageError: It is malformed.
        """
        return parse_limit(self.max_loss)

    def base(self, recipe: Recipe) -> ApplyRequest:
        """Return the request that every candidate's is made of.

        Raises:
            UsageError: An option has a value that it cannot have.
        """
        return make_request(recipe, self.architecture, **_typed(self.stated))

    def command(self, recipe: str, steps: int, trainings: int, out: str = "") -> str:
        """Return the command that makes the artifact of a candidate again."""
        words = ["zoo", "apply", recipe, self.architecture]
        words += [word for _ in range(max(trainings, 1)) for word in ("--steps", str(steps))]
        for name, value in self.stated.items():
            flag = "--" + name.replace("_", "-")
            if value is True:
                words.append(flag)
                continue
            for each in value if isinstance(value, (list, tuple)) else [value]:
                words += [flag, str(each)]
        words += ["--max-loss", "none", *(["--out", out] if out else [])]
        return shlex.join(words)

    def save(self) -> None:
        """Write the settings into the folder, or hold them against those that are there.

        Raises:
            UsageError: The folder holds another search.
        """
        path = self.folder / SETTINGS_NAME
        if path.exists():
            kept, stated = _kept(path), self._to_json()
            for name in stated.keys() - set(_FREE):
                if stated[name] != kept.get(name):
                    raise UsageError(
                        f"{self.folder} holds a search with other settings ({name}).",
                        hint=f"Continue it with:  zoo search --resume {self.folder}  or name another folder: --out",
                    )
        write_bytes_atomic(path, json.dumps(self._to_json(), indent=2).encode())

    @classmethod
    def load(cls, folder: Path, **changed: Any) -> SearchRequest:
        """Return the search that a folder holds, with what is stated differently this time.

        Raises:
            InputError: It holds none.
        """
        kept = _kept(folder / SETTINGS_NAME)
        try:
            kept.pop("form")
            return cls(
                folder=folder,
                goals=tuple(kept.pop("goals")),
                **{**kept, **{name: value for name, value in changed.items() if value is not None}},
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder / SETTINGS_NAME} is not the file of a search: {error}.") from error

    def _to_json(self) -> dict[str, Any]:
        content = {
            each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "folder"
        }
        return {"form": _FORM, **json.loads(json.dumps(content, default=str))}


# --------------------------------------------------------------------------------------------------- details


def _typed(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as a request has them; JSON knows neither paths nor tuples."""
    return {name: tuple(map(Path, value)) if name == "photos" else value for name, value in stated.items()}


def _kept(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(
            f"{path.parent} does not hold a search: it has no {path.name}.",
            hint="Begin one with:  zoo search ARCHITECTURE --out DIR",
        )
    content = parse_json(read_bytes(path, _LARGEST), str(path), error=InputError)
    if not isinstance(content, dict) or content.get("form") != _FORM:
        raise InputError(f"{path} is not the file of a search that this version reads.")
    return content
