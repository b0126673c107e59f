"""A healer, a Prometheus and an Alertmanager that answer as told: for faults that real ones cannot be made to have."""

import json
import time
from pathlib import Path
from typing import Any

import responses
import yaml

from healer.doctor.checks import alertmanager, prometheus
from healer.doctor.checks import healer as receiver
from healer.doctor.checks.shipped_rules import rules
from healer.doctor.http import Client
from healer.doctor.result import CheckStatus, Finding
from pgslot import __version__
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerConfig, HealerSettings, Node
from tests.support.paths import ROOT

ALERTS = ROOT / "alerts"
HEALER, PROMETHEUS, ALERTMANAGER = "http://healer:9878", "http://prometheus:9090", "http://alertmanager:9093"
TOKEN = "right-token"
NOWHERE = Conninfo("host=nowhere password=s3cr3t")
TARGET = HealerConfig(NOWHERE, enabled=True, dry_run=False)
STARTED = 1000.0


class World:
    """What the three servers answer; everything is well until it is changed."""

    def __init__(self, token_file: Path) -> None:
        token_file.write_text(TOKEN)
        nodes = (Node("c", "n1", NOWHERE), Node("c", "n2", NOWHERE))
        self.config = Config((Cluster("c", nodes, TARGET),), HealerSettings(webhook_token_file=token_file))
        self.healer_url = HEALER
        self.ready = (200, "ready")
        self.token: str | None = TOKEN
        self.metrics = {
            f'pgslot_build_info{{version="{__version__}"}}': 1.0,
            "process_start_time_seconds": STARTED,
            "pgslot_config_last_reload_successful": 1.0,
            'pgslot_heal_webhooks_total{code="200"}': 7.0,
            'pgslot_heal_episode_active{cluster="c",remedy="log_standby_snapshot"}': 0.0,
            'pgslot_heal_alerts_total{action="ignored_test"}': 0.0,
            "pgslot_heal_last_webhook_timestamp_seconds": time.time(),
        }
        self.targets = [
            {"labels": {"job": job}, "scrapeUrl": f"http://{job}/metrics", "health": "up", "lastError": ""}
            | {"scrapeInterval": "15s"}
            for job in ("pgslot-exporter", "pgslot-healer")
        ]
        self.up = [{"metric": {"cluster": "c", "node": node}, "value": [0, "1"]} for node in ("n1", "n2")]
        self.rules: list[dict[str, Any]] = [
            {
                "name": rule.name,
                "query": " ".join(rule.expression.split()),
                "labels": dict(rule.labels),
                "health": "ok",
            }
            for rule in rules()
        ]
        self.formatted: dict[str, str] = {}
        self.alertmanagers = [{"url": f"{ALERTMANAGER}/api/v2/alerts"}]
        self.alerts: list[dict[str, Any]] = []
        self.external_labels: dict[str, str] = {}
        self.routing = yaml.safe_load((ALERTS / "alertmanager.yml").read_text("utf-8"))
        self.silences: list[dict[str, Any]] = []
        self.firing: list[tuple[str, list[str]]] = []
        """Alerts that Alertmanager lists beside those of --test-alert: the name, and which silences it is under."""
        self.loaded_at: float | None = STARTED
        """When Alertmanager loaded its configuration; None: it does not answer /metrics."""
        self.tests: list[dict[str, Any]] = []
        """What was sent to Alertmanager in answer to --test-alert."""
        self.test_arrives_by: set[str] = set()
        self.held: dict[str, list[str]] = {}
        """What Alertmanager says in the status of a test alert: silencedBy and the like."""
        self.broken: dict[str, str | int | Exception] = {}
        self.elsewhere: dict[str, str | Exception] = {}

    @property
    def heal_route(self) -> dict[str, Any]:
        found: dict[str, Any] = self.routing["route"]["routes"][0]
        return found

    @property
    def webhook(self) -> dict[str, Any]:
        found: dict[str, Any] = self.routing["receivers"][0]["webhook_configs"][0]
        return found

    def rule(self, name: str) -> dict[str, Any]:
        return next(rule for rule in self.rules if rule["name"] == name)

    def answer(self, mock: responses.RequestsMock) -> None:
        """Put all answers in place."""

        def good(data: Any) -> dict[str, Any]:
            return {"status": "success", "data": data}

        config = yaml.safe_dump({"global": {"external_labels": self.external_labels}})
        answers = {
            f"{PROMETHEUS}/api/v1/targets": good({"activeTargets": self.targets}),
            f"{PROMETHEUS}/api/v1/query": good({"result": self.up}),
            f"{PROMETHEUS}/api/v1/rules": good({"groups": [{"interval": 2, "rules": self.rules}]}),
            f"{PROMETHEUS}/api/v1/alertmanagers": good({"activeAlertmanagers": self.alertmanagers}),
            f"{PROMETHEUS}/api/v1/alerts": good({"alerts": self.alerts}),
            f"{PROMETHEUS}/api/v1/status/config": good({"yaml": config}),
            f"{ALERTMANAGER}/api/v2/status": {
                "versionInfo": {"version": "0.25.0"},
                "cluster": {"status": "ready"},
                "config": {"original": yaml.safe_dump(self.routing)},
            },
            f"{ALERTMANAGER}/api/v2/silences": self.silences,
        }
        for url, data in answers.items():
            fault = self.broken.get(url)
            if isinstance(fault, int):
                mock.get(url, status=fault, body="broken")
            else:
                mock.get(url, body=fault if fault is not None else json.dumps(data))
        mock.add_callback(responses.GET, f"{PROMETHEUS}/api/v1/format_query", self._format)
        loaded = f"alertmanager_config_last_reload_success_timestamp_seconds {self.loaded_at}\n"
        mock.get(f"{ALERTMANAGER}/metrics", body=loaded, status=404 if self.loaded_at is None else 200)
        mock.add_callback(responses.POST, f"{ALERTMANAGER}/api/v2/alerts", self._test_alerts)
        mock.add_callback(responses.GET, f"{ALERTMANAGER}/api/v2/alerts", self._held)
        status, text = self.ready
        mock.get(f"{HEALER}/-/ready", status=status, body=self.broken.get(HEALER, text))
        mock.add_callback(responses.GET, f"{HEALER}/metrics", self._exposed)
        mock.add_callback(responses.POST, f"{HEALER}/alerts", self._webhook)
        for base, body in self.elsewhere.items():
            mock.get(f"{base}/metrics", body=body)

    def _exposed(self, _request: Any) -> tuple[int, dict[str, str], str]:
        return 200, {}, "".join(f"{series} {value}\n" for series, value in self.metrics.items())

    def _test_alerts(self, request: Any) -> tuple[int, dict[str, str], str]:
        fault = self.broken.get("test alert")
        if fault is not None:
            return 400, {}, str(fault)
        self.tests += json.loads(request.body)
        for name in self.test_arrives_by:
            self.metrics[f'pgslot_heal_receiver_last_test_timestamp_seconds{{receiver="{name}"}}'] = time.time()
        return 200, {}, ""

    def _held(self, _request: Any) -> tuple[int, dict[str, str], str]:
        tests = [{"labels": alert["labels"], "status": self.held} for alert in self.tests]
        firing = [{"labels": {"alertname": name}, "status": {"silencedBy": by}} for name, by in self.firing]
        return 200, {}, json.dumps([*tests, *firing])

    def _format(self, request: Any) -> tuple[int, dict[str, str], str]:
        if not self.formatted:
            return 404, {}, "not found"
        query = " ".join(request.params["query"].split())
        return 200, {}, json.dumps({"status": "success", "data": self.formatted.get(query, query)})

    def _webhook(self, request: Any) -> tuple[int, dict[str, str], str]:
        assert json.loads(request.body) == {"version": "4", "alerts": []}
        given = request.headers.get("Authorization")
        if self.token is not None and given != f"Bearer {self.token}":
            return 401, {}, "expected the token"
        fault = self.broken.get(f"{HEALER}/alerts", 200)
        assert isinstance(fault, int)
        return fault, {}, "text of the answer"

    def examine(self, *, test_alert: bool = False) -> list[Finding]:
        """Examine all three, as the command does after the servers."""
        with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
            self.answer(mock)
            client = Client(self.healer_url)
            findings, metrics = receiver.check_healer(client, self.config)
            there = Client(PROMETHEUS)
            findings += prometheus.check_prometheus(there, self.config)
            labels = prometheus.external_labels(there)
            there = Client(ALERTMANAGER)
            return findings + alertmanager.check_alertmanager(
                there, self.config, labels, client, metrics, test_alert=test_alert
            )


def notable(findings: list[Finding]) -> list[tuple[str, str, str, str]]:
    """Return all but the good findings: check, subject, status, found."""
    return [
        (finding.check, finding.subject, f"{finding.status}", finding.found)
        for finding in findings
        if finding.status is not CheckStatus.OK
    ]
