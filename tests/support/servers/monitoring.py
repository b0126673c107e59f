"""Real Prometheus and Alertmanager with the shipped configuration, except for addresses and intervals."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.support.paths import ROOT
from tests.support.servers.processes import Process, free_port, wait_for

ALERTS = ROOT / "alerts"
PROMETHEUS, ALERTMANAGER = "prometheus", "prometheus-alertmanager"
"""The programs, found by PATH, in which `make ... SUITE=forky` puts those of another Debian suite first."""


def version_of(program: str) -> tuple[int, ...]:
    """Return the program's version as numbers: 3.5.3+ds1 is (3, 5, 3)."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30)
    match = re.search(r"version (\d+(?:\.\d+)+)", done.stdout + done.stderr)
    assert match is not None, done
    return tuple(map(int, match[1].split(".")))


class Server:
    """A program with an HTTP API."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        self.process.start()
        wait_for(self._ready, f"{self.url} is ready", log=self.process.log)

    def stop(self) -> None:
        self.process.stop()

    def get(self, path: str, **parameters: str) -> Any:
        answer = requests.get(self.url + path, params=parameters, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False


class Prometheus(Server):
    """Prometheus with global intervals of one second; `as_shipped`: with the shipped ones."""

    def __init__(
        self,
        folder: Path,
        addresses: Mapping[str, str],
        thresholds: Mapping[str, str],
        *,
        as_shipped: bool = False,
        outlive_us: bool = False,
        alertmanagers: Sequence[str] = (),
    ) -> None:
        """`alertmanagers`: addresses to send alerts to; empty: only to that of the shipped configuration."""
        home = folder / "prometheus"
        home.mkdir()
        config = yaml.safe_load(_with_addresses(ALERTS / "prometheus.yml", addresses))
        if alertmanagers:
            config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": list(alertmanagers)}]}]
        if not as_shipped:
            config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        (home / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
        for file in config["rule_files"]:
            (home / file).write_text(rules_with(thresholds, ALERTS / file), "utf-8")
        port = free_port()
        arguments = [
            PROMETHEUS,
            f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        super().__init__(Process(arguments, folder / "prometheus.log", outlive_us=outlive_us), port)

    def alerts(self) -> list[dict[str, Any]]:
        return list(self.get("/api/v1/alerts")["data"]["alerts"])

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self.get("/api/v1/query", query=expression)["data"]["result"])

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        answer = self.get("/api/v1/query_range", query=expression, start=str(start), end=str(end), step=str(step))
        return list(answer["data"]["result"])


class Alertmanager(Server):
    """One Alertmanager; without `peers` it is no member of a cluster."""

    def __init__(
        self,
        folder: Path,
        addresses: Mapping[str, str],
        *,
        outlive_us: bool = False,
        name: str = "alertmanager",
        cluster_address: str = "",
        peers: Sequence[str] = (),
    ) -> None:
        """`cluster_address`: where it listens for its peers, empty: nowhere; `peers`: their cluster addresses."""
        home = folder / name
        home.mkdir()
        (home / "alertmanager.yml").write_text(_with_addresses(ALERTS / "alertmanager.yml", addresses), "utf-8")
        self.address = addresses["alertmanager:9093"]
        arguments = [
            ALERTMANAGER,
            f"--config.file={home / 'alertmanager.yml'}",
            f"--storage.path={home / 'data'}",
            f"--web.listen-address={self.address}",
            f"--cluster.listen-address={cluster_address}",
            *(f"--cluster.peer={peer}" for peer in peers),
        ]
        port = int(self.address.rpartition(":")[2])
        super().__init__(Process(arguments, folder / f"{name}.log", outlive_us=outlive_us), port)

    def alerts(self) -> list[dict[str, Any]]:
        return list(self.get("/api/v2/alerts"))


def rules_with(thresholds: Mapping[str, str], file: Path) -> str:
    """
    Return the rules with the thresholds of these alerts and recording rules replaced.

    A number replaces the first one after `>` in the expression, wherever that stands; a duration (`2s`) the rule's
    `for` and `keep_firing_for`. Another duration after a slash (`2s/5s`, `/5s` alone) replaces the ranges and offsets
    of the expression. With any threshold no group is evaluated only once a minute.
    """
    rules = yaml.safe_load(file.read_text("utf-8"))
    remaining = dict(thresholds)
    for group in rules["groups"]:
        if thresholds and group.get("interval") == "1m":
            del group["interval"]
        for rule in group["rules"]:
            value, _, ranges = remaining.pop(rule.get("alert", rule.get("record")), "").partition("/")
            if value and value[-1].isalpha():
                assert ranges or "for" in rule or "keep_firing_for" in rule, rule
                rule |= {key: value for key in ("for", "keep_firing_for") if key in rule}
            elif value:
                first = re.search(r"> \d+", rule["expr"])
                assert first is not None, rule
                rule["expr"] = rule["expr"].replace(first[0], f"> {value}")
            if ranges:
                rule["expr"] = re.sub(r"(\[|offset )\d+[mh]\b", rf"\g<1>{ranges}", rule["expr"])
    assert not remaining, f"no such rules: {remaining}"
    return yaml.safe_dump(rules, width=10_000)


def _with_addresses(file: Path, addresses: Mapping[str, str]) -> str:
    text = file.read_text("utf-8")
    for shipped, local in addresses.items():
        text = text.replace(shipped, local)
    return text
