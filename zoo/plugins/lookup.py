"""From the name of a plugin to the plugin that is installed; nothing is imported.

A plugin is named by its id, or by ``distribution:id`` where two distributions claim one id. `ZOO_PLUGINS=''` switches
the plugins of third parties off; a comma-separated list of distributions leaves only those on.
"""

from __future__ import annotations

from collections import Counter

from zoo.errors import PluginError, UnknownIdError, ZooError
from zoo.extras import IN_THE_CLONE, install_command
from zoo.plugins.discovery import NOUNS, Plugin, PluginKind, discover, normalize_name
from zoo.suggest import did_you_mean


def find_plugins(kind: PluginKind) -> tuple[Plugin, ...]:
    """Return the installed plugins of a kind that are not switched off."""
    return tuple(plugin for plugin in discover() if plugin.kind == kind and not plugin.off)


def resolve_plugin(kind: PluginKind, name: str) -> Plugin:
    """Return the plugin that `name` means, ``id`` or ``distribution:id``.

    Raises:
        UnknownIdError: No plugin of this kind has the name.
        PluginError: Two distributions claim the name, or the plugin's entry in the metadata is unusable.
    """
    first, colon, rest = name.rpartition(":")
    installed = [plugin for plugin in discover() if plugin.kind == kind]
    named = [
        plugin
        for plugin in installed
        if plugin.id == rest and (not colon or plugin.distribution == normalize_name(first))
    ]
    claims = [plugin for plugin in named if not plugin.off]
    if not claims:
        raise _unknown(kind, name, installed, named)
    if len({plugin.distribution for plugin in claims}) > 1:
        owners = " and ".join(f"{plugin.distribution} {plugin.version}".strip() for plugin in claims)
        choices = "  or  ".join(plugin.full_id for plugin in claims)
        raise PluginError(
            f"{NOUNS[kind].capitalize()} '{rest}' is claimed by {owners}.",
            hint=f"Choose one by writing:  {choices}",
        )
    problem = next((plugin.problem for plugin in claims if plugin.problem), "")
    if problem:
        raise PluginError(f"{claims[0].label} is broken: {problem}.")
    return claims[0]


def resolve_architecture(name: str) -> tuple[Plugin, str | None]:
    """Return the plugin that `name` means, and the member of its family that it names, if any.

    The name is ``unet``, ``dist:unet``, ``timm:resnet18`` or ``dist:timm:resnet18``; what is installed
    decides which part is which.

    Raises:
        UnknownIdError: As :func:`resolve_plugin`.
        PluginError: As :func:`resolve_plugin`.
    """
    parts = name.split(":")
    distributions = {
        (normalize_name(plugin.distribution), plugin.id) for plugin in find_plugins("architectures")
    }
    length = 2 if len(parts) > 1 and (normalize_name(parts[0]), parts[1]) in distributions else 1
    if (
        len(parts) > 1
        and length == 1
        and not any(plugin.id == parts[0] for plugin in find_plugins("architectures"))
    ):
        length = len(parts)
    member = ":".join(parts[length:]) if len(parts) > length else None
    return resolve_plugin("architectures", ":".join(parts[:length])), member


def list_architectures() -> list[str]:
    """Return the ids of the installed architectures; a family, such as timm, is one of them."""
    return _ids("architectures")


def list_techniques() -> list[str]:
    """Return the ids of the installed techniques."""
    return _ids("techniques")


def list_tasks() -> list[str]:
    """Return the ids of the installed tasks."""
    return _ids("tasks")


def list_datasets() -> list[str]:
    """Return the ids of the installed datasets."""
    return _ids("datasets")


def list_engines() -> list[str]:
    """Return the ids of the installed engines, whether or not they can run here."""
    return _ids("engines")


def list_devices() -> list[str]:
    """Return the ids of the installed device profiles."""
    return _ids("devices")


def _ids(kind: PluginKind) -> list[str]:
    """Return the ids of a kind, as ``distribution:id`` where several distributions claim one."""
    plugins = find_plugins(kind)
    claims = Counter(plugin.id for plugin in plugins)
    return sorted(plugin.id if claims[plugin.id] == 1 else plugin.full_id for plugin in plugins)


def _unknown(kind: PluginKind, name: str, installed: list[Plugin], named: list[Plugin]) -> ZooError:
    singular = NOUNS[kind]
    if named:
        return PluginError(
            f"{named[0].label} is switched off by the environment variable ZOO_PLUGINS.",
            hint="Unset ZOO_PLUGINS, or add the distribution to its list.",
        )
    plain = name.rpartition(":")[2]
    others = [NOUNS[plugin.kind] for plugin in discover() if plugin.id == plain and plugin.kind != kind]
    if others:
        return UnknownIdError(
            f"'{name}' is {others[0]}, not {singular}.", hint=f"List the known ones with:  zoo list {kind}"
        )
    if not any(plugin.builtin for plugin in installed):
        return PluginError(
            f"{singular.capitalize()} '{name}' is not installed, and neither are the built-in {kind}.",
            hint=f"Install zoo itself, which registers them, {IN_THE_CLONE}:  {install_command()}",
        )
    known = [plugin.id for plugin in installed if not plugin.off]
    known += [plugin.full_id for plugin in installed if ":" in name and not plugin.off]
    return UnknownIdError(
        f"There is no {singular.partition(' ')[2]} '{name[:100]}'{did_you_mean(name, known) or '.'}",
        hint=f"List the known ones with:  zoo list {kind}",
    )
