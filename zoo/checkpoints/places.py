"""Where things are in the cache.

checkpoints/ID/DIGEST/           an installed checkpoint of a registry; other bytes are in another place
hub/NAMESPACE/NAME/COMMIT/       an installed checkpoint that no registry lists
records/KEY.json                 what was installed where, with the fingerprints of its verified files
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
    """Return the folder of a checkpoint in the cache, whether or not it was pulled."""
    if not wanted.pinned and (address := hub_address(wanted.sources[0])):
        return hub_path(address)
    return cache_dir() / "checkpoints" / wanted.id / wanted.digest[:16]


def hub_path(address: HubAddress) -> Path:
    """Return where a commit of the Hub that no registry lists is installed."""
    return cache_dir() / "hub" / address.repository / address.commit


def partial_path(sha256: str) -> Path:
    """Return where a file is stored while it is fetched."""
    return cache_dir() / "partial" / sha256


def lock_path(digest: str) -> Path:
    """Return the lock held by the process that pulls the checkpoint with that digest."""
    return cache_dir() / "locks" / digest[:32]


def records_dir() -> Path:
    """Return the folder of the records."""
    return cache_dir() / "records"


def record_path(folder: Path) -> Path:
    """Return the file that records what was installed in `folder`."""
    key = hashlib.sha256(os.fsencode(os.path.abspath(folder))).hexdigest()
    return records_dir() / f"{key[:32]}.json"
