"""A space of recipes with its techniques loaded: how large it is, what is legal in it, and recipes drawn from it."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from zoo import plugins
from zoo.contracts import Technique
from zoo.errors import LegalityError, RecipeError, UnknownIdError, UsageError, ZooError
from zoo.options import Option, Text, options_of, parse_options
from zoo.recipes import canonical, legality
from zoo.recipes.canonical import ResolvedRecipe
from zoo.recipes.grammar import Recipe, Stage
from zoo.recipes.space_grammar import Declared, Domain, OpenRecipe, OpenStage, SpacePart, parse_space
from zoo.search.domains import Axis, axis_of, is_open, per_layer_values
from zoo.search.installed_parts import installed_parts

#: Chooses a value of an axis by its index.
Choose = Callable[[Axis], int]
#: The most combinations of techniques that are counted and checked one by one.
_MOST_STRUCTURES = 20_000
#: Recipes that are drawn to find out whether a space holds any.
_TRIES = 300


@dataclass(frozen=True)
class TechniqueChoice:
    """A technique of a part, with what its options may be.

    Attributes:
        name: As it was written.
        options: Name and axis of each option.
        layers: Options that hold a value for each layer: their name, and an axis for each layer.
    """

    name: str
    technique: type[Technique]
    options: tuple[tuple[str, Axis], ...]
    layers: tuple[tuple[str, tuple[tuple[str, Axis], ...]], ...] = ()

    @property
    def size(self) -> int:
        """Return the number of settings."""
        return math.prod(len(axis) for axis in self.axes)

    @property
    def axes(self) -> list[Axis]:
        """Return all axes, those of layers included."""
        return [axis for _, axis in self.options] + [axis for _, each in self.layers for _, axis in each]

    def draw(self, choose: Choose) -> Stage:
        """Return the stage that `choose` settles on."""
        given: dict[str, Text] = {}
        for name, axis in self.options:
            value = axis.values[choose(axis)]
            assert value is not None
            given[name] = value
        for name, axes in self.layers:
            given[name] = tuple(f"{layer}:{axis.values[choose(axis)]}" for layer, axis in axes)
        return Stage.of(self.name, given)


@dataclass(frozen=True)
class Part:
    """One part of a space.

    Attributes:
        axis: Which of the choices is made; None stands for none of them.
        choices: By their place on the axis.
    """

    axis: Axis
    choices: tuple[TechniqueChoice | None, ...]


class Space:
    """A space of recipes.

    Args:
        written: As it was written, or parsed.
        layers: Returns the names of the layers of the network, for options that hold a value for each.

    Attributes:
        parts: In order.
        written: The space as text.
        example: A recipe of it.

    Raises:
        RecipeError: The text is not a space.
        UsageError: A technique, an option or a value does not exist, or no recipe of the space is legal.
        PluginError: A technique cannot be loaded.
    """

    def __init__(self, written: str | OpenRecipe, layers: Callable[[], Sequence[str]] = tuple) -> None:
        parsed = parse_space(written) if isinstance(written, str) else written
        self.written = str(parsed)
        self._names: Counter[str] = Counter()
        self._layers = layers
        named = {each.technique.rpartition(":")[2] for part in parsed.parts for each in part.choices}
        parts: list[Part] = []
        for part in parsed.parts:
            parts += [self._part(each) for each in (installed_parts(named) if not part.choices else [part])]
        self.parts = tuple(parts)
        self.example = self._check()

    # ------------------------------------------------------------------------------------------------ size

    @cached_property
    def structures(self) -> list[tuple[int, ...]] | None:
        """Return the legal combinations of techniques by their places; None if there are too many to look at."""
        if math.prod(len(part.choices) for part in self.parts) > _MOST_STRUCTURES:
            return None
        every = itertools.product(*(range(len(part.choices)) for part in self.parts))
        return [places for places in every if self._refusal(places) is None]

    @property
    def size(self) -> int:
        """Return the number of recipes: exact as far as techniques go; some may set options that exclude each other."""
        if self.structures is None:
            return (
                math.prod(
                    sum(1 if each is None else each.size for each in part.choices) for part in self.parts
                )
                - 1
            )
        return sum(math.prod(choice.size for choice in self._chosen(places)) for places in self.structures)

    @property
    def axes(self) -> list[Axis]:
        """Return everything that there is to choose."""
        return [
            axis
            for part in self.parts
            for axis in (part.axis, *(axis for each in part.choices if each for axis in each.axes))
            if len(axis) > 1
        ]

    # ------------------------------------------------------------------------------------------------ recipes

    def draw(self, choose: Choose) -> ResolvedRecipe:
        """Return the recipe that `choose` settles on; it is asked only for what there is to choose.

        Raises:
            UsageError: The recipe is illegal, or its options exclude each other.
        """

        def settle(axis: Axis) -> int:
            return choose(axis) if len(axis) > 1 else 0

        stages = [
            each.draw(settle) for part in self.parts if (each := part.choices[settle(part.axis)]) is not None
        ]
        if not stages:
            raise UsageError("A recipe needs at least one technique.")
        return canonical.resolve(Recipe(tuple(stages)))

    def draw_at_random(self, seed: int) -> ResolvedRecipe:
        """Return a recipe; every value of an axis is equally likely. Raise as :meth:`draw` does."""
        generator = random.Random(seed)
        return self.draw(lambda axis: generator.randrange(len(axis)))

    def every(self) -> Iterator[dict[str, int]]:
        """Yield every legal setting: the places on the axes by their names."""
        for chosen, choices in self._structures():
            axes = [axis for choice in choices for axis in choice.axes]
            for places in itertools.product(*(range(len(axis)) for axis in axes)):
                yield {**chosen, **{axis.name: place for axis, place in zip(axes, places, strict=True)}}

    def plainest(self) -> Iterator[dict[str, int]]:
        """Yield the settings with the fewest techniques, whose numbers are in the middle of their ranges.

        Options that are not numbers have the first value.
        """
        fewest = min((len(choices) for _, choices in self._structures()), default=0)
        for chosen, choices in self._structures():
            if len(choices) == fewest:
                axes = [axis for choice in choices for axis in choice.axes]
                yield {**chosen, **{axis.name: axis.middle for axis in axes}}

    def corners(self) -> Iterator[dict[str, int]]:
        """Yield the settings whose numbers are all at an end of their range, those of all layers at the same end.

        Options that are not numbers have every value.
        """
        for chosen, choices in self._structures():
            groups = [[axis] for choice in choices for _, axis in choice.options]
            groups += [[axis for _, axis in layers] for choice in choices for _, layers in choice.layers]
            for places in itertools.product(*(group[0].ends for group in groups)):
                ends = zip(groups, places, strict=True)
                yield {**chosen, **{axis.name: place for group, place in ends for axis in group}}

    # ------------------------------------------------------------------------------------------------ details

    def _structures(self) -> Iterator[tuple[dict[str, int], list[TechniqueChoice]]]:
        """Yield the legal combinations of techniques: places on the axes of the parts, and what they stand for."""
        for places in self.structures or ():
            chosen = {part.axis.name: place for part, place in zip(self.parts, places, strict=True)}
            yield chosen, self._chosen(places)

    def _chosen(self, places: Sequence[int]) -> list[TechniqueChoice]:
        return [
            c
            for part, place in zip(self.parts, places, strict=True)
            if (c := part.choices[place]) is not None
        ]

    def _refusal(self, places: Sequence[int]) -> ZooError | None:
        chosen = self._chosen(places)
        try:
            recipe = Recipe(tuple(Stage(each.name) for each in chosen))
            legality.check([each.technique for each in chosen], recipe)
        except (LegalityError, RecipeError) as error:
            return error
        return None

    def _check(self) -> ResolvedRecipe:
        """Return a recipe, or refuse a space that holds none.

        Raises:
            UsageError: It holds none.
        """
        if self.structures == []:
            places = [len(part.choices) - 1 for part in self.parts]
            reason = self._refusal(places)
            raise LegalityError(
                f"The space {self.written} is empty: {reason.message if reason else 'no order is legal'}",
                hint=(reason.hint if reason else None) or "See what combines with:  zoo techniques --matrix",
            )
        last: UsageError | None = None
        for seed in range(_TRIES):
            try:
                return self.draw_at_random(seed)
            except UsageError as error:
                last = error
        assert last is not None
        raise UsageError(
            f"The space {self.written} is empty: none of {_TRIES} recipes drawn from it is valid. The last: "
            f"{last.message}",
            hint=last.hint,
        )

    def _part(self, part: SpacePart) -> Part:
        taken = {name: False for name, _ in part.shared}
        choices: list[TechniqueChoice | None] = [None] if part.optional else []
        for stage in part.choices:
            choices.append(self._choice(stage, part.shared, taken))
        unused = [name for name, used in taken.items() if not used]
        if unused:
            ids = ", ".join(each.technique for each in part.choices)
            raise UnknownIdError(
                f"None of {ids} has the option '{unused[0]}', or declares what it may be.",
                hint=f"See the options of one with:  zoo info {part.choices[0].technique}",
            )
        name = "|".join(each.technique for each in part.choices)
        labels = _labels(part.choices)
        return Part(
            Axis(self._unique(name), (None, *labels) if part.optional else labels),
            tuple(choices),
        )

    def _choice(
        self, stage: OpenStage, shared: Sequence[tuple[str, Domain]], taken: dict[str, bool]
    ) -> TechniqueChoice:
        plugin = plugins.resolve_plugin("techniques", stage.technique)
        technique: type[Technique] = plugins.load_plugin(plugin)
        known = {each.name: each for each in options_of(technique.Config)}
        domains = {name.replace("-", "_"): domain for name, domain in stage.options}
        for name, domain in shared:
            option = known.get(name.replace("-", "_"))
            if option is not None and (not isinstance(domain, Declared) or is_open(option)):
                domains.setdefault(option.name, domain)
                taken[name] = True
        options: list[tuple[str, Axis]] = []
        layered: list[tuple[str, tuple[tuple[str, Axis], ...]]] = []
        for name, domain in domains.items():
            if name not in known:
                parse_options(stage.technique, technique.Config, {name: ""})  # says what is meant
                raise AssertionError(name)
            full = self._unique(f"{stage.technique}.{name}")
            values = per_layer_values(known[name]) if isinstance(domain, Declared) else ()
            if values:
                names = self._layers()
                if not names:
                    raise UsageError(
                        f"{full}=* is a value for each layer, but the network has no layer to name."
                    )
                layered.append((name, tuple((each, Axis(f"{full}[{each}]", values)) for each in names)))
            else:
                axis = axis_of(full, known[name], domain)
                _check_values(stage.technique, technique, known, name, axis)
                options.append((name, axis))
        return TechniqueChoice(stage.technique, technique, tuple(options), tuple(layered))

    def _unique(self, name: str) -> str:
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}#{self._names[name]}"


def _check_values(
    owner: str, technique: type[Technique], known: Mapping[str, Option], name: str, axis: Axis
) -> None:
    """Refuse values that the option does not accept, whatever the other options are.

    Raises:
        UsageError: There is one.
    """
    if any(option.required for other, option in known.items() if other != name):
        return
    for value in (axis.values[0], axis.values[-1]) if axis.ordered else axis.values:
        assert value is not None
        parse_options(owner, technique.Config, {name: value})


def _labels(choices: Sequence[OpenStage]) -> tuple[str, ...]:
    """Return what tells the choices of a part apart: the technique, or all that is written where it has several.

    Raises:
        UsageError: Two are the same.
    """
    written = Counter(map(str, choices))
    twice = next((each for each, count in written.items() if count > 1), None)
    if twice is not None:
        instead = f"{{{','.join(written)}}}" if len(written) > 1 else twice
        raise UsageError(
            f"{twice} is listed twice where one of several is chosen.", hint=f"Write {instead} there."
        )
    techniques = Counter(each.technique for each in choices)
    return tuple(each.technique if techniques[each.technique] == 1 else str(each) for each in choices)
