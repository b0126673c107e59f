"""The file of `--web.config.file`: what is read, and how mistakes are reported."""

import subprocess
from pathlib import Path

import pytest

from pgslot.cli.errors import ConfigError
from pgslot.httpserver import web_config
from pgslot.httpserver.web_config import RateLimit
from tests.support.web_configs import Files, folder, hashed

TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
VERIFY = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    result = folder(tmp_path_factory.mktemp("web"))
    result.issue(result.ours, "another", "localhost")
    (result.folder / "text.txt").write_text("no PEM here\n")
    command = ["openssl", "pkcs8", "-topk8", "-passout", "pass:x", "-in", "server.key", "-out", "locked.key"]
    subprocess.run(command, cwd=result.folder, check=True)
    return result


def write(files: Files, text: str) -> Path:
    path = files.folder / "web.yml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("- a\n", ":1", "expected a mapping, found a list"),
        ("tls_config: {}\n", ":1: tls_config", "found the unknown key 'tls_config'"),
        ("basic_auth_users:\n", ":1: basic_auth_users", "user names to bcrypt hashes, found nothing"),
        ("basic_auth_users:\n  bob: secret\n", ":2: basic_auth_users.bob", "expected a bcrypt hash"),
        ("basic_auth_users:\n  bob: $2y$99$" + 53 * "a", ":2: basic_auth_users.bob", "expected a bcrypt hash"),
        ("basic_auth_users:\n  bob: 1\n", ":2: basic_auth_users.bob", "expected a bcrypt hash"),
        (f"basic_auth_users:\n  a:b: {hashed('x')}\n", ":2: basic_auth_users.a:b", "name without a colon"),
        ("basic_auth_users: {a: x, a: y}\n", ":1: basic_auth_users.a", "expected each key once"),
        ("http_server_config:\n  http3: true\n", ":2: http_server_config.http3", "unknown key"),
        ("http_server_config:\n  http2: 1\n", ":2: http_server_config.http2", "expected true or false, found 1"),
        ("http_server_config:\n  headers:\n    Server: x\n", ":3: http_server_config.headers.Server", "unknown key"),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: allow\n",
            ":3: http_server_config.headers.X-Frame-Options",
            "expected deny or sameorigin, found 'allow'",
        ),
        (
            'http_server_config:\n  headers:\n    X-XSS-Protection: "a\\r\\nb: c"\n',
            ":3: http_server_config.headers.X-XSS-Protection",
            "text on one line",
        ),
        ("rate_limit:\n  interval: 1s\n", ":2: rate_limit", "expected the key burst"),
        ("rate_limit:\n  interval: fast\n  burst: 1\n", ":2: rate_limit.interval", "expected a duration"),
        ("rate_limit:\n  interval: 5\n  burst: 1\n", ":2: rate_limit.interval", "expected a duration"),
        ("rate_limit:\n  interval: 1s\n  burst: 0\n", ":3: rate_limit.burst", "a whole number of at least 1"),
        ("tls_server_config: {}\n", ":1: tls_server_config", "exactly one of cert and cert_file, found neither"),
        ("tls_server_config:\n  cert_file: server.crt\n", ":2: tls_server_config", "key and key_file, found neither"),
        (TLS + "  cert: x\n", ":2: tls_server_config", "exactly one of cert and cert_file, found both"),
        (TLS + "  keyfile: x\n", ":4: tls_server_config.keyfile", "unknown key"),
        (TLS.replace("server.crt", "no.crt"), ":2: tls_server_config.cert_file", "no.crt: No such file"),
        (TLS.replace("server.key", "text.txt"), ":3: tls_server_config.key_file", "what OpenSSL refuses: "),
        (TLS.replace("server.key", "locked.key"), ":3: tls_server_config.key_file", "not encrypted"),
        (TLS.replace("server.key", "another.key"), ":3: tls_server_config.key_file", "key values mismatch"),
        (TLS.replace("server.crt", "text.txt"), ":2: tls_server_config.cert_file", "expected PEM certificates"),
        (TLS + "  client_auth_type: Never\n", ":4: tls_server_config.client_auth_type", "expected one of NoClientCert"),
        *(
            (TLS + f"  client_auth_type: {name}\n", ":4: tls_server_config.client_auth_type", "Python's TLS takes no")
            for name in ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
        ),
        (TLS + "  client_auth_type: VerifyClientCertIfGiven\n", ":2: tls_server_config", "expected client_ca_file"),
        (TLS + "  client_ca_file: ca.crt\n", ":4: tls_server_config.client_ca_file", "expected a client_auth_type"),
        (
            VERIFY.replace("ca.crt", "text.txt"),
            ":5: tls_server_config.client_ca_file",
            "expected PEM certificates, found what OpenSSL refuses: no certificate or crl found",
        ),
        (VERIFY + "  client_ca: x\n", ":2: tls_server_config", "client_ca and client_ca_file, found both"),
        (TLS + "  client_allowed_sans: [a]\n", ":4: tls_server_config.client_allowed_sans", "RequireAndVerify"),
        (VERIFY + "  client_allowed_sans: []\n", ":6: tls_server_config.client_allowed_sans", "at least one item"),
        (VERIFY + "  client_allowed_sans: [1]\n", ":6: tls_server_config.client_allowed_sans[0]", "expected a name"),
        (TLS + "  min_version: TLS10\n", ":4: tls_server_config.min_version", "one of TLS12, TLS13 (OpenSSL refuses"),
        (TLS + "  max_version: 1.3\n", ":4: tls_server_config.max_version", "one of TLS12, TLS13"),
        (
            TLS + "  min_version: TLS13\n  max_version: TLS12\n",
            ":5: tls_server_config.max_version",
            "expected a version from min_version on",
        ),
        (TLS + "  cipher_suites: [RC4]\n", ":4: tls_server_config.cipher_suites[0]", "one of TLS_ECDHE_ECDSA_WITH"),
        (TLS + "  cipher_suites: RC4\n", ":4: tls_server_config.cipher_suites", "expected a list"),
        (
            TLS + "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n",
            ":4: tls_server_config.cipher_suites",
            "a suite for TLS 1.2 too",
        ),
        (TLS + "  curve_preferences: [P256]\n", ":4: tls_server_config.curve_preferences[0]", "one of CurveP256"),
        (
            TLS + "  curve_preferences: [X25519, CurveP256]\n",
            ":4: tls_server_config.curve_preferences",
            "expected one curve: Python's TLS cannot be given more, found 2 curves",
        ),
        (
            TLS + "  prefer_server_cipher_suites: yep\n",
            ":4: tls_server_config.prefer_server_cipher_suites",
            "expected true or false",
        ),
    ],
)
def test_mistake_is_reported_with_file_line_and_key(files: Files, text: str, place: str, message: str) -> None:
    path = write(files, text)
    with pytest.raises(ConfigError) as caught:
        web_config.load(path)
    assert str(caught.value).startswith(f"{path}{place}: expected ")
    assert message in str(caught.value)
    for secret in ("secret", "$2", "BEGIN"):
        assert secret not in str(caught.value).replace("(not shown: secrets)", "")


@pytest.mark.parametrize("text", ["", "{}\n", "# nothing\n", "basic_auth_users: {}\n"])
def test_empty_file_changes_nothing(files: Files, text: str) -> None:
    path = write(files, text)
    config = web_config.load(path)
    assert config == web_config.WebConfig(path)
    assert (config.authenticates, config.ssl_context()) == (False, None)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a readable file, found: No such file or directory"):
        web_config.load(tmp_path / "web.yml")


@pytest.mark.parametrize(
    ("interval", "seconds"), [("1s", 1.0), ("1m30s", 90.0), ("1.5s", 1.5), ("100ms", 0.1), ("2h", 7200.0)]
)
def test_durations_are_written_as_in_go(files: Files, interval: str, seconds: float) -> None:
    path = write(files, f"rate_limit: {{interval: {interval}, burst: 3}}\n")
    assert web_config.load(path).rate_limit == RateLimit(seconds, 3)


def test_secrets_are_not_in_the_repr(files: Files) -> None:
    config = web_config.load(write(files, f"{TLS}basic_auth_users: {{bob: {hashed('x')}}}\n"))
    assert "PRIVATE KEY" not in repr(config)
    assert "$2" not in repr(config)
