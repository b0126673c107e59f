"""
The file of `--web.config.file`: TLS, users, headers and a rate limit for the web server.

The format is that of Prometheus' exporter-toolkit (docs/web-configuration.md there), so that one file serves all
exporters of a host. It differs, besides what `tls_config` says, in two ways: an unknown key, a blank section or a
contradiction is an error; `http2` changes nothing, because aiohttp speaks only HTTP/1.1, which clients then negotiate.
"""

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from pgslot.config.yaml_values import Value, read
from pgslot.httpserver import tls_config

_BCRYPT_HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
_GO_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|ns|h|m|s))+")
_GO_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""Headers that the toolkit allows, and their allowed values; empty: any."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket over all clients: one more request every `interval` seconds, at most `burst` at once."""

    interval: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The content of the file and of the files it names."""

    path: Path
    tls: tls_config.TlsConfig | None = None
    users: dict[bytes, bytes] = field(default_factory=dict, repr=False)
    """bcrypt hashes by name; empty: no basic authentication."""
    headers: dict[str, str] = field(default_factory=dict)
    rate_limit: RateLimit | None = None

    @property
    def authenticates(self) -> bool:
        """Whether every client has to authenticate: with a password, or with a certificate of the client CA."""
        return bool(self.users) or (self.tls is not None and self.tls.client_auth == ssl.CERT_REQUIRED)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that were read, to be watched for changes."""
        return (self.path, *(self.tls.files if self.tls else ()))

    def ssl_context(self) -> ssl.SSLContext | None:
        """Build the server's TLS context from what was read; None: plain HTTP."""
        return self.tls.context() if self.tls else None


def load(path: Path) -> WebConfig:
    """Read the file, and the certificates it names. Raises ConfigError; no secret is in its text."""
    top = read(path)
    if top.data is None:
        return WebConfig(path)  # as in the toolkit, an empty file changes nothing
    keys = top.mapping("a mapping", ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"))
    return WebConfig(
        path,
        tls=tls_config.parse(keys["tls_server_config"], path.parent) if "tls_server_config" in keys else None,
        users=_users(keys["basic_auth_users"]) if "basic_auth_users" in keys else {},
        headers=_headers(keys["http_server_config"]) if "http_server_config" in keys else {},
        rate_limit=_rate_limit(keys["rate_limit"]) if "rate_limit" in keys else None,
    )


def _users(value: Value) -> dict[bytes, bytes]:
    users = {}
    for name, item in value.mapping("a mapping of user names to bcrypt hashes").items():
        if ":" in name:
            raise item.error("a user name without a colon (basic authentication has no way to send one)", repr(name))
        if not isinstance(item.data, str) or not _BCRYPT_HASH.fullmatch(item.data):
            raise item.error("a bcrypt hash, as by htpasswd -nBC 10", "something else (not shown: secrets)")
        users[name.encode()] = item.data.encode()
    return users


def _headers(value: Value) -> dict[str, str]:
    keys = value.mapping("a mapping with http2 or headers", ("http2", "headers"))
    if "http2" in keys:
        keys["http2"].boolean()
    if "headers" not in keys:
        return {}
    headers = keys["headers"].mapping("a mapping of headers", tuple(_HEADERS))
    return {name: _header(item, _HEADERS[name]) for name, item in headers.items() if item.data not in (None, "")}


def _header(value: Value, allowed: tuple[str, ...]) -> str:
    # YAML reads the value of `X-XSS-Protection: 0` as a number.
    text = str(value.data) if isinstance(value.data, int) and not isinstance(value.data, bool) else value.data
    if not isinstance(text, str) or not text.isprintable():
        raise value.error("text on one line")
    if allowed and text not in allowed:
        raise value.error(" or ".join(allowed))
    return text


def _rate_limit(value: Value) -> RateLimit | None:
    keys = value.mapping("a mapping with interval and burst", ("interval", "burst"))
    burst = keys["burst"].positive_integer() if "burst" in keys else None
    interval = _go_duration(keys["interval"]) if "interval" in keys else 0.0
    if not interval:
        return None
    if burst is None:
        raise value.error("the key burst: without it no request would pass", "none")
    return RateLimit(interval, burst)


def _go_duration(value: Value) -> float:
    text = str(value.data) if value.data == 0 else value.data
    if text == "0":
        return 0.0
    if not isinstance(text, str) or not _GO_DURATION.fullmatch(text):
        raise value.error("a duration such as 100ms or 1s, or 0 for no limit")
    parts = re.findall(r"([\d.]+)([a-z]+)", text)
    return sum(float(number) * _GO_UNITS[unit] for number, unit in parts)
