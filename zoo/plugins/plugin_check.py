"""The state of every installed plugin: whether it could be used, and if not, why.

Plugins of third parties are imported in a child process: one that hangs, crashes or ends the process costs its
own standing and no other's.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from zoo.errors import ContractVersionError, MissingDependencyError, ZooError
from zoo.plugins.discovery import Plugin, PluginKind, discover
from zoo.plugins.loader import load_plugin
from zoo.processes.child_limits import Ceiling
from zoo.processes.launch import start_python


class PluginState(str, Enum):
    """What became of a plugin."""

    OK = "ok"
    UNCHECKED = "not checked"  #: installed and well-formed; not imported
    OFF = "off"  #: switched off by ZOO_PLUGINS
    BROKEN = "broken"
    DUPLICATE = "duplicate"  #: two distributions claim the id; usable as distribution:id
    WRONG_CONTRACT = "wrong contract"
    UNAVAILABLE = "unavailable"  #: it needs a package of an extra that is not installed


#: States that somebody should do something about.
FAULTS = frozenset({PluginState.BROKEN, PluginState.DUPLICATE, PluginState.WRONG_CONTRACT})


@dataclass(frozen=True)
class PluginStatus:
    """A plugin, its state, and the reason where the state needs one."""

    plugin: Plugin
    state: PluginState
    reason: str = ""


#: Seconds that importing a plugin may take; PyTorch, which many import, takes half of them on a small board.
PATIENCE = 60.0
#: Bytes of addresses that importing plugins may take beyond what Python takes; builds of PyTorch for CUDA map many.
_MEMORY = 24 << 30
#: Bytes that it may really hold.
_DATA = 4 << 30
#: What the child runs; it writes a line for each plugin, and what plugins write goes to standard error.
_TARGET = "zoo.plugins.plugin_check:load_in_child"


def check_plugins(*, load: bool = False, kind: PluginKind | None = None) -> tuple[PluginStatus, ...]:
    """Return the status of every installed plugin, of one `kind` or of all.

    With `load` each one is imported, otherwise none is.
    """
    plugins = tuple(plugin for plugin in discover() if kind in (None, plugin.kind))
    usable = [plugin for plugin in plugins if not plugin.off and not plugin.problem]
    claims = Counter((plugin.kind, plugin.id) for plugin in usable)
    faults: dict[Plugin, PluginStatus | None] = {}
    if load:
        faults = {plugin: _loaded(plugin) for plugin in usable if plugin.builtin}
        faults |= _loaded_apart([plugin for plugin in usable if not plugin.builtin])
    return tuple(
        _standing(plugin, claims[plugin.kind, plugin.id] > 1, plugins, faults, load) for plugin in plugins
    )


def _standing(
    plugin: Plugin,
    duplicate: bool,
    plugins: tuple[Plugin, ...],
    faults: Mapping[Plugin, PluginStatus | None],
    load: bool,
) -> PluginStatus:
    if plugin.off:
        return PluginStatus(plugin, PluginState.OFF, "switched off by ZOO_PLUGINS")
    if plugin.problem:
        return PluginStatus(plugin, PluginState.BROKEN, plugin.problem)
    if fault := faults.get(plugin):
        return fault
    if duplicate:
        rivals = (each for each in plugins if (each.kind, each.id) == (plugin.kind, plugin.id))
        others = ", ".join(each.distribution for each in rivals if each.distribution != plugin.distribution)
        return PluginStatus(
            plugin, PluginState.DUPLICATE, f"also claimed by {others}; choose with {plugin.full_id}"
        )
    return PluginStatus(plugin, PluginState.OK if load else PluginState.UNCHECKED)


# ----------------------------------------------------------------------------------------------- loading


def _loaded(plugin: Plugin) -> PluginStatus | None:
    """Import a plugin: what is wrong with it, None if nothing is."""
    try:
        load_plugin(plugin)
    except ZooError as error:
        state = PluginState.UNAVAILABLE if isinstance(error, MissingDependencyError) else PluginState.BROKEN
        if isinstance(error, ContractVersionError):
            state = PluginState.WRONG_CONTRACT
        return PluginStatus(plugin, state, error.message.removeprefix(plugin.label).lstrip())
    return None


def load_in_child(plugins: str) -> None:
    """Import, in the child, each plugin of a JSON list, and write its state and the reason on a line of its own."""
    ceiling = Ceiling()
    ceiling.limit_memory(_MEMORY)
    ceiling.limit_data(_DATA)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for described in json.loads(plugins):
        fault = _loaded(Plugin(**described))
        answers.write(json.dumps([fault.state, fault.reason] if fault else None) + "\n")
        answers.flush()
    os._exit(0)  # what plugins left behind, threads for instance, is not waited for


def _loaded_apart(plugins: Sequence[Plugin]) -> dict[Plugin, PluginStatus | None]:
    """Import plugins in a child process, and in another one those that come after one that ended the first."""
    found: dict[Plugin, PluginStatus | None] = {}
    while len(found) < len(plugins):
        rest = plugins[len(found) :]
        described = json.dumps([dataclasses.asdict(plugin) for plugin in rest])
        with start_python(_TARGET, described, site=True, stdout=subprocess.PIPE) as child:
            try:
                for plugin, line in zip(rest, _lines(child), strict=False):
                    fault = json.loads(line)
                    found[plugin] = (
                        PluginStatus(plugin, PluginState(fault[0]), str(fault[1])) if fault else None
                    )
                late = child.poll() is None and len(found) < len(plugins)
            finally:
                child.kill()
        if len(found) < len(plugins):
            culprit = plugins[len(found)]
            found[culprit] = PluginStatus(culprit, PluginState.BROKEN, _end(child.returncode, late))
    return found


def _lines(child: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield what the child writes, line by line, until it ends or falls silent for longer than one import may take."""
    assert child.stdout is not None
    pending = b""
    deadline = time.monotonic() + PATIENCE
    while select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(child.stdout.fileno(), 1 << 16)
        if not part:
            child.wait()
            return
        *lines, pending = (pending + part).split(b"\n")
        yield from lines
        if lines:
            deadline = time.monotonic() + PATIENCE


def _end(status: int, late: bool) -> str:
    """Return the reason for which a plugin ended or blocked the child."""
    if late:
        return f"cannot be loaded: its import takes more than {PATIENCE:.0f} s"
    if status < 0:
        return f"cannot be loaded: its import crashes Python ({signal.Signals(-status).name})"
    return f"cannot be loaded: it ends the program at once, with exit status {status}"
