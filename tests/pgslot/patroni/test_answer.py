"""Patroni's answers, and its section of the configuration."""

from pathlib import Path
from typing import Any

import pytest

import exporter.__main__
from pgslot.cli.errors import ConfigError
from pgslot.config.loader import load
from pgslot.config.secrets import check_secrets
from pgslot.patroni.answer import Answer, parse_answer
from tests.support.fakes.patroni import SELF, TWO, A, B, written

ANSWERS: dict[str, tuple[Any, Any, Answer]] = {
    "two members": (TWO, SELF, Answer((A, B), (), "7712224370954780933")),
    "without GET /patroni": (TWO, None, Answer((A, B), (), None)),
    "an identifier that is not one": (TWO, {"database_system_identifier": {"a": 1}}, Answer((A, B), (), None)),
    "without a port": ({"members": [{"name": "a", "host": "10.0.0.1"}]}, None, Answer((A,), (), None)),
    "a member that is being created": (
        {"members": [*TWO["members"], {"name": "c", "state": "creating replica"}]},
        None,
        Answer((A, B), ("c: has no host yet",), None),
    ),
}


@pytest.mark.parametrize(("cluster", "status", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_members_are_parsed_from_answers(cluster: Any, status: Any, expected: Answer) -> None:
    assert parse_answer(cluster, status, None) == expected


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ("text", "expected a name of letters, digits and _ . : - (128 at most), found 'None'"),
        ({"name": "a b", "host": "h"}, "found 'a b'"),
        ({"name": "a" * 200, "host": "h"}, f"found {'a' * 100!r}"),
        ({"name": 1, "host": "h"}, "found '1'"),
        ({"name": "c", "host": "one,two"}, "c: expected a host name or an address, found 'one,two'"),
        ({"name": "c", "host": "/tmp"}, "c: expected a host name or an address, found '/tmp'"),
        ({"name": "c", "host": "h' port=1"}, "c: expected a host name or an address"),
        ({"name": "c", "host": "h", "port": "5432"}, "c: expected a port, found '5432'"),
        ({"name": "c", "host": "h", "port": 0}, "c: expected a port, found '0'"),
        ({"name": "c", "host": "h", "port": True}, "c: expected a port, found 'True'"),
    ],
)
def test_an_invalid_member_is_left_out_with_its_reason(member: Any, why: str) -> None:
    answer = parse_answer({"members": [member, *TWO["members"]]}, None, None)
    assert answer.members == (A, B)
    assert [why in reason for reason in answer.left_out] == [True]


@pytest.mark.parametrize(
    ("cluster", "status", "why"),
    [
        ([], None, "expected a list of members, found none"),
        ({"members": {}}, None, "expected a list of members, found none"),
        ({"members": []}, None, "expected at least one member, found none"),
        ({"members": [{"name": "c"}]}, None, "expected at least one member, found none; c: has no host yet"),
        ({"members": [{"name": f"m{n}", "host": "h"} for n in range(101)]}, None, "expected at most 100 members"),
        (TWO, None, "expected the scope 'orders', found 'None'"),
        (TWO, {"patroni": {"scope": "billing"}}, "expected the scope 'orders', found 'billing'"),
        ({**TWO, "scope": "billing"}, SELF, "expected the scope 'orders', found 'billing'"),
    ],
)
def test_an_invalid_answer_is_refused(cluster: Any, status: Any, why: str) -> None:
    scope = "orders" if "scope" in why else None
    with pytest.raises(ValueError, match="expected") as caught:
        parse_answer(cluster, status, scope)
    assert why in str(caught.value)


def test_the_section_is_a_list_of_urls_or_a_mapping(tmp_path: Path) -> None:
    [cluster] = load(written(tmp_path, "['http://a:8008/', 'https://b']")).clusters
    assert cluster.patroni is not None
    assert (cluster.patroni.urls, cluster.patroni.interval) == (("http://a:8008", "https://b"), 15)
    assert cluster.nodes == ()
    more = "{urls: ['https://b'], scope: o, interval: 1m, ca_file: ca, cert_file: c, key_file: k}"
    [cluster] = load(written(tmp_path, more)).clusters
    assert cluster.patroni is not None
    assert (cluster.patroni.scope, cluster.patroni.interval) == ("o", 60)
    assert (cluster.patroni.ca_file, cluster.patroni.key_file) == (tmp_path / "ca", tmp_path / "k")


