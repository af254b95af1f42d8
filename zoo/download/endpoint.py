"""Which Hub, with which token, and text without secrets.

The same environment variables as huggingface_hub's: HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME,
HF_HUB_OFFLINE, HF_HUB_DISABLE_XET. They are read when asked for, without importing that package.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from zoo.errors import UsageError

PUBLIC = "https://huggingface.co"
HIDDEN = "[hidden]"
_TRUE = ("1", "ON", "YES", "TRUE")
_LARGEST_TOKEN = 4096
#: A shorter "token" is a mistake, and hiding it would blacken out parts of ordinary words.
_SHORTEST_HIDDEN = 6

_HIDDEN: set[str] = set()
#: A token of the Hub, whoever's it is.
_HUB_TOKEN = re.compile(r"\b(?:hf|api_org|hf_oauth|hf_jwt)_[A-Za-z0-9._-]{20,}")

_PATTERNS = (
    (_HUB_TOKEN, HIDDEN),
    (
        re.compile(r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?)(?:(?:bearer|basic|token)\s+)?[^\s'\",]+"),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]{6,}"), rf"\1{HIDDEN}"),
    # https://user:password@host/
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^\s/@'\"]+@"), rf"\1{HIDDEN}@"),
    # What signs a link to the storage behind the Hub, and tokens handed over in a link.
    (
        re.compile(
            r"(?i)([?&;](?:x-amz-[a-z-]+|x-goog-[a-z-]+|signature|policy|key-pair-id|sig|[a-z_-]*token|"
            r"[a-z_-]*(?:secret|password|api_?key))=)[^&\s'\"<>)]+"
        ),
        rf"\1{HIDDEN}",
    ),
)  # fmt: skip


def endpoint() -> str:
    """Return the address of the Hub without a slash at its end: $HF_ENDPOINT, else https://huggingface.co.

    Raises:
        UsageError: It is not an http or https address, or it holds a password.
    """
    given = os.environ.get("HF_ENDPOINT", "").strip() or PUBLIC
    try:
        parts = urlsplit(given)
        named = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        named = False
    if not named or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise UsageError(
            f"HF_ENDPOINT is {redact(given)!r}, which is not the address of a Hub.",
            hint=f"Unset it, or set it to an address:  export HF_ENDPOINT={PUBLIC}",
        )
    if "@" in parts.netloc:
        raise UsageError(
            "HF_ENDPOINT holds a user name or password, which would appear in logs and error messages.",
            hint="Leave it out, and log in with:  hf auth login",
        )
    return given.rstrip("/")


def is_public(address: str) -> bool:
    """Return whether `address` is the public Hub itself, which stores large files by the Xet protocol."""
    return urlsplit(address).hostname in ("huggingface.co", "hf.co")


def token() -> str | None:
    """Return the user's token: $HF_TOKEN, else the file that ``hf auth login`` writes; None if there is none.

    It must be sent to :func:`endpoint` only.

    Raises:
        UsageError: It cannot be the value of an HTTP header.
    """
    for source, value in _kept_tokens():
        if not all("!" <= each <= "~" for each in value):
            raise UsageError(
                f"{source} does not hold a token: a token has no spaces, line breaks or non-ASCII characters.",
                hint="Create a new one with:  hf auth login",
            )
        if value:
            return value
    return None


def token_path() -> Path:
    """Return the path where ``hf auth login`` keeps the token, whether it exists or not."""
    if named := os.environ.get("HF_TOKEN_PATH"):
        return Path(os.path.expandvars(named)).expanduser()
    home = os.environ.get("HF_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache"), "huggingface")
    return Path(os.path.expandvars(os.path.expanduser(home)), "token")


def offline() -> bool:
    """Return whether the user forbids connections to the Hub: HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is true."""
    return is_true("HF_HUB_OFFLINE") or is_true("TRANSFORMERS_OFFLINE")


def is_true(variable: str) -> bool:
    """Return whether an environment variable says yes, as huggingface_hub reads it."""
    return os.environ.get(variable, "").upper() in _TRUE


def is_set(variable: str) -> bool:
    """Return whether an environment variable has a value, whatever it is."""
    return bool(os.environ.get(variable))


def add_secret(secret: str) -> None:
    """Have :func:`redact` hide a token that is neither in the environment nor in a file."""
    _HIDDEN.add(secret)


def contains_token(text: str) -> bool:
    """Return whether `text` holds one of the user's tokens, or anything that looks like a token."""
    return any(secret in text for secret in _secrets()) or _HUB_TOKEN.search(text) is not None


def redact(text: object) -> str:
    """Return `text` without tokens, passwords and signed links; everything that leaves zoo.publishing passes here."""
    shown = str(text)
    for secret in _secrets():
        shown = shown.replace(secret, HIDDEN)
    for pattern, replacement in _PATTERNS:
        shown = pattern.sub(replacement, shown)
    return shown


# --------------------------------------------------------------------------------------------------- details


def _kept_tokens() -> Iterator[tuple[str, str]]:
    """Yield where tokens are kept, in the order in which they count, and what is there."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        yield f"The environment variable {name}", os.environ.get(name, "").strip()
    path = token_path()
    with contextlib.suppress(OSError), path.open("rb") as stream:
        yield f"The file {path}", stream.read(_LARGEST_TOKEN).decode("utf-8", "replace").strip()


def _secrets() -> list[str]:
    """Return the tokens this process could know, the longest first."""
    kept = {value for _, value in _kept_tokens() if len(value) >= _SHORTEST_HIDDEN}
    return sorted(kept | _HIDDEN, key=len, reverse=True)
