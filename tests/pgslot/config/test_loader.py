"""The configuration file: its values, its defaults, and the error of each mistake."""

from pathlib import Path

import pytest

from pgslot.cli.errors import ConfigError
from pgslot.config.loader import load, single
from pgslot.config.secrets import check_secrets, webhook_token
from pgslot.config.yaml_values import parse_duration

NODE = 'clusters: {a: {nodes: {n: {conninfo: "host=db"}}}}\n'

FULL = """
clusters:
  orders:
    nodes:
      orders-1: {conninfo: "host=10.0.0.1 dbname=postgres user=pgslot_exporter"}
      orders-2: {conninfo_file: secret}
    healer:
      conninfo: "host=10.0.0.1,10.0.0.2 target_session_attrs=read-write"
      enabled: false
      dry_run: true
  stock:
    nodes:
      stock-1: {conninfo: "postgresql://10.0.0.3/postgres"}
healer:
  burst_interval: 500ms
  burst_calls: 3
  interval: 20s
  give_up_after: 1h30m
  alertmanager_url: http://alertmanager:9093/
  webhook_token_file: token
"""


def test_a_full_file_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host=10.0.0.2 password=hidden\n")
    (tmp_path / "token").write_text("abc\n")
    (tmp_path / "pgslot.yml").write_text(FULL)
    config = load(tmp_path / "pgslot.yml")
    orders, stock = config.clusters
    assert [node.name for node in orders.nodes] == ["orders-1", "orders-2"]
    assert orders.nodes[1].conninfo.read() == "host=10.0.0.2 password=hidden"
    assert orders.healer is not None
    assert (orders.healer.enabled, orders.healer.dry_run) == (False, True)
    assert stock.healer is None
    assert (config.healer.burst_interval, config.healer.burst_calls) == (0.5, 3)
    assert (config.healer.interval, config.healer.give_up_after) == (20, 5400)
    assert config.healer.alertmanager_url == "http://alertmanager:9093"
    assert config.healer.webhook_token_file == tmp_path / "token"


def test_defaults_are_the_documented_ones(tmp_path: Path) -> None:
    (tmp_path / "pgslot.yml").write_text(NODE)
    settings = load(tmp_path / "pgslot.yml").healer
    assert (settings.burst_interval, settings.burst_calls) == (1, 5)
    assert (settings.interval, settings.give_up_after) == (10, 3600)


def test_a_conninfo_is_not_in_the_representation(tmp_path: Path) -> None:
    (tmp_path / "pgslot.yml").write_text(NODE.replace("host=db", "host=db password=hidden"))
    assert "hidden" not in repr(load(tmp_path / "pgslot.yml"))


def test_a_rotated_secret_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host=one")
    (tmp_path / "pgslot.yml").write_text("clusters: {a: {nodes: {n: {conninfo_file: secret}}}}")
    conninfo = load(tmp_path / "pgslot.yml").clusters[0].nodes[0].conninfo
    (tmp_path / "secret").write_text("host=two")
    assert conninfo.read() == "host=two"


