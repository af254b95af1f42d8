"""Choosing and loading plugins: architectures, techniques, engines, datasets and devices.

A plugin is named by its id, or by ``distribution:id`` where two distributions claim one id. Loading checks
the contract version, and every error names the distribution. `ZOO_PLUGINS=''` switches the plugins of third
parties off; a comma-separated list of distributions leaves only those on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from zoo.contracts import CONTRACT_VERSION, Architecture, Dataset, DeviceProfile, Engine, Phase, Technique
from zoo.errors import (
    ContractVersionError,
    MissingDependencyError,
    PluginError,
    UnknownIdError,
    UsageError,
    ZooError,
)
from zoo.extras import COMPRESS_PACKAGES
from zoo.options import Text, parse_options
from zoo.plugins.discovery import GROUPS, Plugin, discover, import_target, normalize_name
from zoo.plugins.stdio import stdout_to_stderr
from zoo.suggest import did_you_mean

T = TypeVar("T")

#: Seconds after which a plugin that still loads is named; PyTorch loads in less on all but the smallest boards.
_LONG = 10.0

_SINGULAR = {
    "architectures": "an architecture",
    "techniques": "a technique",
    "engines": "an engine",
    "datasets": "a dataset",
    "devices": "a device",
}
_BASES: dict[str, type] = {
    "architectures": Architecture,
    "techniques": Technique,
    "engines": Engine,
    "datasets": Dataset,
}
_CONTRACTS = frozenset(_BASES.values())
#: Attributes that a class of each kind must have of its own.
_REQUIRED = {
    "architectures": ("build",),
    "techniques": ("summary", "phase", "Config"),
    "engines": ("summary", "available", "version", "open"),
    "datasets": ("summary", "Config", "tasks"),
}


#: How a network of the user's own is named, ``path/to/module.py:factory``, and the family that builds it.
OWN_FILE = re.compile(r"\.py:[A-Za-z_]\w*\s*(\(|$)")
_OWN_FAMILY = "module"


def find_plugins(kind: str) -> tuple[Plugin, ...]:
    """The installed plugins of a kind (a key of GROUPS) that are not switched off; imports none of them."""
    return tuple(plugin for plugin in discover() if plugin.kind == kind and not plugin.off)


def resolve_plugin(kind: str, name: str) -> Plugin:
    """The one plugin that `name` (``id`` or ``distribution:id``) means, not loaded.

    Raises UnknownIdError if there is none, PluginError if two distributions claim it or its name or target
    in the metadata is unusable.
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
            f"{_SINGULAR[kind].capitalize()} '{rest}' is claimed by {owners}.",
            hint=f"Choose one by writing:  {choices}",
        )
    problem = next((plugin.problem for plugin in claims if plugin.problem), "")
    if problem:
        raise PluginError(f"{describe_plugin(claims[0])} is broken: {problem}.")
    return claims[0]


def load(kind: str, name: str) -> Any:
    """The class (for devices: the profile) that `name` means. Raises as resolve and load_plugin do."""
    return load_plugin(resolve_plugin(kind, name))


def load_plugin(plugin: Plugin) -> Any:
    """Import a plugin and check that it keeps the contract.

    Raises PluginError (ContractVersionError for a wrong contract version) naming the distribution, or
    MissingDependencyError if it needs a package of the extra 'compress'.
    """
    if plugin.problem:
        raise PluginError(f"{describe_plugin(plugin)} is broken: {plugin.problem}.")
    loaded = _guarded(plugin, lambda: import_target(plugin.target))
    if plugin.kind == "devices" and callable(loaded):
        loaded = _guarded(plugin, loaded)
    _check_contract_version(plugin, loaded)
    _check_shape(plugin, loaded)
    return loaded


