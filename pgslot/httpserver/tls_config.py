"""
`tls_server_config` of a web configuration file, with the meaning it has in Go's crypto/tls, as far as Python can.

What Python or OpenSSL cannot do is an error and never ignored: client certificates that are not verified, TLS below 1.2
(OpenSSL 3 refuses it), more than one curve.
"""

import ipaddress
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pgslot.config.yaml_values import Value

KEYS = (
    *("cert", "key", "client_ca", "cert_file", "key_file", "client_auth_type", "client_ca_file", "client_allowed_sans"),
    *("min_version", "max_version", "cipher_suites", "prefer_server_cipher_suites", "curve_preferences"),
)
_AUTH_TYPES = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
"""OpenSSL's names by Go's."""
_TLS13_SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
CIPHER_SUITES = {
    f"TLS_ECDHE_{auth}_WITH_{name}": f"ECDHE-{auth}-{openssl}"
    for auth in ("ECDSA", "RSA")
    for name, openssl in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
    )
} | dict.fromkeys(_TLS13_SUITES, "")
"""OpenSSL's names by Go's. Suites of TLS 1.3 have none: Go and OpenSSL always allow them, listed or not."""

_Pem = tuple[Value, bytes]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """The server's certificates and TLS policy; tried when they are read, so that `context` cannot fail later."""

    cert: bytes
    key: bytes = field(repr=False)
    client_auth: ssl.VerifyMode
    client_ca: bytes | None
    allowed_sans: frozenset[str]
    """A client certificate must have one of these names; empty: any certificate that the CA signed is accepted."""
    minimum: ssl.TLSVersion
    maximum: ssl.TLSVersion
    ciphers: str
    """For TLS 1.2, as an OpenSSL cipher list; empty: OpenSSL's default."""
    prefer_server_ciphers: bool
    curve: str | None
    files: tuple[Path, ...]
    """Files that were read, to be watched for changes."""

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version, context.maximum_version = self.minimum, self.maximum
        context.set_alpn_protocols(["http/1.1"])
        _load_chain(context, self.cert, self.key)
        if self.client_ca is not None:
            _load_ca(context, self.client_ca)
        context.verify_mode = self.client_auth
        if self.allowed_sans:
            context.sslobject_class = _san_checking(self.allowed_sans)
        if self.ciphers:
            context.set_ciphers(self.ciphers)
        if not self.prefer_server_ciphers:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        if self.curve:
            context.set_ecdh_curve(self.curve)
        return context


def parse(value: Value, folder: Path) -> TlsConfig:
    """Read the section and the files it names, relative to `folder`. Raises ConfigError."""
    keys = value.mapping("a mapping with a certificate and a key", KEYS)
    keys = {name: item for name, item in keys.items() if item.data not in (None, "")}
    files: list[Path] = []
    cert_value, cert = _pem(value, keys, "cert", folder, files) or _missing(value, "cert")
    key_value, key = _pem(value, keys, "key", folder, files) or _missing(value, "key")
    _try(cert_value, "PEM certificates", lambda context: _load_ca(context, cert))
    _try(key_value, "the certificate's PEM key, not encrypted", lambda context: _load_chain(context, cert, key))
    client_auth, client_ca = _client_auth(value, keys, folder, files)
    minimum = _choice(keys.get("min_version"), _VERSIONS, "TLS12", " (OpenSSL refuses older ones)")
    maximum = _choice(keys.get("max_version"), _VERSIONS, "TLS13", " (OpenSSL refuses older ones)")
    if minimum > maximum:
        raise keys.get("max_version", value).error("a version from min_version on", "an older one")
    prefer = keys.get("prefer_server_cipher_suites")
    return TlsConfig(
        cert=cert,
        key=key,
        client_auth=client_auth,
        client_ca=client_ca,
        allowed_sans=_sans(keys.get("client_allowed_sans"), client_auth),
        minimum=minimum,
        maximum=maximum,
        ciphers=_ciphers(keys.get("cipher_suites"), minimum),
        prefer_server_ciphers=prefer.boolean() if prefer else True,
        curve=_curve(keys.get("curve_preferences")),
        files=tuple(files),
    )


def _pem(value: Value, keys: dict[str, Value], name: str, folder: Path, files: list[Path]) -> _Pem | None:
    """Return PEM text, given inline or in a file, and the value it came from; None: neither is given."""
    inline, file = keys.get(name), keys.get(f"{name}_file")
    if inline and file:
        raise value.error(f"exactly one of {name} and {name}_file", "both")
    if inline:
        if not isinstance(inline.data, str):
            raise inline.error("PEM text", "something else")
        return inline, inline.data.encode()
    if file:
        path = folder / file.string("a file name")
        files.append(path)
        try:
            return file, path.read_bytes()
        except OSError as error:
            raise file.error("a readable file", f"{path}: {error.strerror}") from None
    return None


