"""The healer itself: it runs with this configuration, and accepts webhooks from those that should send them only."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from healer.doctor.http import Client, describe
from healer.doctor.result import CheckStatus, Finding
from healer.metrics import SETTINGS_IN_FORCE, settings_in_force
from healer.remedies.registry import REMEDIES
from pgslot import __version__
from pgslot.cli.errors import ConfigError
from pgslot.cli.flags import is_loopback
from pgslot.config.model import Config
from pgslot.config.secrets import webhook_token
from pgslot.httpclient import HttpClient, HttpError, Response

EMPTY_WEBHOOK = json.dumps({"version": "4", "alerts": []})

MAX_WEBHOOK_AGE = 900.0
"""Seconds without a webhook; PgSlotWatchdog makes Alertmanager send one every five minutes."""


@dataclass(frozen=True, slots=True)
class HealerSamples:
    """The samples of a healer's /metrics."""

    samples: tuple[Sample, ...]

    def value(self, name: str) -> float | None:
        """Return the value of the first series of this name; None when it is absent."""
        return next((sample.value for sample in self.samples if sample.name == name), None)

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values of this label in the series of this name."""
        return {sample.labels[label] for sample in self.samples if sample.name == name and label in sample.labels}

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """Return the values of the series of this name, keyed by this label's value."""
        return {
            sample.labels[label]: sample.value
            for sample in self.samples
            if sample.name == name and label in sample.labels
        }

    @property
    def process(self) -> float | None:
        """The process's start, as Unix time: two URLs that show the same lead to the same healer."""
        return self.value("process_start_time_seconds")


class OtherProgramError(HttpError):
    """A program answers that is not a healer."""


async def fetch_metrics(client: HttpClient) -> HealerSamples:
    """Return the metrics of the healer at this URL. Raises HttpError, OtherProgramError among them."""
    answer = await client.request("GET", "/metrics")
    if answer.status != 200:
        raise HttpError(f"/metrics: expected status 200, found {answer.status}")
    try:
        families = list(text_string_to_metric_families(answer.text))
    except ValueError:
        raise OtherProgramError("/metrics: expected a healer's metrics, found no metrics") from None
    metrics = HealerSamples(tuple(sample for family in families for sample in family.samples))
    if metrics.value("pgslot_heal_webhooks_total") is None:
        raise OtherProgramError("/metrics: expected a healer's metrics, found those of another program")
    return metrics


async def check_healer(client: Client, config: Config) -> tuple[list[Finding], HealerSamples | None]:
    """Check the healer; return also its metrics, None when it does not answer."""
    shown = client.shown
    try:
        ready = await client.request("GET", "/-/ready")
        metrics = await fetch_metrics(client)
    except HttpError as error:
        advice = "Start the healer, or give its address: --healer.url (its --web.listen-address, as seen from here)."
        skipped = [
            Finding(check, shown, CheckStatus.SKIPPED, "the healer did not answer")
            for check in ("clusters", "in force", "webhooks")
        ]
        return [Finding("healer", shown, CheckStatus.FAILED, describe(error), advice), *skipped], None
    findings = [_judge_process(shown, ready.status, ready.text, metrics), _judge_clusters(shown, config, metrics)]
    findings += judge_in_force(shown, config, metrics)
    findings += [await _try_webhooks(client, config), _judge_arrivals(shown, metrics, time.time())]
    return findings, metrics


def _judge_process(shown: str, status: int, text: str, metrics: HealerSamples) -> Finding:
    version = ", ".join(metrics.labels("pgslot_build_info", "version"))
    if status != 200:
        return Finding("healer", shown, CheckStatus.FAILED, f"not ready: {text.strip()}", "See its log.")
    if metrics.value("pgslot_config_last_reload_successful") == 0:
        advice = "It still uses its previous configuration: read the error in its log, correct the file, and reload it."
        return Finding("healer", shown, CheckStatus.FAILED, "the last reload of its configuration failed", advice)
    if version != __version__:
        advice = "Restart the healer, or run doctor from the healer's own installation."
        found = f"version {version}, but this doctor has version {__version__}"
        return Finding("healer", shown, CheckStatus.WARNING, found, advice)
    return Finding("healer", shown, CheckStatus.OK, f"ready, version {version}")


def _judge_clusters(shown: str, config: Config, metrics: HealerSamples) -> Finding:
    wanted = {cluster.name for cluster in config.clusters if cluster.healer is not None}
    healed = metrics.labels("pgslot_heal_episode_active", "cluster")
    if missing := wanted - healed:
        found = f"does not know {', '.join(sorted(missing))}"
        advice = "It uses another configuration file, or an older version of this file: reload it (SIGHUP)."
        return Finding("clusters", shown, CheckStatus.FAILED, found, advice)
    return Finding("clusters", shown, CheckStatus.OK, ", ".join(sorted(wanted)) or "none with a healer section")


