"""A web configuration in force: passwords, headers, rate limit, and changes of its files while it runs."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import aiohttp
import bcrypt
import pytest

from pgslot.httpserver import web_config
from tests.support.web_configs import Files, basic, client, folder, get, hashed, serving

PASSWORD = "with:colon-and-ümlaut"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return folder(tmp_path)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (basic("bob", PASSWORD), 200),
        (basic("jörg", "short"), 200),
        ({"Authorization": basic("bob", PASSWORD)["Authorization"].replace("Basic", "basic")}, 200),
        (basic("bob", PASSWORD + "x"), 401),
        (basic("bob", "short"), 401),
        (basic("bob", ""), 401),
        (basic("mallory", PASSWORD), 401),
        (basic("", ""), 401),
        (basic("bob", "nul\0"), 401),
        (basic("bob", "x" * 1000), 401),
        ({}, 401),
        ({"Authorization": "Bearer " + PASSWORD[:3]}, 401),
        ({"Authorization": "Basic"}, 401),
        ({"Authorization": "Basic !!"}, 401),
        ({"Authorization": "Basic Ym9i"}, 401),
    ],
)
async def test_basic_authentication_accepts_only_right_passwords(
    files: Files, headers: dict[str, str], status: int
) -> None:
    path = files.write({"basic_auth_users": {"bob": hashed(PASSWORD), "jörg": hashed("short").replace("$2b$", "$2y$")}})
    assert web_config.load(path).authenticates
    async with serving(path) as port:
        for _ in range(2):
            answered_status, text, answered = await get(port, headers=headers)
            assert answered_status == status
            assert (text == "hello") == (status == 200)
            assert answered.get("WWW-Authenticate", "").startswith("Basic") == (status == 401)
        assert (await get(port, path="/nowhere", headers=headers))[0] == (404 if status == 200 else 401)


async def test_right_password_is_compared_by_bcrypt_once(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []
    real = bcrypt.checkpw

    def counted(password: bytes, expected: bytes) -> bool:
        calls.append(password)
        return real(password, expected)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    password_hash = hashed("a")
    path = files.write({"basic_auth_users": {"bob": password_hash}})
    async with serving(path) as port:
        for user, password in (("bob", "a"), ("bob", "a"), ("bob", "b"), ("bob", "b"), ("eve", "a"), ("eve", "a")):
            await get(port, headers=basic(user, password))
        assert calls == [b"a", b"b", b"b", b"a", b"a"]
        # The same hash under another name: the credentials that were verified for the old name are no longer right.
        files.write({"basic_auth_users": {"carol": password_hash}})
        assert (await get(port, headers=basic("bob", "a")))[0] == 401
        assert (await get(port, headers=basic("carol", "a")))[0] == 200


async def test_guesses_do_not_delay_a_verified_client(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.write({"basic_auth_users": {"bob": hashed("a")}})
    async with serving(path) as port:
        assert (await get(port, headers=basic("bob", "a")))[0] == 200
        release = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(_password: bytes, _expected: bytes) -> bool:
            return asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)

        monkeypatch.setattr(bcrypt, "checkpw", slow)
        guesses = [asyncio.create_task(get(port, headers=basic("eve", "a"))) for _ in range(3)]
        assert (await get(port, headers=basic("bob", "a")))[0] == 200
        assert not any(guess.done() for guess in guesses)
        release.set()
        assert {(await guess)[0] for guess in guesses} == {401}


async def test_configured_headers_are_on_every_answer(files: Files) -> None:
    headers = {"X-Frame-Options": "deny", "X-XSS-Protection": 0, "Content-Security-Policy": ""}
    path = files.write({"http_server_config": {"http2": True, "headers": headers}})
    async with serving(path) as port:
        for place in ("/", "/nowhere"):
            answered = (await get(port, path=place))[2]
            assert (answered["X-Frame-Options"], answered["X-XSS-Protection"]) == ("deny", "0")
            assert "Content-Security-Policy" not in answered


async def test_rate_limit_rejects_requests_beyond_the_burst_until_it_changes(files: Files) -> None:
    path = files.write({"rate_limit": {"interval": "1h", "burst": 2}})
    async with serving(path) as port:
        assert [(await get(port))[0] for _ in range(3)] == [200, 200, 429]
        files.write({"rate_limit": {"interval": "1ms", "burst": 1}})
        assert (await get(port))[0] == 200
        await asyncio.sleep(0.05)
        assert (await get(port))[0] == 200
        files.write({"rate_limit": {"interval": 0}})
        assert {(await get(port))[0] for _ in range(10)} == {200}


async def test_certificate_is_rotated_without_a_restart(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pgslot.httpserver.middleware")
    async with serving(files.write(files.tls())) as port:
        async with aiohttp.ClientSession() as session:
            url = f"https://127.0.0.1:{port}/"
            async with session.get(url, ssl=client(files.ours)) as answer:
                assert await answer.text() == "hello"
            files.issue(files.other, "server", "127.0.0.1")
            assert (await get(port, client(files.other)))[0] == 200
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await get(port, client(files.ours))
        # Half a rotation: the new certificate is written, its key is not yet.
        other = (files.folder / "server.key").read_bytes()
        files.issue(files.ours, "server", "127.0.0.1")
        key = (files.folder / "server.key").read_bytes()
        (files.folder / "server.key").write_bytes(other)
        for _ in range(3):
            assert (await get(port, client(files.other)))[0] == 200
        (files.folder / "server.key").write_bytes(key)
        assert (await get(port, client(files.ours)))[0] == 200
    messages = [record.getMessage().partition(",")[0] for record in caplog.records]
    assert messages == ["web configuration reloaded", "web configuration is bad", "web configuration reloaded"]


async def test_minimum_version_and_client_ca_change_without_a_restart(files: Files) -> None:
    old = client(files.ours)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(files.write(files.tls())) as port:
        assert (await get(port, old))[0] == 200
        files.write(files.tls(min_version="TLS13"))
        with pytest.raises(aiohttp.ClientError):
            await get(port, old)
        files.write(files.tls(client_auth_type="RequireAndVerifyClientCert", client_ca_file="ca.crt"))
        with pytest.raises(aiohttp.ClientError):
            await get(port, old)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("basic_auth_users: [\n"),
        lambda path: path.write_text("{}\n"),
        lambda path: path.write_text(path.read_text() + "tls_server_config: {}\n"),
        lambda path: path.write_text("basic_auth_users: {}\n"),
    ],
)
async def test_bad_change_keeps_the_users_in_force(
    files: Files, change: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    path = files.write({"basic_auth_users": {"bob": hashed("a")}})
    async with serving(path) as port:
        change(path)
        for _ in range(3):
            assert (await get(port))[0] == 401
            assert (await get(port, headers=basic("bob", "a")))[0] == 200
        assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["web configuration is bad"]
        files.write({"basic_auth_users": {"bob": hashed("b")}})
        assert (await get(port, headers=basic("bob", "a")))[0] == 401
        assert (await get(port, headers=basic("bob", "b")))[0] == 200