MISTAKES = {
    "empty": ("", ":1: expected a mapping with the key clusters, found nothing"),
    "no clusters": ("healer: {}\n", ":1: expected the key clusters, or include, found a mapping"),
    "clusters empty": ("clusters: {}", ":1: clusters: expected at least one cluster, found an empty mapping"),
    "unknown top key": (NODE + "helaer: {}", ":2: helaer: expected one of the keys clusters, include, healer, found"),
    "key twice": ("clusters:\n  a: {}\n  a: {}\n", ":3: clusters.a: expected each key once, found it a second time"),
    "cluster without nodes": (
        "clusters: {a: {}}",
        ":1: clusters.a: expected exactly one of the keys nodes and patroni, found neither",
    ),
    "nodes empty": ("clusters: {a: {nodes: {}}}", ":1: clusters.a.nodes: expected at least one node"),
    "node is a string": (
        "clusters: {a: {nodes: {n: host=db}}}",
        ":1: clusters.a.nodes.n: expected a mapping with conninfo or conninfo_file, found 'host=db'",
    ),
    "conninfo neither": (
        "clusters: {a: {nodes: {n: {}}}}",
        ":1: clusters.a.nodes.n: expected exactly one of conninfo and conninfo_file, found neither",
    ),
    "conninfo both": (
        "clusters: {a: {nodes: {n: {conninfo: '', conninfo_file: x}}}}",
        ":1: clusters.a.nodes.n: expected exactly one of conninfo and conninfo_file, found both",
    ),
    "conninfo nonsense": (
        "clusters: {a: {nodes: {n: {conninfo: 'password=two hidden'}}}}",
        ":1: clusters.a.nodes.n.conninfo: expected libpq's key=value pairs or a URI, found a word without",
    ),
    "conninfo with a misspelt option": (
        "clusters: {a: {nodes: {n: {conninfo: 'host=db usr=x'}}}}",
        ':1: clusters.a.nodes.n.conninfo: expected libpq\'s key=value pairs or a URI, found the option "usr";'
        ' libpq has "user"',
    ),
    "conninfo with a password that is not quoted": (
        "clusters: {a: {nodes: {n: {conninfo: 'password=two hidden=3'}}}}",
        "found an option that libpq does not have (not shown: secrets; a value with spaces needs single quotes)",
    ),
    "URI with a misspelt option": (
        "clusters: {a: {nodes: {n: {conninfo: 'postgresql://u:hidden@db/?sslmod=require'}}}}",
        'found the option "sslmod"; libpq has "sslmode"',
    ),
    "conninfo with an open quote": (
        'clusters: {a: {nodes: {n: {conninfo: "password=\'hidden"}}}}',
        "found a single quote that is not closed",
    ),
    "URI with a plain percent sign": (
        "clusters: {a: {nodes: {n: {conninfo: 'postgresql://u:hid%den@db/'}}}}",
        "found a % in the URI that does not encode UTF-8 text",
    ),
    "URI with a percent sign before no digits": (
        "clusters: {a: {nodes: {n: {conninfo: 'postgresql://u:hid%xx@db/'}}}}",
        "found a % in the URI that does not encode UTF-8 text",
    ),
    "bad name": ("clusters: {'a b': {nodes: {}}}", ":1: clusters.a b: expected a name of letters, digits"),
    "enabled is text": (
        "clusters: {a: {nodes: {n: {conninfo: ''}}, healer: {conninfo: '', enabled: 'no thanks'}}}",
        ":1: clusters.a.healer.enabled: expected true or false, found 'no thanks'",
    ),
    "duration without unit": (NODE + "healer: {interval: 10}", ":2: healer.interval: expected a duration such as"),
    "duration zero": (NODE + "healer: {interval: 0s}", ":2: healer.interval: expected a duration such as"),
    "calls zero": (NODE + "healer: {burst_calls: 0}", ":2: healer.burst_calls: expected a whole number of at least 1"),
    "calls true": (NODE + "healer: {burst_calls: true}", ":2: healer.burst_calls: expected a whole number"),
    "url": (NODE + "healer: {alertmanager_url: 'am:9093'}", ":2: healer.alertmanager_url: expected an http or https"),
    "healer unknown key": (NODE + "healer: {burst: 1}", ":2: healer.burst: expected one of the keys"),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_an_error_names_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "pgslot.yml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["2026-02-30", '!!bool "x"', '!!int ""', '!!timestamp ""', f"0x{'f' * 9000}"],
    ids=["day", "bool", "int", "timestamp", "digits"],
)
def test_a_scalar_that_yaml_cannot_convert_is_an_error_with_its_place(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pgslot.yml"
    file.write_text(f"clusters:\n  c:\n    nodes:\n      n:\n        conninfo: {text}\n")
    with pytest.raises(ConfigError, match=r"pgslot\.yml:5: clusters\.c\.nodes\.n\.conninfo: expected "):
        load(file)


def test_error_of_a_conninfo_file_has_the_place_that_names_it_and_its_path(tmp_path: Path) -> None:
    file, secret = tmp_path / "pgslot.yml", tmp_path / "secret"
    file.write_text("clusters:\n  a:\n    nodes:\n      n: {conninfo_file: secret}\n")
    place = f"{file}:4: clusters.a.nodes.n.conninfo_file: expected "

    def error() -> str:
        with pytest.raises(ConfigError) as caught:
            check_secrets(load(file), healer=False)
        return str(caught.value)

    assert error() == f"{place}a readable file with a conninfo, found {secret}: No such file or directory"
    secret.write_bytes(b"password=\xff")
    assert error() == f"{place}a readable file with a conninfo, found {secret}: it is not UTF-8 text"
    secret.write_text("password=two hidden")
    assert error().startswith(f"{place}libpq's key=value pairs or a URI in {secret}, found a word without")
    assert "hidden" not in error()


def test_the_exporter_does_not_read_secrets_of_the_healer(tmp_path: Path) -> None:
    file = tmp_path / "pgslot.yml"
    healer = "{conninfo_file: nowhere}"
    file.write_text(f"clusters: {{a: {{nodes: {{n: {{conninfo: ''}}}}, healer: {healer}}}}}")
    check_secrets(load(file), healer=False)
    with pytest.raises(ConfigError, match=r"conninfo_file: expected a readable file with a conninfo, found .*nowhere"):
        check_secrets(load(file), healer=True)


def test_webhook_token_is_read_without_its_line_end_and_an_error_has_line_and_key(tmp_path: Path) -> None:
    file, token = tmp_path / "pgslot.yml", tmp_path / "token"
    file.write_text(f"{NODE}healer:\n  webhook_token_file: token\n")
    settings = load(file).healer
    place = f"{file}:3: healer.webhook_token_file: expected "
    with pytest.raises(ConfigError) as caught:
        webhook_token(settings)
    assert (
        str(caught.value) == f"{place}a readable file with the webhook token, found {token}: No such file or directory"
    )
    token.write_text("\n")
    with pytest.raises(ConfigError) as caught:
        webhook_token(settings)
    assert str(caught.value) == f"{place}the webhook token, found an empty file: {token}"
    token.write_text("abc\n")
    assert webhook_token(settings) == "abc"


def test_certificate_of_patroni_that_is_missing_is_an_error_with_line_and_key(tmp_path: Path) -> None:
    file = tmp_path / "pgslot.yml"
    file.write_text(
        "clusters:\n  a:\n    patroni: {urls: ['https://db:8008'], ca_file: ca.pem}\n    conninfo: user=x\n"
    )
    with pytest.raises(ConfigError) as caught:
        check_secrets(load(file), healer=False)
    expected = "expected certificates in ca_file, cert_file and key_file"
    assert str(caught.value) == (
        f"{file}:3: clusters.a.patroni: {expected}, found {tmp_path / 'ca.pem'}: No such file or directory"
    )


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yml: expected a readable file, found: No such file"):
        load(tmp_path / "nowhere.yml")


def test_a_file_that_is_not_utf_8_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "pgslot.yml").write_bytes(b"clusters: \xff")
    with pytest.raises(ConfigError, match="expected UTF-8 text, found byte 0xff"):
        load(tmp_path / "pgslot.yml")


def test_the_conninfo_flag_is_one_cluster_with_one_node() -> None:
    [cluster] = single("").clusters
    assert (cluster.name, cluster.nodes[0].name, cluster.healer) == ("default", "default", None)
    with pytest.raises(ConfigError, match="--conninfo: expected"):
        single("hostname=db")


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("10s", 10), ("1h", 3600), ("1h30m", 5400), ("1d2h3m4s5ms", 93784.005)]
)
def test_durations_are_in_prometheus_notation(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "1.5h", "-1s", "10s 5s", "5s1h", "1 h"])
def test_other_notations_of_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)
