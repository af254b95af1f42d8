"""Running the code of plugins: whatever it raises, prints or hangs in, the plugin is named."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from zoo.errors import MissingDependencyError, PluginError, ZooError
from zoo.extras import COMPRESS_PACKAGES, REINSTALL, install_hint
from zoo.formatting import printable
from zoo.plugins.discovery import Plugin
from zoo.plugins.stdio import stdout_to_stderr

T = TypeVar("T")

#: Seconds after which a plugin that still loads is named; PyTorch loads in less on all but the smallest boards.
SLOW_SECONDS = 10.0


def guarded(plugin: Plugin, work: Callable[[], T]) -> T:
    """Return the result of `work`, which runs a plugin's own code.

    Raises:
        ZooError: `work` raised it.
        MissingDependencyError: The plugin needs a package of the extra 'compress'.
        PluginError: `work` raised anything else or ended the program; the plugin is named.
    """
    try:
        with contextlib.nullcontext() if plugin.builtin else _watched(plugin):
            return work()
    except (ZooError, KeyboardInterrupt):
        raise
    except ImportError as error:
        if (error.name or "").partition(".")[0] in COMPRESS_PACKAGES:
            raise MissingDependencyError(
                f"{plugin.label} needs the package '{error.name}', which is not installed here.",
                hint=install_hint("compress"),
            ) from error
        raise _broken(plugin, str(error)) from error
    except SystemExit as error:
        raise _broken(plugin, f"it ends the program with exit({error.code})") from error
    except BaseException as error:
        raise _broken(plugin, f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def named_if_slow(label: str, doing: str = "loading") -> Iterator[None]:
    """Report code of somebody else that takes longer than SLOW_SECONDS, and may never end, while it runs."""
    shown = sys.stderr  # what is reported meanwhile may be discarded

    def tell() -> None:
        shown.write(printable(f"{label} has been {doing} for {SLOW_SECONDS:g} s. Ctrl-C stops it.") + "\n")
        shown.flush()

    timer = threading.Timer(SLOW_SECONDS, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def _watched(plugin: Plugin) -> Iterator[None]:
    """Keep standard output clean while third-party code runs, and report a plugin that is slow."""
    with named_if_slow(plugin.label), stdout_to_stderr():
        yield


def _broken(plugin: Plugin, reason: str) -> PluginError:
    lines = reason.strip().splitlines()
    name = plugin.distribution
    remedy = f"Upgrade or remove it:  pip install --upgrade {name}  or  pip uninstall {name}"
    if plugin.builtin:
        remedy = REINSTALL
    return PluginError(
        f"{plugin.label} cannot be loaded: {lines[0][:300] if lines else 'no reason given'}",
        hint=remedy,
    )
