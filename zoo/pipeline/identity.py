"""What a run and its stages depend on, as hashes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.recipes.fingerprint import fingerprint
from zoo.recipes.grammar import Recipe
from zoo.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.contracts import Architecture, CropSize, Dataset, Teacher, Technique
    from zoo.pipeline.request import ApplyRequest
    from zoo.pipeline.stages import TrainingStage
    from zoo.recipes.canonical import ResolvedRecipe
    from zoo.training.schedule import Budget


def technique_identities(
    techniques: Sequence[Technique], load_teacher: Callable[[str], Teacher]
) -> dict[str, str]:
    """Return what the result of each technique depends on beyond its options; its teachers are loaded for it.

    Raises:
        ZooError: What `load_teacher` and :meth:`zoo.contracts.Technique.identity` raise.
    """
    return {
        f"{number}:{each.id}": " ".join(
            filter(None, [each.identity(), *(load_teacher(name).sha256 for name in each.teachers())])
        )
        for number, each in enumerate(techniques)
    }


class Identity:
    """Everything that the result of a run depends on."""

    def __init__(
        self,
        request: ApplyRequest,
        recipe: ResolvedRecipe | None,
        *,
        architecture: Architecture,
        name: str,
        dataset: Dataset,
        weights: str,
        crop: CropSize,
        learning_rate: float,
        identities: Mapping[str, str],
        graph: str = "",
    ) -> None:
        self._request = request
        self._recipe = recipe
        self._architecture = architecture
        self._name = name
        self._data = dataset.identity()
        self._weights = weights
        self._crop = crop
        self._learning_rate = learning_rate
        self._identities = identities
        #: Digest of the file of a network that no text names: its code is part of what is computed.
        self._graph = graph

    def fingerprint(self, budgets: Sequence[Budget]) -> str:
        """Return the fingerprint of the artifact; `budgets` as they were given, none if nothing is trained."""
        return self._hash(len(self._recipe.recipe) if self._recipe else 0, budgets, {})

    def with_recipe(self, recipe: ResolvedRecipe) -> Identity:
        """Return the identity of the same run with another recipe."""
        other = copy.copy(self)
        other._recipe = recipe
        return other

    def stage_keys(self, stages: Sequence[TrainingStage], budgets: Sequence[Budget]) -> Iterator[str]:
        """Yield what the result of each stage depends on: the recipe up to it, and where it is computed."""
        import torch

        here: dict[str, str | int] = {
            "input": repr(self._architecture.input),
            "torch": str(torch.__version__),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        }
        techniques = trainings = 0
        for stage in stages:
            techniques += len(stage.techniques)
            trainings += stage.trains
            yield self._hash(techniques, budgets[:trainings], here)

    def _hash(self, techniques: int, budgets: Sequence[Budget], more: Mapping[str, str | int]) -> str:
        """Return the hash for the first `techniques` of the recipe."""
        recipe = self._recipe
        identities = dict(list(self._identities.items())[:techniques])
        identities |= {"architecture": self._architecture.identity(), "graph": self._graph}
        return fingerprint(
            Recipe(recipe.recipe.stages[:techniques]) if recipe and techniques else None,
            architecture=self._name,
            plugins={
                "compression-zoo": __version__,
                **{
                    each.distribution: each.version
                    for each in (recipe.plugins[:techniques] if recipe else ())
                },
            },
            data=self._data,
            weights=self._weights or None,
            seed=self._request.seed,
            training={
                "budgets": " ".join(map(str, budgets)),
                "batch": self._request.batch,
                "crop": self._crop if isinstance(self._crop, int) else "x".join(map(str, self._crop)),
                "learning_rate": self._learning_rate,
                "precision": self._request.precision,
                **{name: identity for name, identity in identities.items() if identity},
                **more,
            },
        )
