"""`tls_server_config`: which clients get a connection, with real certificates on real sockets."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

from pgslot.cli.errors import ConfigError
from pgslot.httpserver import tls_config, web_config
from tests.support.web_configs import Files, client, folder, get, serving


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return folder(tmp_path)


def fetch(port: int, authority: Path) -> tuple[int, str]:
    answer = requests.get(f"https://127.0.0.1:{port}/", verify=str(authority), timeout=10)
    return answer.status_code, answer.text


async def test_https_is_served_and_plain_http_is_not(files: Files) -> None:
    async with serving(files.write(files.tls())) as port:
        assert await asyncio.to_thread(fetch, port, files.folder / "ca.crt") == (200, "hello")
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await get(port, client(files.other))
        with pytest.raises(aiohttp.ClientError):
            await get(port)


async def test_certificate_and_key_may_be_inline(files: Files) -> None:
    inline = {"cert": (files.folder / "server.crt").read_text(), "key": (files.folder / "server.key").read_text()}
    path = files.write({"tls_server_config": inline | {"client_auth_type": "NoClientCert"}})
    async with serving(path) as port:
        assert (await get(port, client(files.ours)))[0] == 200


@pytest.mark.parametrize(
    ("policy", "without_certificate", "foreign_certificate"),
    [
        ("NoClientCert", True, True),
        ("VerifyClientCertIfGiven", True, False),
        ("RequireAndVerifyClientCert", False, False),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_client_auth_type_decides_which_clients_connect(
    files: Files, policy: str, without_certificate: bool, foreign_certificate: bool, version: ssl.TLSVersion
) -> None:
    authority = {} if policy == "NoClientCert" else {"client_ca_file": "ca.crt"}
    path = files.write(files.tls(client_auth_type=policy, **authority))
    assert web_config.load(path).authenticates == (policy == "RequireAndVerifyClientCert")
    certificates = (None, files.issue(files.other, "b", "b.example"), files.issue(files.ours, "c", "c.example"))
    async with serving(path) as port:
        for certificate, accepted in zip(certificates, (without_certificate, foreign_certificate, True), strict=True):
            context = client(files.ours, certificate)
            context.maximum_version = version
            if accepted:
                assert (await get(port, context))[0] == 200
            else:
                with pytest.raises((aiohttp.ClientError, OSError)):
                    await get(port, context)


@pytest.mark.parametrize(
    ("names", "accepted"),
    [
        (["scraper.example"], True),
        (["other.example", "2001:DB8::1"], True),
        (["other.example"], False),
        (["example"], False),
    ],
)
async def test_client_certificate_needs_an_allowed_name(files: Files, names: list[str], accepted: bool) -> None:
    certificate = files.issue(files.ours, "scraper", "scraper.example", "2001:db8:0::1")
    policy = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.crt"}
    async with serving(files.write(files.tls(**policy, client_allowed_sans=names))) as port:
        if accepted:
            assert (await get(port, client(files.ours, certificate)))[0] == 200
        else:
            with pytest.raises((aiohttp.ClientError, OSError)):
                await get(port, client(files.ours, certificate))


def handshake(port: int, context: ssl.SSLContext) -> tuple[str | None, str]:
    raw = socket.create_connection(("127.0.0.1", port), 10)
    with raw, context.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
        cipher = connection.cipher()
        assert cipher
        return connection.version(), cipher[0]


@pytest.mark.parametrize(
    ("settings", "client_max", "expected"),
    [
        ({"min_version": "TLS13"}, "TLSv1_3", "TLSv1.3"),
        ({"min_version": "TLS13"}, "TLSv1_2", None),
        ({}, "TLSv1_2", "TLSv1.2"),
        ({"max_version": "TLS12"}, "TLSv1_3", "TLSv1.2"),
        ({"cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"]}, "TLSv1_2", "ECDHE-ECDSA-AES128-SHA"),
        ({"cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]}, "TLSv1_3", "TLSv1.3"),
        ({"cipher_suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]}, "TLSv1_2", None),
        ({"cipher_suites": ["TLS_AES_128_GCM_SHA256"], "min_version": "TLS13"}, "TLSv1_3", "TLSv1.3"),
        ({"curve_preferences": ["CurveP384"], "prefer_server_cipher_suites": False}, "TLSv1_3", "TLSv1.3"),
        ({"curve_preferences": ["CurveP521"]}, "TLSv1_3", None),
    ],
)
async def test_versions_suites_and_curves_are_limited_to_the_configured_ones(
    files: Files, settings: dict[str, Any], client_max: str, expected: str | None
) -> None:
    context = client(files.ours)
    context.set_ciphers("DEFAULT")
    context.maximum_version = ssl.TLSVersion[client_max]
    if "curve_preferences" in settings:
        context.set_ecdh_curve("secp384r1")
    async with serving(files.write(files.tls(**settings))) as port:
        if expected:
            assert expected in await asyncio.to_thread(handshake, port, context)
        else:
            with pytest.raises(ssl.SSLError):
                await asyncio.to_thread(handshake, port, context)


async def test_openssl_supports_every_suite_and_curve_of_go(files: Files) -> None:
    for curve, name in tls_config.CURVES.items():
        path = files.write(files.tls(curve_preferences=[curve]))
        if tls_config.supports_curve(name):
            web_config.load(path).ssl_context()
        else:
            # X25519 with the Python of Debian 12.
            with pytest.raises(ConfigError, match=rf"curve_preferences: expected a curve .* found '{curve}'"):
                web_config.load(path)
    assert all(tls_config.supports_curve(name) for curve, name in tls_config.CURVES.items() if curve != "X25519")
    for suite, name in tls_config.CIPHER_SUITES.items():
        settings = {"cipher_suites": [suite]} | ({} if name else {"min_version": "TLS13"})
        context = web_config.load(files.write(files.tls(**settings))).ssl_context()
        assert context
        assert {name or suite} <= {cipher["name"] for cipher in context.get_ciphers()}
