"""Checking that a loaded plugin keeps the contract of its kind."""

from __future__ import annotations

import dataclasses
from typing import Any

from zoo.contracts import (
    CONTRACT_VERSION,
    Architecture,
    Dataset,
    DeviceProfile,
    Engine,
    Phase,
    Task,
    Technique,
)
from zoo.errors import ContractVersionError, PluginError
from zoo.plugins.discovery import Plugin, PluginKind

_BASES: dict[PluginKind, type] = {
    "architectures": Architecture,
    "techniques": Technique,
    "tasks": Task,
    "engines": Engine,
    "datasets": Dataset,
}
_CONTRACTS = frozenset(_BASES.values())
#: Attributes that a class of each kind must have of its own.
_REQUIRED: dict[PluginKind, tuple[str, ...]] = {
    "architectures": ("build",),
    "techniques": ("summary", "phase", "Config"),
    "tasks": ("summary", "outputs", "measures", "loss", "scorer"),
    "engines": ("summary", "available", "version", "open"),
    "datasets": ("summary", "Config", "tasks"),
}


def check_contract(plugin: Plugin, loaded: Any) -> None:
    """Check what was loaded for `plugin`.

    Raises:
        ContractVersionError: It states no contract version, or another than this zoo's.
        PluginError: It is not what its kind must be, or lacks a required attribute.
    """
    _check_contract_version(plugin, loaded)
    _check_shape(plugin, loaded)


def _check_contract_version(plugin: Plugin, loaded: Any) -> None:
    stated = getattr(loaded, "contract", None)
    if isinstance(loaded, type) and not plugin.builtin:
        # The value inherited from our base class is today's version, not the one the plugin was written for.
        owner = next((base for base in loaded.__mro__ if "contract" in vars(base)), object)
        stated = None if owner in _CONTRACTS else stated
    if stated is None:
        raise ContractVersionError(
            f"{plugin.label} does not state the contract version it was written for; "
            f"this zoo has version {CONTRACT_VERSION}.",
            hint=f"Its author must add the class attribute:  contract = {CONTRACT_VERSION}",
        )
    if stated != CONTRACT_VERSION:
        raise ContractVersionError(
            f"{plugin.label} was written for contract version {stated}; "
            f"this zoo has version {CONTRACT_VERSION}.",
            hint=f"Install a version of {plugin.distribution} that matches, or another version of zoo.",
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
        raise PluginError(f"{plugin.label} is broken: {problem}.")