def architecture(name: str, *, own_files: bool = False) -> Architecture:
    """An architecture by id, or a member of a family by ``family:member`` (``timm:resnet18``).

    own_files: whether `name` may be ``path/to/module.py:factory``, a file that is then executed; only for what
    the user typed, never for a name that comes from a download.
    """
    if OWN_FILE.search(name):
        if not own_files:
            raise UnknownIdError(f"The architecture '{name[:100]}' is a file of whoever named it so.")
        name = name if name.partition(":")[0] == _OWN_FAMILY else f"{_OWN_FAMILY}:{name}"
    plugin, member = _resolve_member(name)
    cls = load_plugin(plugin)
    if member is not None and not cls.family:
        raise UsageError(f"'{plugin.id}' is one architecture, not a family: write it without ':{member}'.")
    if member is None and cls.family:
        raise UsageError(f"'{plugin.id}' is a family of architectures: write {plugin.id}:NAME.")
    built: Architecture = _guarded(plugin, lambda: cls(member) if cls.family else cls())
    missing = [each for each in ("id", "summary", "task", "input", "output") if not hasattr(built, each)]
    if missing:
        raise PluginError(f"{describe_plugin(plugin)} is broken: it has no '{missing[0]}'.")
    return built


def technique(name: str, options: Mapping[str, Text] | None = None) -> Technique:
    """A technique with its options given as text. Raises UsageError for options that do not fit."""
    made: Technique = _configured("techniques", name, options)
    return made


def make_technique(plugin: Plugin, cls: type[Technique], options: Mapping[str, Text]) -> Technique:
    """A technique whose class is loaded already, with its options. Raises as :func:`technique` does."""
    made: Technique = _made(plugin, cls, options)
    return made


def dataset(name: str, options: Mapping[str, Text] | None = None) -> Dataset:
    """A dataset with its options given as text. Raises UsageError for options that do not fit."""
    made: Dataset = _configured("datasets", name, options)
    return made


def engine(name: str) -> Engine:
    """An engine; whether it can run here, its `available` tells."""
    plugin = resolve_plugin("engines", name)
    made: Engine = _guarded(plugin, load_plugin(plugin))
    return made


def device(name: str) -> DeviceProfile:
    """A device profile."""
    profile: DeviceProfile = load("devices", name)
    return profile


# --------------------------------------------------------------------------------------------------- details


def _configured(kind: str, name: str, options: Mapping[str, Text] | None) -> Any:
    plugin = resolve_plugin(kind, name)
    return _made(plugin, load_plugin(plugin), options or {})


def _made(plugin: Plugin, cls: Any, options: Mapping[str, Text]) -> Any:
    config = parse_options(plugin.id, cls.Config, options)
    return _guarded(plugin, lambda: cls(config))


def _resolve_member(name: str) -> tuple[Plugin, str | None]:
    """``unet``, ``dist:unet``, ``timm:resnet18`` or ``dist:timm:resnet18``: what is installed decides."""
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


