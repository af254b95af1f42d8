"""A registry that the user names by hand, in a file or on a web server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zoo.contracts import Reporter, SilentReporter
from zoo.download.endpoint import redact
from zoo.download.retry import RetryLimits
from zoo.errors import IntegrityError, UsageError
from zoo.registry import Checkpoint, checkpoints, merge, parse_registry
from zoo.registry.registry_toml import LARGEST
from zoo.registry.sources import check_web_address
from zoo.storage.atomic import read_bytes, without_links


def load_registries(registry: str | None, report: Reporter | None = None) -> Mapping[str, Checkpoint]:
    """Return the checkpoints of the installed registry, the user's own, and the one at a path or an https address.

    Raises:
        UsageError: `registry` is neither, or means something else by a known id.
        IntegrityError: A registry is damaged.
        InputError: A registry file cannot be read.
        NetworkError: A registry cannot be fetched.
    """
    if registry is None:
        return checkpoints()
    if "://" in registry:
        entries = _from_web(registry, report or SilentReporter())
    else:
        path = without_links(Path(registry))
        entries = parse_registry(read_bytes(path, LARGEST, error=IntegrityError), str(path))
    return merge(checkpoints(), entries)


def _from_web(address: str, report: Reporter) -> Mapping[str, Checkpoint]:
    if reason := check_web_address(address):
        raise UsageError(
            f"The registry {redact(address)} {reason}.",
            hint="Name a file, or an address such as https://HOST/FILE.",
        )
    # Imported here: most pulls need no network, and this is what starts it.
    from zoo.download.origins import check_online
    from zoo.download.web import Client

    check_online(f"The registry {address}")
    with Client(RetryLimits.of_environment(), report) as client:
        content = client.read(address, LARGEST)
    return parse_registry(content, address, remote=True)
