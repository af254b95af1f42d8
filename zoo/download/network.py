"""The way out of this machine: the proxy the environment names, and the certificates that are trusted."""

from __future__ import annotations

import base64
import contextlib
import functools
import ssl
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from zoo.download.endpoint import redact
from zoo.errors import UsageError


def proxy_for(scheme: str, host: str) -> SplitResult | None:
    """Return the proxy that the environment names for a host: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY; NO_PROXY exempts."""
    proxies = getproxies_environment()
    named = proxies.get(scheme) or proxies.get("all")
    if not named or proxy_bypass_environment(host, proxies):
        return None
    try:
        parts = urlsplit(named if "://" in named else f"http://{named}")
        usable = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(
            f"The proxy {redact(named)} cannot be used: only http:// proxies are supported.",
            hint="Set HTTPS_PROXY to one, or exempt the server with NO_PROXY.",
        )
    return parts


def authorization(proxy: SplitResult) -> dict[str, str]:
    """Return the header that shows the proxy the name and password of its address, if it has any."""
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


@functools.cache
def tls() -> ssl.SSLContext:
    """Return the TLS settings: certificates of the system or $SSL_CERT_FILE, else those that came with certifi."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not context.cert_store_stats()["x509_ca"] and not paths.capath:
        with contextlib.suppress(ImportError):
            import certifi

            context.load_verify_locations(certifi.where())
    return context