MISTAKES = {
    "neither list nor mapping": (
        "http://a",
        "user=x",
        "orders.patroni: expected a list of URLs, or a mapping with the key urls",
    ),
    "empty list": ("[]", "user=x", "orders.patroni: expected a list of URLs of Patroni's REST API, found a list"),
    "no urls": ("{}", "user=x", "orders.patroni: expected the key urls, found an empty mapping"),
    "no URL": ("[a]", "user=x", "orders.patroni[0]: expected an http or https URL, found 'a'"),
    "too many": (f"[{', '.join(['http://a'] * 21)}]", "user=x", "orders.patroni: expected at most 20 URLs, found 21"),
    "with a password": (
        "['http://u:hidden@a']",
        "user=x",
        "orders.patroni[0]: expected a URL without user and password: Patroni asks for none, found one with",
    ),
    "unknown key": ("{urls: ['http://a'], url: b}", "user=x", "orders.patroni.url: expected one of the keys urls, "),
    "half a certificate": (
        "{urls: ['http://a'], key_file: k}",
        "user=x",
        "orders.patroni: expected both of cert_file and key_file, or neither, found one of them",
    ),
    "a host": (
        "['http://a']",
        "host=b port=1 user=x",
        "orders.conninfo: expected a conninfo without host, hostaddr, port and target_session_attrs, which Patroni"
        " reports, found host, port",
    ),
    "a URI with a host": ("['http://a']", "postgresql://b/x", "which Patroni reports, found host"),
}


@pytest.mark.parametrize(("patroni", "conninfo", "message"), MISTAKES.values(), ids=MISTAKES)
def test_an_error_names_file_line_and_key(tmp_path: Path, patroni: str, conninfo: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, patroni, conninfo))
    assert f"{tmp_path}/pgslot.yml:1: clusters." in str(caught.value)
    assert message in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_cluster_has_either_nodes_or_patroni(tmp_path: Path) -> None:
    file = tmp_path / "pgslot.yml"
    file.write_text("clusters: {a: {patroni: ['http://a'], nodes: {n: {conninfo: ''}}, conninfo: ''}}")
    with pytest.raises(ConfigError, match="a: expected exactly one of the keys nodes and patroni, found both"):
        load(file)
    file.write_text("clusters: {a: {patroni: ['http://a']}}")
    with pytest.raises(ConfigError, match="a: expected exactly one of conninfo and conninfo_file, found neither"):
        load(file)
    file.write_text("clusters: {a: {nodes: {n: {conninfo: ''}}, conninfo: ''}}")
    with pytest.raises(ConfigError, match="expected conninfo beside patroni, or in each of the nodes, found it beside"):
        load(file)


def test_a_conninfo_file_is_checked_before_patroni_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pgslot.yml"
    file.write_text("clusters: {a: {patroni: ['http://127.0.0.1:1'], conninfo_file: secret, healer: {conninfo: ''}}}")
    (tmp_path / "secret").write_text("user=eyes password=hidden")
    check_secrets(load(file), healer=True)
    exporter.__main__.main([f"--config.file={file}", "--check"])
    printed = "configuration is valid: 1 cluster(s), 0 node(s) and the members that Patroni lists for 1 cluster(s)\n"
    assert capsys.readouterr().out == printed
    (tmp_path / "secret").write_text("host=b password=hidden")
    with pytest.raises(
        ConfigError, match=r"conninfo_file: expected a conninfo without host, .* in .*secret; found host"
    ):
        check_secrets(load(file), healer=False)


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ("ca_file: nowhere.pem", "{folder}/nowhere.pem: No such file or directory"),
        ("cert_file: text.pem, key_file: nowhere.key", "{folder}/nowhere.key: No such file or directory"),
        ("ca_file: text.pem", "{folder}/text.pem: [X509"),
    ],
)
def test_certificates_are_checked_before_patroni_answers(tmp_path: Path, keys: str, found: str) -> None:
    (tmp_path / "text.pem").write_text("no certificate\n")
    config = load(written(tmp_path, f"{{urls: ['https://127.0.0.1:1'], {keys}}}"))
    expected = (
        f"{tmp_path}/pgslot.yml:1: clusters.orders.patroni: expected certificates in ca_file, cert_file and key_file"
    )
    with pytest.raises(ConfigError) as caught:
        check_secrets(config, healer=False)
    assert str(caught.value).startswith(expected)
    assert found.format(folder=tmp_path) in str(caught.value)
