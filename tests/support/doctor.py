"""Runs the doctor on the stack as a user does, and temporarily changes the stack so that it has a fault."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.support.servers.monitoring import ALERTMANAGER, version_of
from tests.support.servers.programs import run_healer
from tests.support.servers.stack import Stack

Findings = dict[tuple[str, str], dict[str, str]]


@cache
def hides_webhook_urls() -> bool:
    """Return whether this Alertmanager hides webhook URLs, so that the doctor relies on webhooks that arrived."""
    return version_of(ALERTMANAGER) >= (0, 28)


def all_scraped(stack: Stack) -> bool:
    targets = stack.prometheus.get("/api/v1/targets")["data"]["activeTargets"]
    return all(target["health"] == "up" for target in targets)


def run(stack: Stack, *flags: str, file: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the doctor as a user does, with the URLs of the healer and Prometheus."""
    urls = (f"--healer.url={stack.healer.url}", f"--prometheus.url={stack.prometheus.url}")
    config = file or stack.folder / "pg-slot-healer.yml"
    return run_healer("doctor", f"--config.file={config}", *urls, *flags)


def problems(stack: Stack, *flags: str, file: Path | None = None, code: int = 1, test: bool | None = None) -> Findings:
    """
    Return the findings that are not ok, by check and subject.

    `test`: send a test alert, which shows the targets of webhooks even right after a change of the configuration; None:
    only if Alertmanager hides webhook URLs.
    """
    test_flags = ("--test-alert",) if (hides_webhook_urls() if test is None else test) else ()
    done = run(stack, "--json", *test_flags, *flags, file=file)
    assert (done.returncode, done.stderr) == (code, ""), done.stdout
    return {
        (finding["check"], finding["subject"]): finding
        for finding in json.loads(done.stdout)
        if finding["status"] != "ok"
        and finding["check"] != "arrivals"
        # The finding that says why no test alert was sent.
        and (finding["check"], finding["status"]) != ("test alert", "skipped")
    }


def heartbeat_arrived(stack: Stack) -> bool:
    """Return whether a webhook of the receiver `healer` has arrived; the heartbeat sends one if nothing else fires."""
    return stack.healer.value("pgslot_heal_receiver_last_webhook_timestamp_seconds", receiver="healer") is not None


def tell_people(folder: Path, alertmanager: str) -> None:
    """Give the receiver `people` an integration, which the shipped configuration leaves to the user."""
    file = folder / "alertmanager/alertmanager.yml"
    data = yaml.safe_load(file.read_text("utf-8"))
    for receiver in data["receivers"]:
        if receiver["name"] == "people":
            mail = {"to": "dba@example.com", "from": "alertmanager@example.com", "smarthost": "127.0.0.1:9"}
            receiver["email_configs"] = [mail]
    file.write_text(yaml.safe_dump(data), "utf-8")
    requests.post(f"{alertmanager}/-/reload", timeout=10).raise_for_status()


@contextmanager
def changed_yaml(file: Path, change: Any) -> Iterator[None]:
    """Change a YAML file within the context."""
    before = file.read_text("utf-8")
    data = yaml.safe_load(before)
    change(data)
    file.write_text(yaml.safe_dump(data), "utf-8")
    try:
        yield
    finally:
        file.write_text(before, "utf-8")


def changed_config_copy(stack: Stack, folder: Path, change: Any) -> Path:
    """Write a changed copy of the healer's configuration, which the healer does not load."""
    data = yaml.safe_load((stack.folder / "pg-slot-healer.yml").read_text("utf-8"))
    change(data)
    file = folder / "pgslot.yml"
    file.write_text(yaml.safe_dump(data), "utf-8")
    return file


@contextmanager
def changed_alertmanager_config(stack: Stack, change: Any) -> Iterator[None]:
    """Change Alertmanager's configuration within the context."""

    def reload() -> None:
        requests.post(f"{stack.alertmanager.url}/-/reload", timeout=10).raise_for_status()

    with changed_yaml(stack.folder / "alertmanager/alertmanager.yml", change):
        reload()
        yield
    reload()


# In the order of the rules, in which doctor names them.
HEALED_ALERTS = (
    *("PgSlotCreationStuck", "PgSlotCreationBlocked", "PgSlotCreationRetried"),
    *("PgSlotNotPersisted", "PgSlotStalled", "PgSlotCreationWaiting"),
)
