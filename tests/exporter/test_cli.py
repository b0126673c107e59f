"""The command line of the exporter: which command runs with which options, and the exit codes."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.cli import COMMANDS, parser
from exporter.commands import metrics, preflight, rehearse, rules, serve, sql
from tests.support import in_process

HERE = Path("pgslot.yml")
SHIPPED = "http://localhost:9877/runbooks"

LINES = [
    ("", serve.run, {"config_file": None, "conninfo": None, "listen": ":9877", "check": False, "external_url": None}),
    ("--config.file pgslot.yml", serve.run, {"config_file": HERE}),
    ("--config.file=pgslot.yml serve", serve.run, {"config_file": HERE, "listen": ":9877", "log_level": "info"}),
    ("serve --config.file=pgslot.yml --check", serve.run, {"config_file": HERE, "check": True}),
    ("--conninfo= --check", serve.run, {"conninfo": "", "check": True}),
    ("serve --conninfo=host=a --web.external-url=http://a", serve.run, {"conninfo": "host=a"}),
    ("--web.listen-address=:1 serve --log.format=json", serve.run, {"listen": ":1", "log_format": "json"}),
    ("sql", sql.run, {}),
    ("sql --config.file=pgslot.yml", sql.run, {"config_file": HERE}),
    ("metrics --log.level=debug --runbook-base=http://a", metrics.run, {"log_level": "debug"}),
    ("rules", rules.run, {"runbook_base": SHIPPED}),
    ("rules --runbook-base=http://a", rules.run, {"runbook_base": "http://a"}),
    ("--runbook-base=http://a rules", rules.run, {"runbook_base": "http://a"}),
    ("--runbook-base=http://a --check --conninfo=", serve.run, {"runbook_base": "http://a"}),
    ("serve --runbook-base=http://a", serve.run, {"runbook_base": "http://a"}),
    ("rules --conninfo=", rules.run, {"conninfo": ""}),
    (
        "rehearse orders --config.file=pgslot.yml",
        rehearse.run,
        {"cluster": "orders", "config_file": HERE, "target": None, "json": False},
    ),
    (
        "--config.file=pgslot.yml rehearse --to n2 --json orders",
        rehearse.run,
        {"cluster": "orders", "config_file": HERE, "target": "n2", "json": True},
    ),
    (
        "preflight --conninfo=host=a --database=shop --user=cdc --on=a:5432",
        preflight.run,
        {"conninfo": "host=a", "database": "shop", "user": "cdc", "on": "a:5432", "plugin": "pgoutput", "json": False},
    ),
    (
        "--config.file=pgslot.yml preflight --cluster=orders --publication=p --no-login",
        preflight.run,
        {"config_file": HERE, "conninfo": None, "cluster": "orders", "publication": "p", "no_login": True},
    ),
]


@pytest.mark.parametrize(("line", "run", "given"), LINES)
def test_command_line_selects_command_and_options(
    line: str, run: Callable[[argparse.Namespace], int], given: dict[str, object]
) -> None:
    options = vars(parser().parse_args(line.split()))
    assert options["run"] is run
    assert {name: options[name] for name in given} == given


@pytest.mark.parametrize("line", ["nonsense", "rehearse", "rehearse a b", "rehearse a --check", "serve x"])
def test_bad_command_line_prints_usage_and_exits_with_2(line: str) -> None:
    done = in_process.run("pg-slot-exporter", *line.split())
    assert done.returncode == 2
    assert done.stderr.startswith("usage: pg-slot-exporter")


def test_help_lists_all_commands_and_their_exit_codes() -> None:
    done = in_process.run("pg-slot-exporter", "--help")
    listed, _, codes = done.stdout.partition("exit codes:")
    commands_listed = re.findall(r"^    (\w+)", listed.partition("commands:")[2], re.MULTILINE)
    assert commands_listed == [*COMMANDS]
    assert commands_listed == re.findall(r"^  (\w+) ", codes, re.MULTILINE)[1:]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_lists_its_own_flags_alone(command: str) -> None:
    text = in_process.run("pg-slot-exporter", command, "--help").stdout
    assert ("--runbook-base" in text) == (command == "rules")
    assert ("--web.listen-address" in text) == (command == "serve")
    assert ("--to" in text) == (command == "rehearse")
    assert ("--plugin" in text) == (command == "preflight")


CLUSTERS = (
    "clusters: {orders: {nodes: {a: {conninfo: 'host=127.0.0.1 port=1'}, b: {conninfo: 'host=127.0.0.1 port=1'}}}}"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["orders"], "command line: expected exactly one of --config.file and --conninfo, found neither"),
        (["other", "--config.file={file}"], "expected one of the clusters orders, found 'other'"),
        (["orders", "--config.file={file}", "--to=c"], "--to: expected one of the nodes a, b, found 'c'"),
    ],
)
def test_rehearsal_of_what_is_not_configured_is_one_clear_error(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "pgslot.yml"
    file.write_text(CLUSTERS)
    done = in_process.run("pg-slot-exporter", "rehearse", *(text.format(file=file) for text in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "command line: expected exactly one of --config.file and --conninfo, found neither"),
        (["--conninfo=host"], "--conninfo: expected libpq's key=value pairs or a URI, found"),
        (["--config.file={file}", "--cluster=other"], "--cluster: expected one of the clusters orders, found 'other'"),
        (["--config.file={file}", "--on=c"], "--on: expected one of the nodes a, b, found 'c'"),
        (["--conninfo=host=a port=1", "--on=b:1"], "--on: expected one of the nodes a:1, found 'b:1'"),
        (["--conninfo=host=a", "--plugin=../evil"], "--plugin: expected the name of an output plugin"),
        (["--conninfo=host=a", "--slot=Big"], "--slot: expected 1 to 63 lower-case letters"),
    ],
)
def test_bad_input_of_a_preflight_is_one_clear_error(arguments: list[str], message: str, tmp_path: Path) -> None:
    file = tmp_path / "pgslot.yml"
    file.write_text(CLUSTERS)
    done = in_process.run("pg-slot-exporter", "preflight", *(text.format(file=file) for text in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_preflight_without_an_answer_exits_with_3() -> None:
    done = in_process.run("pg-slot-exporter", "preflight", "--conninfo=host=127.0.0.1,127.0.0.1 port=1,2")
    assert done.returncode == 3, done.stderr
    assert "no host is a primary: name the node with --on (127.0.0.1:1: it did not answer" in done.stdout


def test_rehearsal_of_one_server_is_refused() -> None:
    done = in_process.run("pg-slot-exporter", "--conninfo=", "rehearse", "orders")
    assert done.returncode == 2
    assert "expected --config.file for rehearse, found --conninfo" in done.stderr


@pytest.mark.parametrize(("to", "title"), [([], "a switchover to any standby"), (["--to=a"], "a switchover to a")])
def test_rehearsal_without_patroni_exits_with_3_and_says_so(to: list[str], title: str, tmp_path: Path) -> None:
    file = tmp_path / "pgslot.yml"
    file.write_text("clusters: {orders: {patroni: ['http://127.0.0.1:1'], conninfo: 'user=x'}}")
    done = in_process.run("pg-slot-exporter", "rehearse", "orders", f"--config.file={file}", *to)
    assert done.returncode == 3
    assert done.stdout.startswith(f"orders: {title}, as of now\n")
    assert "the members of orders: this takes Patroni to answer: http://127.0.0.1:1: " in done.stdout
    assert done.stdout.splitlines()[-1].endswith(": nothing is known.")


def test_rehearsal_without_an_answer_exits_with_3_and_names_the_nodes(tmp_path: Path) -> None:
    file = tmp_path / "pgslot.yml"
    file.write_text(CLUSTERS)
    done = in_process.run("pg-slot-exporter", "rehearse", "orders", f"--config.file={file}", "--to=b")
    assert done.returncode == 3
    assert "which node is the primary: this takes nodes to answer: a: node unreachable" in done.stdout
