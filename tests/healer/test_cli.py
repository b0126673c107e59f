"""The command line: which command runs with which options, and the exit codes."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from healer.__main__ import main
from healer.cli import COMMANDS, parser
from healer.commands import doctor, grants, heal, metrics_reference, replay, serve, why
from tests.support import in_process

HERE = Path("pgslot.yml")

LINES = [
    ("", serve.run, {"config_file": None, "listen": ":9878", "log_level": "info", "lifecycle": False}),
    ("--config.file pgslot.yml", serve.run, {"config_file": HERE}),
    ("--config.file=pgslot.yml serve", serve.run, {"config_file": HERE, "listen": ":9878"}),
    ("serve --config.file=pgslot.yml", serve.run, {"config_file": HERE, "log_format": "logfmt", "check": False}),
    ("--config.file=other.yml serve --config.file=pgslot.yml", serve.run, {"config_file": HERE}),
    (
        "--web.listen-address=:1 --log.level=debug serve --log.format=json --check",
        serve.run,
        {"listen": ":1", "log_level": "debug", "log_format": "json", "check": True},
    ),
    (
        "--web.allow-unauthenticated serve --web.enable-lifecycle",
        serve.run,
        {"allow_unauthenticated": True, "lifecycle": True},
    ),
    (
        "heal orders --config.file=pgslot.yml",
        heal.run,
        {"cluster": "orders", "config_file": HERE, "dry_run": False, "json": False},
    ),
    (
        "--config.file=pgslot.yml heal --dry-run --json orders",
        heal.run,
        {"cluster": "orders", "config_file": HERE, "dry_run": True, "json": True},
    ),
    ("replay body.json --json", replay.run, {"file": Path("body.json"), "json": True, "config_file": None}),
    ("grants", grants.run, {"exporter_role": "pgslot_exporter", "healer_role": "pgslot_healer"}),
    ("metrics", metrics_reference.run, {}),
    ("why shop_cdc --cluster=shop", why.run, {"slot": "shop_cdc", "cluster": "shop", "config_file": None}),
    ("doctor --test-alert", doctor.run, {"healer_url": "http://localhost:9878", "test_alert": True}),
]


@pytest.mark.parametrize(("line", "run", "given"), LINES)
def test_command_line_selects_command_and_options(
    line: str, run: Callable[[argparse.Namespace], int], given: dict[str, object]
) -> None:
    options = vars(parser().parse_args(line.split()))
    assert options["run"] is run
    assert {name: options[name] for name in given} == given


@pytest.mark.parametrize("line", ["nonsense", "replay", "heal a b", "--log.level=loud", "grants --json", "serve x"])
def test_bad_command_line_prints_usage_and_exits_with_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(line.split())
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("usage: pg-slot-healer")


def test_bad_input_is_reported_and_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == 2
    assert main(["--config.file", str(tmp_path / "none.yml"), "serve"]) == 2
    missing, unreadable = capsys.readouterr().err.splitlines()
    assert missing == "pg-slot-healer: command line: expected --config.file, found none"
    assert unreadable.startswith(f"pg-slot-healer: {tmp_path / 'none.yml'}: expected")


def test_help_lists_all_commands_and_their_exit_codes() -> None:
    done = in_process.run("pg-slot-healer", "--help")
    listed, _, codes = done.stdout.partition("exit codes:")
    commands_listed = re.findall(r"^    (\w+)", listed.partition("commands:")[2], re.MULTILINE)
    assert commands_listed == [*COMMANDS]
    assert commands_listed == re.findall(r"^  (\w+) ", codes, re.MULTILINE)[1:]
