"""Opening a model on an engine for a device."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING

from zoo.errors import PluginError, ZooError
from zoo.machine.processors import thread_count

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.contracts import DeviceProfile, Engine, InputSpec, Session


@contextlib.contextmanager
def name_engine_in_errors(engine: str) -> Iterator[None]:
    """Turn whatever an engine's own code raises into a PluginError that names the engine."""
    try:
        yield
    except (ZooError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        reason = str(error).strip().splitlines()
        raise PluginError(
            f"The engine {engine} failed: {type(error).__name__}{': ' if reason else ''}{''.join(reason[:1])[:300]}"
        ) from error


def open_session_for(
    engine: Engine,
    model: Path | bytes,
    profile: DeviceProfile,
    *,
    threads: int = 0,
    spec: InputSpec | None = None,
    digest: str | None = None,
) -> Session:
    """Open a model as `profile` says; `threads` overrides it.

    An engine is given what its `open` takes: one that must know the sizes of inputs beforehand also asks for `spec`,
    one that keeps what it makes of a model for `digest`, the model's sha256, and one that was written before profiles
    had more than threads gets those alone.
    """
    parameters = inspect.signature(engine.open).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()) or "profile" in parameters:
        asked = {"spec": spec, "digest": digest}
        more = {name: value for name, value in asked.items() if name in parameters}
        return engine.open(model, threads=threads, profile=profile, **more)
    return engine.open(model, threads=thread_count(threads, profile))
