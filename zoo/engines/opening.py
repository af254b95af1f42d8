"""Opening a model on an engine for a device."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from zoo.engines.processors import thread_count

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.contracts import DeviceProfile, Engine, Session


def open_for(engine: Engine, model: Path | bytes, profile: DeviceProfile, *, threads: int = 0) -> Session:
    """Open a model as `profile` says; `threads` overrides it.

    An engine whose `open` takes no profile, as it was until profiles had more than threads, is given those alone.
    """
    parameters = inspect.signature(engine.open).parameters
    if "profile" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return engine.open(model, threads=threads, profile=profile)
    return engine.open(model, threads=thread_count(threads, profile))