def _missing(value: Value, name: str) -> _Pem:
    raise value.error(f"exactly one of {name} and {name}_file", "neither")


def _client_auth(
    value: Value, keys: dict[str, Value], folder: Path, files: list[Path]
) -> tuple[ssl.VerifyMode, bytes | None]:
    auth_type = keys.get("client_auth_type")
    if auth_type and auth_type.data in _UNVERIFIED:
        raise auth_type.error(f"one of {', '.join(_AUTH_TYPES)}: Python's TLS takes no client certificate unverified")
    mode = _choice(auth_type, _AUTH_TYPES, "NoClientCert")
    client_ca = _pem(value, keys, "client_ca", folder, files)
    if client_ca is None:
        if mode != ssl.CERT_NONE:
            # Go would accept every certificate of a public CA then, which authenticates nobody.
            raise value.error("client_ca_file or client_ca, to verify client certificates with", "neither")
        return mode, None
    ca_value, ca = client_ca
    if mode == ssl.CERT_NONE:
        raise ca_value.error("a client_auth_type that verifies client certificates along with a client CA", "none")
    _try(ca_value, "PEM certificates", lambda context: _load_ca(context, ca))
    return mode, ca


def _sans(value: Value | None, mode: ssl.VerifyMode) -> frozenset[str]:
    if value is None:
        return frozenset()
    if mode != ssl.CERT_REQUIRED:
        raise value.error("client_auth_type: RequireAndVerifyClientCert along with client_allowed_sans", "another one")
    return frozenset(_canonical(item.string("a name, address, e-mail or URI")) for item in _list(value))


def _ciphers(value: Value | None, minimum: ssl.TLSVersion) -> str:
    if value is None:
        return ""
    names = [name for name in (_choice(item, CIPHER_SUITES) for item in _list(value)) if name]
    if not names and minimum < ssl.TLSVersion.TLSv1_3:
        raise value.error("a suite for TLS 1.2 too, or min_version: TLS13", "only suites of TLS 1.3")
    return ":".join(names)


def _curve(value: Value | None) -> str | None:
    if value is None:
        return None
    curves = [_choice(item, CURVES) for item in _list(value)]
    if len(curves) > 1:
        raise value.error("one curve: Python's TLS cannot be given more", f"{len(curves)} curves")
    if not supports_curve(curves[0]):
        raise value.error("a curve that this Python's TLS can use, such as CurveP256", _list(value)[0].shown())
    return curves[0]


def supports_curve(name: str) -> bool:
    """Return whether this Python and its OpenSSL can use a curve; Debian 12's cannot use X25519."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve(name)
    except (ssl.SSLError, ValueError):
        return False
    return True


def _list(value: Value) -> list[Value]:
    if not isinstance(value.data, list) or not value.data:
        raise value.error("a list of at least one item")
    return value.data


def _choice(value: Value | None, table: dict[str, T], default: str = "", why: str = "") -> T:
    if value is None:
        return table[default]
    if not isinstance(value.data, str) or value.data not in table:
        raise value.error(f"one of {', '.join(table)}{why}")
    return table[value.data]


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """Give data a file name, for Python's `ssl` reads keys only from files; a memfd (Linux) writes no key to a disk."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _load_chain(context: ssl.SSLContext, cert: bytes, key: bytes) -> None:
    with _as_file(cert) as cert_file, _as_file(key) as key_file:
        # With an empty password, OpenSSL does not ask for one on the terminal.
        context.load_cert_chain(cert_file, key_file, password=lambda: b"")


def _load_ca(context: ssl.SSLContext, ca: bytes) -> None:
    with _as_file(ca) as file:
        context.load_verify_locations(file)
    # As in Go, an intermediate CA may be the trust anchor.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _try(value: Value, expected: str, load: Callable[[ssl.SSLContext], None]) -> None:
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    except ssl.SSLError as error:
        reason = (error.reason or "not PEM").lower().replace("_", " ")
        raise value.error(expected, f"what OpenSSL refuses: {reason}") from None


def _san_checking(allowed: frozenset[str]) -> type[ssl.SSLObject]:
    """
    Return a class that checks the certificate's names at the end of the handshake.

    Python has no hook for it in OpenSSL's verification; no request is read before the end.
    """

    class SanCheckingObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            names = (self.getpeercert() or {}).get("subjectAltName", ())
            if not any(_canonical(str(name[1])) in allowed for name in names):
                raise ssl.SSLCertVerificationError(1, "client_allowed_sans has no name of the client's certificate")

    return SanCheckingObject


def _canonical(name: str) -> str:
    """Return an IP address in its standard notation, and any other name unchanged."""
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name
