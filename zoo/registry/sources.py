"""Where the files of a checkpoint are, as registry.toml writes it.

package                        part of this installation
hf:NAMESPACE/NAME@COMMIT       a repository of the Hub (HF_ENDPOINT) at a commit, forty hexadecimal digits
https://host/folder/           a folder of a web server; http:// only on this very machine (loopback)
file:/absolute/folder          a folder of this machine
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

PACKAGE_SOURCE = "package"
COMMIT = r"[0-9a-f]{40}"
#: A repository of the Hub; both parts as the Hub allows them.
REPOSITORY = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}"


@dataclass(frozen=True)
class HubAddress:
    """A repository of the Hub at a commit."""

    repository: str
    commit: str


def hub_address(source: str) -> HubAddress | None:
    """Return the repository and commit of an ``hf:`` source; None for other sources."""
    match = re.fullmatch(rf"hf:({REPOSITORY})@({COMMIT})", source)
    return HubAddress(match[1], match[2]) if match else None


def check_source(source: str, *, remote: bool = False) -> str | None:
    """Return why files cannot be taken from `source`; None if they can.

    Args:
        source: Where a registry says the files are.
        remote: Whether the registry itself came over the network.
    """
    kind = source.partition(":")[0]
    if source == PACKAGE_SOURCE:
        return None
    if kind == "hf":
        if hub_address(source) and ".." not in source and "--" not in source:
            return None
        return "is not of the form hf:NAMESPACE/NAME@COMMIT, the commit in forty hexadecimal digits"
    if kind in ("https", "http"):
        return check_web_address(source) or (None if source.endswith("/") else "does not end in '/'")
    if kind == "file":
        if remote:
            return "is a folder of this machine, named by a registry that is not on it"
        return None if re.match("file:/[^/]", source) else "does not name the folder from the root"
    return f"is none of {PACKAGE_SOURCE}, hf:..., https://... and file:/..."


def check_web_address(address: str) -> str | None:
    """Return why `address` must not be connected to; None if it is a plain https one, or http on this machine."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not an address"
    if not host or parts.scheme not in ("https", "http") or not address.isascii() or " " in address:
        return "is not an address"
    if "@" in parts.netloc:
        return "holds a user name or a password"
    if parts.query or parts.fragment:
        return "holds a query or a fragment"
    if parts.scheme == "http" and not is_loopback(host):
        return "is not encrypted: it must begin with https://"
    return None


def is_loopback(host: str) -> bool:
    """Return whether a host name or address means this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