def judge_in_force(shown: str, config: Config, metrics: HealerSamples) -> Iterator[Finding]:
    """Report where the running healer applies other settings than this file has; each finding names both."""
    running = {
        (sample.labels["cluster"], sample.labels["remedy"]): tuple(sample.labels[name] for name in SETTINGS_IN_FORCE)
        for sample in metrics.samples
        if sample.name == "pgslot_heal_remedy_info"
    }
    if not running and any(cluster.healer is not None for cluster in config.clusters):
        found = "this healer does not show its settings: its version is older, or it has no cluster"
        yield Finding("in force", shown, CheckStatus.SKIPPED, found)
        return
    in_file = {
        (cluster.name, remedy.name): settings_in_force(remedy, target)
        for cluster in config.clusters
        for remedy in REMEDIES.values()
        if (target := remedy.target(cluster)) is not None
    }
    differing = sorted(key for key in running.keys() | in_file.keys() if running.get(key) != in_file.get(key))
    for key in differing:
        here, there = (_describe_settings(settings.get(key)) for settings in (in_file, running))
        found = f"the running healer has {there}; this file has {here}"
        advice = "The running settings count. Reload the healer (SIGHUP), or run doctor with the healer's own file."
        yield Finding("in force", ", ".join(key), CheckStatus.WARNING, found, advice)
    if not differing:
        shown_settings = "; ".join(
            f"{cluster}, {remedy}: {_describe_settings(values)}" for (cluster, remedy), values in in_file.items()
        )
        yield Finding("in force", shown, CheckStatus.OK, f"as in this file: {shown_settings or 'nothing is healed'}")


def _describe_settings(values: tuple[str, ...] | None) -> str:
    if values is None:
        return "no such remedy"
    return ", ".join(f"{name}: {value}" for name, value in zip(SETTINGS_IN_FORCE, values, strict=True) if value)


@dataclass(frozen=True, slots=True)
class WebhookAttempts:
    """How the healer answered empty webhooks."""

    anonymous: int
    """The status without credentials."""
    authenticated: Response | None
    """The answer with the token, or else with user and password; None: there is neither."""
    token: bool
    """Whether the configuration has a token."""
    local: bool
    """Whether the healer's URL is a loopback address."""


async def _try_webhooks(client: Client, config: Config) -> Finding:
    try:
        token = webhook_token(config.healer)
        anonymous = await _post_webhook(client, anonymous=True)
        authenticated = None
        if token is not None or client.has_credentials:
            authenticated = await _post_webhook(client, token=token)
    except ConfigError:
        found = "the webhook token cannot be read, see configuration"
        return Finding("webhooks", client.shown, CheckStatus.SKIPPED, found)
    except HttpError as error:
        return Finding(
            "webhooks", client.shown, CheckStatus.FAILED, f"/alerts: {describe(error)}", "See the healer's log."
        )
    local = is_loopback(client.host)
    attempts = WebhookAttempts(anonymous.status, authenticated, token=token is not None, local=local)
    return judge_authentication(client.shown, attempts)


async def _post_webhook(client: Client, *, token: str | None = None, anonymous: bool = False) -> Response:
    """Post an empty webhook, with a token or user and password if not anonymous. Raises HttpError."""
    # A redirect would turn it into a GET.
    return await client.request(
        "POST", "/alerts", body=EMPTY_WEBHOOK, token=token, anonymous=anonymous, allow_redirects=False
    )


def judge_authentication(shown: str, attempts: WebhookAttempts) -> Finding:
    """Report whether webhooks are accepted with credentials, and only with them."""
    answer = attempts.authenticated
    if answer is not None and answer.status == 401:
        advice = "The healer's token (or users) differs from this configuration or URL: compare the files."
        sent = "the token" if attempts.token else "the user of the URL"
        found = f"refused with 401, although {sent} was sent"
        return Finding("webhooks", shown, CheckStatus.FAILED, found, advice)
    if answer is not None and answer.status != 200:
        found = f"refused with {answer.status}: {answer.text.strip()[:200]}"
        return Finding("webhooks", shown, CheckStatus.FAILED, found, "See the healer's log.")
    if attempts.anonymous == 200:
        return _judge_open(shown, attempts)
    if attempts.anonymous != 401:
        found = f"/alerts: expected status 200 or 401, found {attempts.anonymous}"
        return Finding("webhooks", shown, CheckStatus.FAILED, found, "See the healer's log.")
    if answer is None:
        found = "refused without a user, as it should be; not tried with a user"
        advice = "To try it, put user and password into --healer.url or ~/.netrc."
        return Finding("webhooks", shown, CheckStatus.SKIPPED, found, advice)
    credentials = "the token" if attempts.token else "the user of the URL"
    return Finding("webhooks", shown, CheckStatus.OK, f"accepted with {credentials}, refused with 401 without")


def _judge_open(shown: str, attempts: WebhookAttempts) -> Finding:
    if attempts.token:
        advice = "It runs without webhook_token_file: reload it (SIGHUP), or restart it, with this configuration."
        return Finding("webhooks", shown, CheckStatus.FAILED, "accepted without the token", advice)
    if not attempts.local:
        advice = "Set healer.webhook_token_file, unless something else keeps other clients away."
        found = "accepted from any client that reaches it: no token"
        return Finding("webhooks", shown, CheckStatus.WARNING, found, advice)
    return Finding("webhooks", shown, CheckStatus.OK, "accepted without a token, on loopback")


def _judge_arrivals(shown: str, metrics: HealerSamples, now: float) -> Finding:
    last = metrics.value("pgslot_heal_last_webhook_timestamp_seconds")
    if last is None:
        return Finding("arrivals", shown, CheckStatus.SKIPPED, "this healer does not report when its last webhook came")
    age = now - last
    started = metrics.process
    if started is not None and last - started < 5 and age < MAX_WEBHOOK_AGE:
        return Finding("arrivals", shown, CheckStatus.SKIPPED, "started less than 15 minutes ago, no webhook since")
    if age < MAX_WEBHOOK_AGE:
        return Finding("arrivals", shown, CheckStatus.OK, f"the last webhook came {age:.0f} s ago")
    advice = (
        "PgSlotWatchdog makes Alertmanager send a webhook every 5 minutes: fix the checks that failed above and below."
    )
    return Finding("arrivals", shown, CheckStatus.WARNING, f"no webhook for {age / 60:.0f} minutes", advice)
