"""Recipes by what they are good for: `small`, `fast` and `best`, which each task states for its networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo import plugins
from zoo.contracts.task import PRESETS
from zoo.errors import PluginError, UsageError
from zoo.recipes.grammar import Recipe, parse

if TYPE_CHECKING:
    from zoo.contracts import Architecture


def expand_preset(recipe: Recipe, architecture: str | Architecture) -> Recipe:
    """Return the recipe that a preset stands for; any other recipe as it is.

    Args:
        recipe: As it was written.
        architecture: The network that it is for, by its name or itself.

    Raises:
        UsageError: A preset has options, is part of a longer recipe, or has the name of an installed technique.
        PluginError: The task's recipe is none.
    """
    named = [stage for stage in recipe if stage.technique in PRESETS]
    if not named:
        return recipe
    (stage, *_) = named
    name = stage.technique
    for plugin in plugins.find_plugins("techniques"):
        if plugin.id == name:
            raise UsageError(
                f"'{name}' is a preset, and a technique of {plugin.distribution}.",
                hint=f"The technique:  {plugin.full_id}  The preset is what  zoo info TASK  shows.",
            )
    if len(recipe.stages) > 1 or stage.options:
        raise UsageError(
            f"'{name}' is a preset, which stands for a whole recipe: it has no options and stands alone.",
            hint="Write the recipe that it stands for:  zoo list tasks  and  zoo info TASK  show it",
        )
    if isinstance(architecture, str):
        architecture = plugins.architecture(architecture, own_files=True)
    task = plugins.task_of(architecture)
    written = task.presets.get(name)
    if not written:
        raise UsageError(
            f"The task {task.id} states no recipe for the preset '{name}'.",
            hint=f"Search for one:  zoo search {architecture.id}",
        )
    try:
        return parse(written)
    except UsageError as error:
        raise PluginError(
            f"The preset '{name}' of the task {task.id} does not parse: {error.message}"
        ) from error
