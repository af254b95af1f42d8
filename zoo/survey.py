"""The state of every installed plugin: whether it could be used, and if not, why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum

from zoo.discovery import Plugin, discover
from zoo.errors import ContractVersionError, MissingDependencyError, ZooError
from zoo.plugins import label, load_plugin


class State(str, Enum):
    """What became of a plugin."""

    OK = "ok"
    UNCHECKED = "not checked"  #: installed and well-formed; not imported
    OFF = "off"  #: switched off by ZOO_PLUGINS
    BROKEN = "broken"
    DUPLICATE = "duplicate"  #: two distributions claim the id; usable as distribution:id
    WRONG_CONTRACT = "wrong contract"
    UNAVAILABLE = "unavailable"  #: it needs a package of an extra that is not installed


#: States that somebody should do something about.
FAULTS = frozenset({State.BROKEN, State.DUPLICATE, State.WRONG_CONTRACT})


@dataclass(frozen=True)
class Standing:
    """A plugin, its state, and the reason where the state needs one."""

    plugin: Plugin
    state: State
    reason: str = ""


def survey(*, load: bool = False) -> tuple[Standing, ...]:
    """The standing of every installed plugin. With `load` each one is imported, otherwise none is."""
    plugins = discover()
    claims = Counter((plugin.kind, plugin.id) for plugin in plugins if not plugin.off and not plugin.problem)
    return tuple(_standing(plugin, claims[plugin.kind, plugin.id] > 1, plugins, load) for plugin in plugins)


def _state(error: ZooError) -> State:
    if isinstance(error, ContractVersionError):
        return State.WRONG_CONTRACT
    return State.UNAVAILABLE if isinstance(error, MissingDependencyError) else State.BROKEN


def _standing(plugin: Plugin, duplicate: bool, plugins: tuple[Plugin, ...], load: bool) -> Standing:
    if plugin.off:
        return Standing(plugin, State.OFF, "switched off by ZOO_PLUGINS")
    if plugin.problem:
        return Standing(plugin, State.BROKEN, plugin.problem)
    if load:
        try:
            load_plugin(plugin)
        except ZooError as error:
            return Standing(plugin, _state(error), error.message.removeprefix(label(plugin)).lstrip())
    if duplicate:
        rivals = (each for each in plugins if (each.kind, each.id) == (plugin.kind, plugin.id))
        others = ", ".join(each.distribution for each in rivals if each.distribution != plugin.distribution)
        return Standing(plugin, State.DUPLICATE, f"also claimed by {others}; choose with {plugin.full_id}")
    return Standing(plugin, State.OK if load else State.UNCHECKED)
