"""A healer, a Prometheus and an Alertmanager with canned answers, for faults that real ones cannot be given."""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import requests
import responses
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from healer.doctor.checks.alertmanager import check_alertmanager
from healer.doctor.checks.healer import check_healer
from healer.doctor.checks.prometheus import check_prometheus, fetch_external_labels
from healer.doctor.checks.shipped_rules import rules
from healer.doctor.http import Client
from healer.doctor.result import CheckStatus, Finding
from healer.metrics import HealerMetrics
from healer.remedies.registry import REMEDIES
from pgslot import __version__
from pgslot.alerting_rules import SHIPPED_BASE
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerConfig, HealerSettings, Node
from pgslot.httpclient import HttpError, Response
from tests.support.paths import ROOT

ALERTS = ROOT / "alerts"
HEALER, PROMETHEUS, ALERTMANAGER = "http://healer:9878", "http://prometheus:9090", "http://alertmanager:9093"
TOKEN = "right-token"
NOWHERE = Conninfo("host=nowhere password=s3cr3t")
TARGET = HealerConfig(NOWHERE, enabled=True, dry_run=False)
STARTED = 1000.0
RUNBOOKS = "https://pgslot.example.com/runbooks"


class CannedClient(Client):
    """The doctor's client, with answers from `responses`; an answer that is an exception fails the request."""

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None,
        body: str | bytes | None,
        allow_redirects: bool,
    ) -> Response:
        with requests.Session() as session:
            session.trust_env = False
            try:
                answer = session.request(
                    method,
                    f"{self.base_url}{path}",
                    headers=dict(headers),
                    params=dict(params or {}),
                    data=body,
                    allow_redirects=allow_redirects,
                )
            except requests.ConnectTimeout as error:
                raise HttpError("no connection") from aiohttp.ConnectionTimeoutError(error)
            except requests.ConnectionError as error:
                raise HttpError("no connection") from error.args[0]
        return Response(path, answer.status_code, answer.headers, answer.content)


def settings_samples(config: Config) -> tuple[Sample, ...]:
    """Return the healer's samples of the settings that it applies."""
    registry = CollectorRegistry()
    metrics = HealerMetrics(registry)
    for cluster in config.clusters:
        for remedy in REMEDIES.values():
            target = remedy.target(cluster)
            if target is not None:
                metrics.set_in_force(cluster.name, remedy, target)
    samples = (sample for family in registry.collect() for sample in family.samples)
    return tuple(sample for sample in samples if sample.name == "pgslot_heal_remedy_info")


def settings_series(config: Config) -> dict[str, float]:
    """Return the same as series in Prometheus' text format."""
    return {
        f"{sample.name}{{{','.join(f'{name}={json.dumps(value)}' for name, value in sample.labels.items())}}}": 1.0
        for sample in settings_samples(config)
    }


