"""The keys password_command and password_ttl."""

from pathlib import Path

import pytest

from pgslot.cli.errors import ConfigError
from pgslot.config.loader import load
from pgslot.config.secrets import check_secrets

NODE = "clusters: {a: {nodes: {n: {conninfo: 'host=db user=x', %s}}}}"


def written(folder: Path, keys: str, text: str = NODE) -> Path:
    file = folder / "pgslot.yml"
    file.write_text(text % keys)
    return file


def test_command_and_ttl_are_read(tmp_path: Path) -> None:
    file = written(tmp_path, "password_command: [aws, --port, '5432'], password_ttl: 15m")
    password = load(file).clusters[0].nodes[0].conninfo.password
    assert password is not None
    assert (password.arguments, password.ttl) == (("aws", "--port", "5432"), 900)
    assert password.place == f"{file}:1: clusters.a.nodes.n.password_command"


@pytest.mark.parametrize(
    "text",
    [
        "clusters: {a: {patroni: ['http://p:8008'], conninfo: 'user=x', %s}}",
        "clusters: {a: {nodes: {n: {conninfo: ''}}, healer: {conninfo: 'user=h', %s}}}",
        "clusters: {a: {nodes: {n: {conninfo: ''}}, healer: {conninfo: 'user=h',"
        " end_transactions: {conninfo: 'user=e', users: [u], %s}}}}",
    ],
)
def test_every_section_with_a_conninfo_has_the_keys(tmp_path: Path, text: str) -> None:
    config = load(written(tmp_path, "password_command: [no-such-program], password_ttl: 1h", text))
    with pytest.raises(ConfigError, match="expected a program that can be run, found no program no-such-program"):
        check_secrets(config, healer=True)


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ("password_command: aws", "password_command: expected a list of the program and its arguments"),
        ("password_command: []", "password_command: expected a list of the program and its arguments"),
        ("password_command: ['']", "found an empty name of the program"),
        ("password_command: [aws, 5432]", r"password_command\[1\]: expected a string, in quotes"),
        ("password_ttl: 15m", "password_ttl: expected password_ttl beside password_command, found it alone"),
        ("password_command: [aws], password_ttl: 0s", "password_ttl: expected a duration"),
    ],
)
def test_fault_has_its_place(tmp_path: Path, keys: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        load(written(tmp_path, keys))


def test_password_in_two_places_is_refused_and_not_shown(tmp_path: Path) -> None:
    text = "clusters: {a: {nodes: {n: {conninfo: 'password=hidden', %s}}}}"
    with pytest.raises(ConfigError, match="found a password in conninfo, too") as raised:
        load(written(tmp_path, "password_command: [aws]", text))
    assert "hidden" not in str(raised.value)


def test_check_finds_the_program_beside_the_configuration(tmp_path: Path) -> None:
    program = tmp_path / "token.sh"
    program.write_text("#!/bin/sh\necho t\n")
    config = load(written(tmp_path, "password_command: [./token.sh]"))
    with pytest.raises(ConfigError, match="which may not be run"):
        check_secrets(config, healer=False)
    program.chmod(0o755)
    check_secrets(config, healer=False)
