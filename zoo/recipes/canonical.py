"""From a recipe as written to techniques ready to work, and to the recipe's one canonical form."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zoo import plugins
from zoo.contracts import Technique
from zoo.options import Text, format_options
from zoo.plugins.discovery import Plugin
from zoo.recipes import legality
from zoo.recipes.grammar import Recipe, Stage, parse


@dataclass(frozen=True)
class LoadedRecipe:
    """A legal recipe with the classes of its techniques, whose options are still text.

    Attributes:
        recipe: The recipe as it was written.
        plugins: The plugin that each stage names, in order.
        classes: The class of each, in order.
    """

    recipe: Recipe
    plugins: tuple[Plugin, ...]
    classes: tuple[type[Technique], ...]

    @property
    def options(self) -> tuple[dict[str, Text], ...]:
        """Return the options of each stage, as written."""
        return tuple(stage.option_map for stage in self.recipe)


@dataclass(frozen=True)
class ResolvedRecipe:
    """A legal recipe with its techniques loaded and configured.

    Attributes:
        recipe: The canonical form: every option explicit, in its shortest exact spelling, sorted by name; a third-party
            technique as ``distribution:id``. Equal recipes have equal canonical forms.
        written: The recipe as it was written.
    """

    recipe: Recipe
    techniques: tuple[Technique, ...]
    plugins: tuple[Plugin, ...]
    written: Recipe

    def __str__(self) -> str:
        return str(self.recipe)

    def with_technique(self, old: Technique, new: Technique) -> ResolvedRecipe:
        """Return the recipe with one of its techniques in another configuration."""
        techniques = tuple(new if each is old else each for each in self.techniques)
        stages = tuple(map(canonical_stage, self.plugins, techniques))
        return replace(self, recipe=Recipe(stages), techniques=techniques)

    @property
    def versions(self) -> dict[str, str]:
        """Return the version of each distribution that a technique of the recipe comes from."""
        return {plugin.distribution: plugin.version for plugin in self.plugins}


def load(recipe: str | Recipe) -> LoadedRecipe:
    """Parse a recipe, load its techniques and check that it is legal; torch is not imported for it.

    Raises:
        RecipeError: The text is not a recipe.
        UnknownIdError: A technique does not exist.
        PluginError: A technique cannot be loaded.
        LegalityError: The order is illegal.
    """
    written = parse(recipe) if isinstance(recipe, str) else recipe
    found = tuple(plugins.resolve_plugin("techniques", stage.technique) for stage in written)
    classes = tuple(plugins.load_plugin(plugin) for plugin in found)
    legality.check(classes, written)
    return LoadedRecipe(written, found, classes)


def configure(loaded: LoadedRecipe) -> ResolvedRecipe:
    """Make the techniques of a loaded recipe with their options.

    Raises:
        UsageError: The options do not fit.
    """
    techniques = tuple(map(plugins.make_technique, loaded.plugins, loaded.classes, loaded.options))
    stages = tuple(map(canonical_stage, loaded.plugins, techniques))
    return ResolvedRecipe(Recipe(stages), techniques, loaded.plugins, loaded.recipe)


def resolve(recipe: str | Recipe) -> ResolvedRecipe:
    """Parse a recipe, load its techniques, check that it is legal, and type its options.

    Raises:
        RecipeError: The text is not a recipe.
        UnknownIdError: A technique does not exist.
        PluginError: A technique cannot be loaded.
        LegalityError: The order is illegal.
        UsageError: The options do not fit.
    """
    return configure(load(recipe))


def canonical(recipe: str | Recipe) -> str:
    """Return the canonical text of a recipe; raise as :func:`resolve` does."""
    return str(resolve(recipe).recipe)


def canonical_stage(plugin: Plugin, technique: Technique) -> Stage:
    """Return a configured technique as a stage with every option explicit, sorted by name."""
    name = plugin.id if plugin.builtin else plugin.full_id
    return Stage(name, tuple(sorted(format_options(technique.config).items())))