def _guarded(plugin: Plugin, work: Callable[[], T]) -> T:
    """Run a plugin's own code: whatever it raises, exits with or prints, the culprit is named."""
    try:
        with contextlib.nullcontext() if plugin.builtin else _watched(plugin):
            return work()
    except (ZooError, KeyboardInterrupt):
        raise
    except ImportError as error:
        if (error.name or "").partition(".")[0] in COMPRESS_PACKAGES:
            raise MissingDependencyError(
                f"{describe_plugin(plugin)} needs the package '{error.name}', which is not installed here.",
                hint="Install it with:  pip install 'compression-zoo[compress]'",
            ) from error
        raise _broken(plugin, str(error)) from error
    except SystemExit as error:
        raise _broken(plugin, f"it ends the program with exit({error.code})") from error
    except BaseException as error:
        raise _broken(plugin, f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _watched(plugin: Plugin) -> Iterator[None]:
    """While a third party's code runs: keep standard output clean, and say who it is that takes so long."""

    def tell() -> None:
        sys.stderr.write(f"{describe_plugin(plugin)} has been loading for {_LONG:g} s. Ctrl-C stops it.\n")

    timer = threading.Timer(_LONG, tell)
    timer.daemon = True
    timer.start()
    try:
        with stdout_to_stderr():
            yield
    finally:
        timer.cancel()


def _broken(plugin: Plugin, reason: str) -> PluginError:
    lines = reason.strip().splitlines()
    name = plugin.distribution
    remedy = f"Upgrade or remove it:  pip install --upgrade {name}  or  pip uninstall {name}"
    if plugin.builtin:
        remedy = f"Install it again:  pip install --force-reinstall {name}"
    return PluginError(
        f"{describe_plugin(plugin)} cannot be loaded: {lines[0][:300] if lines else 'no reason given'}",
        hint=remedy,
    )


def _check_contract_version(plugin: Plugin, loaded: Any) -> None:
    stated = getattr(loaded, "contract", None)
    if isinstance(loaded, type) and not plugin.builtin:
        # The value inherited from our base class is today's version, not the one the plugin was written for.
        owner = next((base for base in loaded.__mro__ if "contract" in vars(base)), object)
        stated = None if owner in _CONTRACTS else stated
    if stated is None:
        raise ContractVersionError(
            f"{describe_plugin(plugin)} does not say which contract version it was written for; "
            f"this zoo has version {CONTRACT_VERSION}.",
            hint=f"Its author must add the class attribute:  contract = {CONTRACT_VERSION}",
        )
    if stated != CONTRACT_VERSION:
        raise ContractVersionError(
            f"{describe_plugin(plugin)} was written for contract version {stated}; "
            f"this zoo has version {CONTRACT_VERSION}.",
            hint=f"Install a version of {plugin.distribution} that fits, or another version of zoo.",
        )


def _check_shape(plugin: Plugin, loaded: Any) -> None:
    base = _BASES.get(plugin.kind)
    if base is None:
        fits, wanted = isinstance(loaded, DeviceProfile), "a DeviceProfile"
    else:
        fits, wanted = isinstance(loaded, type) and issubclass(loaded, base), f"a subclass of {base.__name__}"
    problem = "" if fits else f"{plugin.target} is not {wanted}"
    for attribute in _REQUIRED.get(plugin.kind, ()) if fits else ():
        if getattr(loaded, attribute, None) in (None, getattr(base, attribute, None)):
            problem = f"{plugin.target} has no '{attribute}' of its own"
    if fits and not problem:
        # the id of a family depends on the member
        stated = plugin.id if getattr(loaded, "family", False) else getattr(loaded, "id", None)
        if plugin.kind == "techniques" and not isinstance(loaded.phase, Phase):
            problem = f"the phase of {plugin.target} is {loaded.phase!r}, not a Phase"
        elif "Config" in _REQUIRED.get(plugin.kind, ()) and not dataclasses.is_dataclass(loaded.Config):
            problem = f"the Config of {plugin.target} is not a dataclass"
        elif stated != plugin.id:
            problem = f"{plugin.target} calls itself {stated!r}, but is installed as '{plugin.id}'"
    if problem:
        raise PluginError(f"{describe_plugin(plugin)} is broken: {problem}.")


def _unknown(kind: str, name: str, installed: list[Plugin], named: list[Plugin]) -> ZooError:
    singular = _SINGULAR[kind]
    if named:
        return PluginError(
            f"{describe_plugin(named[0])} is switched off by the environment variable ZOO_PLUGINS.",
            hint="Unset ZOO_PLUGINS, or add the distribution to its list.",
        )
    plain = name.rpartition(":")[2]
    others = [_SINGULAR[plugin.kind] for plugin in discover() if plugin.id == plain and plugin.kind != kind]
    if others:
        return UnknownIdError(
            f"'{name}' is {others[0]}, not {singular}.", hint=f"List what there is with:  zoo list {kind}"
        )
    if not any(plugin.builtin for plugin in installed):
        return PluginError(
            f"{singular.capitalize()} '{name}' is not installed, and nor are the built-in {kind}.",
            hint="Install zoo itself, which registers them:  pip install compression-zoo",
        )
    known = [plugin.id for plugin in installed if not plugin.off]
    known += [plugin.full_id for plugin in installed if ":" in name and not plugin.off]
    return UnknownIdError(
        f"There is no {singular.partition(' ')[2]} '{name[:100]}'{did_you_mean(name, known) or '.'}",
        hint=f"List what there is with:  zoo list {kind}",
    )


def describe_plugin(plugin: Plugin) -> str:
    """How errors name a plugin and its distribution: ``Technique 'fancy' of zoo-fancy 1.2``."""
    noun = _SINGULAR[plugin.kind].partition(" ")[2].capitalize()
    return f"{noun} '{plugin.id}' of {plugin.distribution} {plugin.version}".rstrip()


__all__ = [
    "GROUPS",
    "OWN_FILE",
    "Plugin",
    "architecture",
    "dataset",
    "describe_plugin",
    "device",
    "engine",
    "find_plugins",
    "load",
    "load_plugin",
    "make_technique",
    "resolve_plugin",
    "technique",
]
