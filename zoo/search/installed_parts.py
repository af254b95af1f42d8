"""Every installed technique as parts of a space, by what it declares."""

from __future__ import annotations

from zoo import plugins
from zoo.contracts import Technique
from zoo.errors import PluginError
from zoo.options import options_of
from zoo.plugins.discovery import Plugin
from zoo.recipes import legality
from zoo.recipes.space_grammar import Declared, Domain, OpenStage, SpacePart
from zoo.search.domains import axis_of, declares_values


def installed_parts(named: set[str]) -> list[SpacePart]:
    """Return parts with every installed technique that needs no option and is not named elsewhere, all optional.

    Those that can never share a recipe are choices of one part.

    Args:
        named: Ids of techniques that the space names elsewhere.
    """
    found: list[tuple[Plugin, type[Technique]]] = []
    for plugin in plugins.find_plugins("techniques"):
        try:
            technique = plugins.load_plugin(plugin)
            needed = any(option.required for option in options_of(technique.Config))
        except PluginError:
            continue  # a search does not fail over a plugin that nobody named
        if plugin.id not in named and not needed:
            found.append((plugin, technique))
    order = legality.arrange([technique for _, technique in found]) or range(len(found))
    groups: list[list[tuple[Plugin, type[Technique]]]] = []
    for plugin, technique in (found[place] for place in order):
        last = groups[-1] if groups else []
        if last and all(_exclude(technique, other) for _, other in last):
            last.append((plugin, technique))
        else:
            groups.append([(plugin, technique)])
    return [
        SpacePart(
            tuple(OpenStage(p.id if p.builtin else p.full_id, _ranges(technique)) for p, technique in group),
            optional=True,
        )
        for group in groups
    ]


def _exclude(first: type[Technique], second: type[Technique]) -> bool:
    forbidden = legality.Relation.FORBIDDEN
    return legality.relation(first, second) is forbidden and legality.relation(second, first) is forbidden


def _ranges(technique: type[Technique]) -> tuple[tuple[str, Domain], ...]:
    """Return the options that declare values, all of them open.

    An option that is off by default usually replaces another, so the first of those that is valid is opened only where
    no other option is a number.
    """
    declared = [option for option in options_of(technique.Config) if declares_values(option)]
    plain = [option for option in declared if option.default is not None]
    numbers = [option for option in plain if axis_of(option.name, option, Declared()).ordered]
    instead = [option for option in declared if option.default is None][: 0 if numbers else 1]
    return tuple((option.name, Declared()) for option in plain + instead)