class FakeMonitoring:
    """The answers of the three servers, which are free of faults until a test changes them."""

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
        self.running: Config | None = None
        """The configuration that the healer runs with; None: the doctor's."""
        self.targets = [
            {"labels": {"job": job}, "scrapeUrl": f"http://{job}/metrics", "health": "up", "lastError": ""}
            | {"scrapeInterval": "15s"}
            for job in ("pgslot-exporter", "pgslot-healer")
        ]
        self.up: list[dict[str, Any]] = [
            {"metric": {"cluster": "c", "node": node}, "value": [0, "1"]} for node in ("n1", "n2")
        ]
        self.rules: list[dict[str, Any]] = [
            {
                "name": rule.name,
                "query": " ".join(rule.expression.split()),
                "labels": dict(rule.labels),
                "annotations": {name: value.replace(SHIPPED_BASE, RUNBOOKS) for name, value in rule.annotations},
                "duration": rule.hold_seconds,
                "keepFiringFor": rule.keep_firing_seconds,
                "health": "ok",
            }
            for rule in rules()
        ]
        self.intervals = {rule.group: rule.interval_seconds or 15.0 for rule in rules()}
        """Of each group of the rules, in seconds."""
        self.prometheus_started = "2026-11-30T07:37:21.123456789Z"
        self.formatted: dict[str, str] = {}
        self.alertmanagers = [{"url": f"{ALERTMANAGER}/api/v2/alerts"}]
        self.alerts: list[dict[str, Any]] = []
        self.external_labels: dict[str, str] = {}
        self.routing = yaml.safe_load((ALERTS / "alertmanager.yml").read_text("utf-8"))
        self.receiver("people")["email_configs"] = [{"to": "dba@example.com"}]
        self.silences: list[dict[str, Any]] = []
        self.alertmanager_counters: dict[str, float] = {}
        """Alertmanager's counters of webhooks, by name."""
        self.test_is_refused = False
        self.always_firing: dict[str, str] = {}
        """Labels of an alert that has fired since 2020."""
        self.firing: list[tuple[str, list[str]]] = []
        """Alerts that Alertmanager lists besides those of --test-alert: the name, and its silences."""
        self.loaded_at: float | None = STARTED
        """When Alertmanager loaded its configuration; None: it does not answer /metrics."""
        self.tests: list[dict[str, Any]] = []
        """Alerts that --test-alert posted to Alertmanager."""
        self.test_arrives_by: set[str] = set()
        self.held: dict[str, list[str]] = {}
        """Alertmanager's status of a test alert: silencedBy and the like."""
        self.broken: dict[str, str | int | Exception] = {}
        self.elsewhere: dict[str, str | Exception] = {}

    @property
    def heal_route(self) -> dict[str, Any]:
        route: dict[str, Any] = self.routing["route"]["routes"][0]
        return route

    @property
    def webhook(self) -> dict[str, Any]:
        webhook: dict[str, Any] = self.routing["receivers"][0]["webhook_configs"][0]
        return webhook

    def _groups(self) -> list[dict[str, Any]]:
        groups = {rule.name: rule.group for rule in rules()}
        return [
            {"interval": interval, "rules": [rule for rule in self.rules if groups[rule["name"]] == group]}
            for group, interval in self.intervals.items()
        ]

    def receiver(self, name: str) -> dict[str, Any]:
        return next(receiver for receiver in self.routing["receivers"] if receiver["name"] == name)

    def rule(self, name: str) -> dict[str, Any]:
        return next(rule for rule in self.rules if rule["name"] == name)

    def answer(self, mock: responses.RequestsMock) -> None:
        """Register all answers."""

        def success(data: Any) -> dict[str, Any]:
            return {"status": "success", "data": data}

        config = yaml.safe_dump({"global": {"external_labels": self.external_labels}})
        answers = {
            f"{PROMETHEUS}/api/v1/targets": success({"activeTargets": self.targets}),
            f"{PROMETHEUS}/api/v1/query": success({"result": self.up}),
            f"{PROMETHEUS}/api/v1/rules": success({"groups": self._groups()}),
            f"{PROMETHEUS}/api/v1/alertmanagers": success({"activeAlertmanagers": self.alertmanagers}),
            f"{PROMETHEUS}/api/v1/alerts": success({"alerts": self.alerts}),
            f"{PROMETHEUS}/api/v1/status/runtimeinfo": success({"startTime": self.prometheus_started}),
            f"{PROMETHEUS}/api/v1/status/config": success({"yaml": config}),
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
        mock.add_callback(responses.GET, f"{PROMETHEUS}/api/v1/format_query", self._format_query)
        loaded = f"alertmanager_config_last_reload_success_timestamp_seconds {self.loaded_at}\n" + "".join(
            f'{name}{{integration="webhook"}} {value}\n' for name, value in self.alertmanager_counters.items()
        )
        mock.get(f"{ALERTMANAGER}/metrics", body=loaded, status=404 if self.loaded_at is None else 200)
        mock.add_callback(responses.POST, f"{ALERTMANAGER}/api/v2/alerts", self._post_alerts)
        mock.add_callback(responses.GET, f"{ALERTMANAGER}/api/v2/alerts", self._list_alerts)
        status, text = self.ready
        mock.get(f"{HEALER}/-/ready", status=status, body=self.broken.get(HEALER, text))
        mock.add_callback(responses.GET, f"{HEALER}/metrics", self._metrics)
        mock.add_callback(responses.POST, f"{HEALER}/alerts", self._webhook)
        for base, body in self.elsewhere.items():
            mock.get(f"{base}/metrics", body=body)

    def _metrics(self, _request: Any) -> tuple[int, dict[str, str], str]:
        series = self.metrics | settings_series(self.running or self.config)
        return 200, {}, "".join(f"{name} {value}\n" for name, value in series.items())

    def _post_alerts(self, request: Any) -> tuple[int, dict[str, str], str]:
        fault = self.broken.get("test alert")
        if fault is not None:
            return 400, {}, str(fault)
        self.tests += json.loads(request.body)
        if self.test_is_refused:
            self.metrics['pgslot_heal_webhooks_total{code="401"}'] = 3.0
        for name in self.test_arrives_by:
            self.metrics[f'pgslot_heal_receiver_last_test_timestamp_seconds{{receiver="{name}"}}'] = time.time()
        return 200, {}, ""

    def _list_alerts(self, _request: Any) -> tuple[int, dict[str, str], str]:
        if f"{ALERTMANAGER}/api/v2/alerts" in self.broken:
            return 500, {}, "broken"
        tests = [{"labels": alert["labels"], "status": self.held} for alert in self.tests]
        firing: list[dict[str, Any]] = [
            {"labels": {"alertname": name}, "status": {"silencedBy": by}} for name, by in self.firing
        ]
        if self.always_firing:
            firing.append(
                {"labels": self.always_firing, "startsAt": "2020-01-01T00:00:00.000Z", "status": {"silencedBy": []}}
            )
        return 200, {}, json.dumps([*tests, *firing])

    def _format_query(self, request: Any) -> tuple[int, dict[str, str], str]:
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
        """Run the checks of healer, Prometheus and Alertmanager, as the command does after the PostgreSQL servers."""
        with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
            self.answer(mock)
            return asyncio.run(self._examine(test_alert=test_alert))

    async def _examine(self, *, test_alert: bool) -> list[Finding]:
        async with (
            CannedClient(self.healer_url) as healer,
            CannedClient(PROMETHEUS) as prometheus,
            CannedClient(ALERTMANAGER) as alertmanager,
        ):
            findings, metrics = await check_healer(healer, self.config)
            findings += await check_prometheus(prometheus, self.config)
            labels = await fetch_external_labels(prometheus)
            findings += await check_alertmanager(
                alertmanager, self.config, labels, healer, metrics, test_alert=test_alert, connect=CannedClient
            )
        return findings


def notable(findings: list[Finding]) -> list[tuple[str, str, str, str]]:
    """Return check, subject, status and text of all findings that are not ok."""
    return [
        (finding.check, finding.subject, f"{finding.status}", finding.found)
        for finding in findings
        if finding.status is not CheckStatus.OK
    ]
