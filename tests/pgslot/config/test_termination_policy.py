"""The section end_transactions: its values, its defaults, and the error of each mistake."""

from pathlib import Path

import pytest

from pgslot.cli.errors import ConfigError
from pgslot.config.loader import load
from pgslot.config.model import HealerConfig, TerminationConfig
from pgslot.config.secrets import check_secrets

PLACE = "clusters.a.healer.end_transactions"


def written(folder: Path, section: str, healer: str = "user=healer") -> Path:
    file = folder / "pgslot.yml"
    file.write_text(
        "clusters:\n  a:\n    nodes: {n: {conninfo: ''}}\n"
        f"    healer:\n      conninfo: {healer}\n      end_transactions: {section}\n"
    )
    return file


def termination(folder: Path, section: str) -> TerminationConfig:
    target = load(written(folder, section)).clusters[0].healer
    assert target is not None
    assert target.termination is not None
    return target.termination


def test_without_the_section_no_transaction_is_ended(tmp_path: Path) -> None:
    (tmp_path / "pgslot.yml").write_text("clusters: {a: {nodes: {n: {conninfo: ''}}, healer: {conninfo: ''}}}")
    target = load(tmp_path / "pgslot.yml").clusters[0].healer
    assert isinstance(target, HealerConfig)
    assert target.termination is None


def test_it_is_a_dry_run_by_default(tmp_path: Path) -> None:
    policy = termination(tmp_path, "{conninfo: user=ender, users: [batch]}").policy
    assert policy.dry_run is True
    assert (policy.users, policy.applications, policy.databases) == (("batch",), None, None)
    assert (policy.idle_in_transaction_for, policy.at_most_per_hour) == (300, 1)


def test_every_key_is_loaded(tmp_path: Path) -> None:
    config = termination(
        tmp_path,
        "{conninfo: user=ender password=hidden, dry_run: false, idle_in_transaction_for: 10m, users: [batch, etl],"
        " applications: [nightly load], databases: [shop], at_most_per_hour: 3}",
    )
    policy = config.policy
    assert policy.dry_run is False
    assert (policy.users, policy.applications, policy.databases) == (("batch", "etl"), ("nightly load",), ("shop",))
    assert (policy.idle_in_transaction_for, policy.at_most_per_hour) == (600, 3)
    assert policy.rule == (
        "users: [batch, etl], applications: [nightly load], databases: [shop], idle_in_transaction_for: 600s"
    )
    assert "hidden" not in repr(config)


MISTAKES = {
    "a word": ("yes please", f"{PLACE}: expected a mapping with conninfo or conninfo_file, and users or applications"),
    "no conninfo": ("{users: [a]}", f"{PLACE}: expected exactly one of conninfo and conninfo_file, found neither"),
    "nobody named": (
        "{conninfo: user=ender, databases: [shop]}",
        f"{PLACE}: expected at least one of the keys users and applications, found neither: that would be everybody",
    ),
    "no names": ("{conninfo: user=e, users: []}", f"{PLACE}.users: expected a list of names, each in full"),
    "one name": ("{conninfo: user=e, users: batch}", f"{PLACE}.users: expected a list of names, each in full"),
    "a number": ("{conninfo: user=e, users: [7]}", f"{PLACE}.users[0]: expected a name, in quotes if"),
    "an empty name": ("{conninfo: user=e, applications: [a, '']}", f"{PLACE}.applications[1]: expected a name, found"),
    "the healer's role": ("{conninfo: user=healer, users: [a]}", f"{PLACE}: expected a role of its own, found that of"),
    "a wrong key": (
        "{conninfo: user=e, user: [a]}",
        f"{PLACE}.user: expected one of the keys conninfo, ",
    ),
    "idle for no time": (
        "{conninfo: user=e, users: [a], idle_in_transaction_for: 0s}",
        f"{PLACE}.idle_in_transaction_for: expected a duration such as 500ms, 10s or 1h, longer than 0",
    ),
    "none an hour": (
        "{conninfo: user=e, users: [a], at_most_per_hour: 0}",
        f"{PLACE}.at_most_per_hour: expected a whole number of at least 1, found 0",
    ),
    "perhaps": ("{conninfo: user=e, users: [a], dry_run: maybe}", f"{PLACE}.dry_run: expected true or false"),
}


@pytest.mark.parametrize(("section", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_an_error_names_file_line_and_key(tmp_path: Path, section: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, section))
    assert message in str(caught.value)
    assert f"{tmp_path / 'pgslot.yml'}:6: " in str(caught.value)


def test_only_the_healer_reads_its_secret(tmp_path: Path) -> None:
    config = load(written(tmp_path, "{conninfo_file: nowhere, users: [a]}"))
    check_secrets(config, healer=False)
    with pytest.raises(ConfigError, match=r"conninfo_file: expected a readable file with a conninfo, found .*nowhere"):
        check_secrets(config, healer=True)
