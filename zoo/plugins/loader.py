"""Loading plugins: architectures, techniques, tasks, engines, datasets and devices.

Every error names the distribution of the plugin that is at fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, overload

from zoo.contracts import Architecture, Dataset, DeviceProfile, Engine, Task, Technique
from zoo.errors import PluginError, UnknownIdError, UsageError
from zoo.options import Text, parse_options
from zoo.plugins.contract_check import check_contract
from zoo.plugins.discovery import Plugin, PluginKind, import_target
from zoo.plugins.guard import guarded
from zoo.plugins.lookup import resolve_architecture, resolve_plugin

#: How networks in files of the user's own are named, by the family that makes them, and what those files are.
_OWN_NETWORKS = {
    "module": (re.compile(r"\.py:[A-Za-z_]\w*\s*(\(|$)"), "a Python file"),
    "onnx": (re.compile(r"\.onnx\s*(\(|$)", re.IGNORECASE), "an ONNX file"),
}

#: How artifacts name networks that a Python program passed.
_IN_MEMORY = "memory:"


def own_family(name: str) -> str:
    """Return the family that makes the network of a file, ``path/to/module.py:factory`` or ``path/to/model.onnx``.

    Args:
        name: Of any architecture; "" is returned for one that is not in a file of the user's own.
    """
    return next((family for family, (form, _) in _OWN_NETWORKS.items() if form.search(name)), "")


@overload
def load(kind: Literal["architectures"], name: str) -> type[Architecture]: ...
@overload
def load(kind: Literal["techniques"], name: str) -> type[Technique]: ...
@overload
def load(kind: Literal["tasks"], name: str) -> type[Task]: ...
@overload
def load(kind: Literal["engines"], name: str) -> type[Engine]: ...
@overload
def load(kind: Literal["datasets"], name: str) -> type[Dataset]: ...
@overload
def load(kind: Literal["devices"], name: str) -> DeviceProfile: ...
def load(kind: PluginKind, name: str) -> Any:
    """Return the class that `name` means; for a device, its profile.

    Raises:
        ZooError: As :func:`resolve_plugin` and :func:`load_plugin`.
    """
    return load_plugin(resolve_plugin(kind, name))


def load_plugin(plugin: Plugin) -> Any:
    """Import a plugin and check that it keeps the contract.

    Returns:
        The class; for a device, its profile.

    Raises:
        PluginError: It cannot be imported, or breaks the contract.
        ContractVersionError: It was written for another version of the contract.
        MissingDependencyError: It needs a package of the extra 'compress'.
    """
    if plugin.problem:
        raise PluginError(f"{plugin.label} is broken: {plugin.problem}.")
    loaded = guarded(plugin, lambda: import_target(plugin.target))
    if plugin.kind == "devices" and callable(loaded):
        loaded = guarded(plugin, loaded)
    check_contract(plugin, loaded)
    return loaded


def architecture(name: str, *, own_files: bool = False) -> Architecture:
    """Return an architecture.

    Args:
        name: Its id, or ``family:member`` for a member of a family, such as ``timm:resnet18``.
        own_files: Whether `name` may be ``path/to/module.py:factory``, a file that is then executed, or
            ``path/to/model.onnx``. Only for names that the user typed, never for one that comes from a download.
    """
    if name.startswith(_IN_MEMORY):
        raise UnknownIdError(
            f"'{name[:100]}' was a module of a Python program, which no text names.",
            hint='Pass it again:  zoo.apply(model, Path("recipe.toml"), data=...)',
        )
    family = own_family(name)
    if family:
        if not own_files:
            raise UnknownIdError(
                f"'{name[:100]}' names {_OWN_NETWORKS[family][1]} on its author's machine and cannot be loaded here."
            )
        name = name if name.partition(":")[0] == family else f"{family}:{name}"
    plugin, member = resolve_architecture(name)
    cls = load_plugin(plugin)
    if member is not None and not cls.family:
        raise UsageError(
            f"'{plugin.id}' is a single architecture, not a family: write it without ':{member}'."
        )
    if member is None and cls.family and not cls.member_optional:
        raise UsageError(f"'{plugin.id}' is a family of architectures: write {plugin.id}:NAME.")
    built: Architecture = guarded(plugin, lambda: cls(member) if cls.family else cls())
    missing = [each for each in ("id", "summary", "task", "input", "output") if not hasattr(built, each)]
    if missing:
        raise PluginError(f"{plugin.label} is broken: it has no '{missing[0]}'.")
    return built


def technique(name: str, options: Mapping[str, Text] | None = None) -> Technique:
    """Return a technique with its options, given as text.

    Raises:
        UsageError: The options do not fit.
    """
    made: Technique = _configured("techniques", name, options)
    return made


def make_technique(plugin: Plugin, cls: type[Technique], options: Mapping[str, Text]) -> Technique:
    """Return a technique whose class is loaded already.

    Raises:
        UsageError: The options do not fit.
    """
    made: Technique = _made(plugin, cls, options)
    return made


def task(name: str) -> Task:
    """Return a task."""
    plugin = resolve_plugin("tasks", name)
    made: Task = guarded(plugin, load_plugin(plugin))
    return made


def task_of(architecture: Architecture) -> Task:
    """Return the task of an architecture, which names it by id or holds it itself."""
    stated: object = architecture.task
    return stated if isinstance(stated, Task) else task(architecture.task)


def dataset(name: str, options: Mapping[str, Text] | None = None) -> Dataset:
    """Return a dataset with its options, given as text.

    Raises:
        UsageError: The options do not fit.
    """
    made: Dataset = _configured("datasets", name, options)
    return made


def engine(name: str) -> Engine:
    """Return an engine; its `available` says whether it can run here."""
    plugin = resolve_plugin("engines", name)
    made: Engine = guarded(plugin, load_plugin(plugin))
    return made


def device(name: str) -> DeviceProfile:
    """Return a device profile."""
    return load("devices", name)


# --------------------------------------------------------------------------------------------------- details


def _configured(kind: PluginKind, name: str, options: Mapping[str, Text] | None) -> Any:
    plugin = resolve_plugin(kind, name)
    return _made(plugin, load_plugin(plugin), options or {})


def _made(plugin: Plugin, cls: Any, options: Mapping[str, Text]) -> Any:
    config = parse_options(plugin.id, cls.Config, options)
    return guarded(plugin, lambda: cls(config))
