"""Where things lie in the cache.

checkpoints/ID/DIGEST/           an installed checkpoint of a registry; other bytes lie in another place
hub/NAMESPACE/NAME/COMMIT/       an installed checkpoint that no registry lists
records/KEY.json                 what was installed where, and how its files looked when they were verified
partial/SHA256                   a file that is being fetched, or was until its pull was killed
locks/DIGEST                     held by the process that pulls a checkpoint
quarantine/, trash/              damaged checkpoints; what is being removed
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from zoo.registry import Checkpoint
from zoo.registry.sources import HubAddress, hub_address
from zoo.storage.cache_dir import cache_dir

INSTALLED = ("checkpoints", "hub")


def cached_path(wanted: Checkpoint) -> Path:
    """Where a checkpoint lies in the cache once it was pulled."""
    if not wanted.pinned and (address := hub_address(wanted.sources[0])):
        return hub_path(address)
    return cache_dir() / "checkpoints" / wanted.id / wanted.digest[:16]


def hub_path(address: HubAddress) -> Path:
    """Where what lies at a commit of the Hub is installed, if no registry lists it."""
    return cache_dir() / "hub" / address.repository / address.commit


def partial_path(sha256: str) -> Path:
    """Where the file of that content is gathered while it is fetched."""
    return cache_dir() / "partial" / sha256


def lock_path(digest: str) -> Path:
    """What the process that pulls a checkpoint of that digest holds."""
    return cache_dir() / "locks" / digest[:32]


def records_dir() -> Path:
    """The folder of the records."""
    return cache_dir() / "records"


def record_path(folder: Path) -> Path:
    """Where it is noted what was installed in `folder`."""
    key = hashlib.sha256(os.fsencode(os.path.abspath(folder))).hexdigest()
    return records_dir() / f"{key[:32]}.json"
