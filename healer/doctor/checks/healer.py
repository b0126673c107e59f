"""The healer itself: running with this configuration, and taking webhooks from whom it should and from nobody else."""

import json
import time
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from healer.doctor.http import Answer, Client, NoAnswerError
from healer.doctor.result import CheckStatus, Finding
from pgslot import __version__
from pgslot.cli.errors import ConfigError
from pgslot.cli.flags import is_loopback
from pgslot.config.model import Config
from pgslot.config.secrets import read_token

EMPTY_WEBHOOK = json.dumps({"version": "4", "alerts": []})

MAX_WEBHOOK_AGE = 900.0
"""Seconds without a webhook; PgSlotWatchdog makes Alertmanager send one every five minutes."""


@dataclass(frozen=True, slots=True)
class HealerSamples:
    """What /metrics of a healer says."""

    samples: tuple[Sample, ...]

    def value(self, name: str) -> float | None:
        """Return the value of the first series of this name; None when it is absent."""
        return next((sample.value for sample in self.samples if sample.name == name), None)

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values of this label in the series of this name."""
        return {sample.labels[label] for sample in self.samples if sample.name == name and label in sample.labels}

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """Return the values of the series of this name by what this label of theirs says."""
        return {
            sample.labels[label]: sample.value
            for sample in self.samples
            if sample.name == name and label in sample.labels
        }

    @property
    def process(self) -> float | None:
        """When the process started: two URLs that show the same lead to the same healer."""
        return self.value("process_start_time_seconds")


class OtherProgramError(NoAnswerError):
    """Something answers, and it is no healer."""


def read_metrics(client: Client) -> HealerSamples:
    """Return what the healer at this URL says of itself. Raises NoAnswerError, OtherProgramError among them."""
    answer = client.get("/metrics")
    if answer.status != 200:
        raise NoAnswerError(f"/metrics: expected status 200, found {answer.status}")
    try:
        families = list(text_string_to_metric_families(answer.text))
    except ValueError:
        raise OtherProgramError("/metrics: expected a healer's metrics, found no metrics") from None
    metrics = HealerSamples(tuple(sample for family in families for sample in family.samples))
    if metrics.value("pgslot_heal_webhooks_total") is None:
        raise OtherProgramError("/metrics: expected a healer's metrics, found those of another program")
    return metrics


def check_healer(client: Client, config: Config) -> tuple[list[Finding], HealerSamples | None]:
    """Examine the healer; its metrics are None when there is none."""
    shown = client.shown
    try:
        ready = client.get("/-/ready")
        metrics = read_metrics(client)
    except NoAnswerError as error:
        remedy = "Start it, or say where it is: --healer.url (its --web.listen-address, as seen from here)."
        skipped = [
            Finding(check, shown, CheckStatus.SKIPPED, "the healer did not answer")
            for check in ("clusters", "webhooks")
        ]
        return [Finding("healer", shown, CheckStatus.FAILED, str(error), remedy), *skipped], None
    findings = [_judge_process(shown, ready.status, ready.text, metrics), _judge_clusters(shown, config, metrics)]
    findings += [_try_webhooks(client, config), _judge_arrivals(shown, metrics, time.time())]
    return findings, metrics


def _judge_process(shown: str, status: int, text: str, metrics: HealerSamples) -> Finding:
    version = ", ".join(metrics.labels("pgslot_build_info", "version"))
    if status != 200:
        return Finding("healer", shown, CheckStatus.FAILED, f"not ready: {text.strip()}", "See its log.")
    if metrics.value("pgslot_config_last_reload_successful") == 0:
        remedy = "It runs with its previous configuration: see its log for the error, and reload it."
        return Finding("healer", shown, CheckStatus.FAILED, "the last reload of its configuration failed", remedy)
    if version != __version__:
        remedy = "Restart it, or run the doctor of its own installation."
        found = f"version {version}, and this doctor is of {__version__}"
        return Finding("healer", shown, CheckStatus.WARNING, found, remedy)
    return Finding("healer", shown, CheckStatus.OK, f"ready, version {version}")


def _judge_clusters(shown: str, config: Config, metrics: HealerSamples) -> Finding:
    wanted = {cluster.name for cluster in config.clusters if cluster.healer is not None}
    known = metrics.labels("pgslot_heal_episode_active", "cluster")
    if missing := wanted - known:
        found = f"does not know {', '.join(sorted(missing))}"
        remedy = "It runs with another configuration than this one, or an older state of it: reload it (SIGHUP)."
        return Finding("clusters", shown, CheckStatus.FAILED, found, remedy)
    return Finding("clusters", shown, CheckStatus.OK, ", ".join(sorted(wanted)) or "none with a healer section")


@dataclass(frozen=True, slots=True)
class WebhookAttempts:
    """How empty webhooks were answered."""

    stranger: int
    """The status without any credentials."""
    known: Answer | None
    """With the token, or the user of the URL; None: there is neither."""
    token: bool
    """The configuration has one."""
    local: bool
    """The healer was asked at a loopback address."""


def _try_webhooks(client: Client, config: Config) -> Finding:
    file = config.healer.webhook_token_file
    try:
        token = read_token(file) if file is not None else None
        stranger = client.post("/alerts", EMPTY_WEBHOOK, token=None).status
        known = None
        if token is not None:
            known = client.post("/alerts", EMPTY_WEBHOOK, token=token)
        elif client.has_user:
            known = client.post_as_user("/alerts", EMPTY_WEBHOOK)
    except ConfigError:
        found = "the webhook token cannot be read, see configuration"
        return Finding("webhooks", client.shown, CheckStatus.SKIPPED, found)
    except NoAnswerError as error:
        return Finding("webhooks", client.shown, CheckStatus.FAILED, f"/alerts: {error}", "See the healer's log.")
    tried = WebhookAttempts(stranger, known, token=token is not None, local=is_loopback(client.host))
    return judge_webhooks(client.shown, tried)


def judge_webhooks(shown: str, tried: WebhookAttempts) -> Finding:
    """Say whether webhooks are taken from whom they should be, and from nobody else."""
    known = tried.known
    if known is not None and known.status == 401:
        remedy = "The healer has another token (or other users) than this configuration and URL: compare the files."
        found = "refused with 401, with the token" if tried.token else "refused with 401, with the user of the URL"
        return Finding("webhooks", shown, CheckStatus.FAILED, found, remedy)
    if known is not None and known.status != 200:
        found = f"refused with {known.status}: {known.text.strip()[:200]}"
        return Finding("webhooks", shown, CheckStatus.FAILED, found, "See the healer's log.")
    if tried.stranger == 200:
        return _judge_open(shown, tried)
    if tried.stranger != 401:
        found = f"/alerts: expected status 200 or 401, found {tried.stranger}"
        return Finding("webhooks", shown, CheckStatus.FAILED, found, "See the healer's log.")
    if known is None:
        found = "refused without a user, as it should be; not tried with one"
        remedy = "To try it, put user and password into --healer.url or ~/.netrc."
        return Finding("webhooks", shown, CheckStatus.SKIPPED, found, remedy)
    what = "the token" if tried.token else "the user of the URL"
    return Finding("webhooks", shown, CheckStatus.OK, f"taken with {what}, refused with 401 without")


def _judge_open(shown: str, tried: WebhookAttempts) -> Finding:
    if tried.token:
        remedy = "It runs without webhook_token_file: reload it (SIGHUP), or restart it, with this configuration."
        return Finding("webhooks", shown, CheckStatus.FAILED, "taken without the token", remedy)
    if not tried.local:
        remedy = "Set healer.webhook_token_file, unless something else keeps strangers away."
        return Finding("webhooks", shown, CheckStatus.WARNING, "taken from anybody who reaches it: no token", remedy)
    return Finding("webhooks", shown, CheckStatus.OK, "taken without a token, on loopback")


def _judge_arrivals(shown: str, metrics: HealerSamples, now: float) -> Finding:
    last = metrics.value("pgslot_heal_last_webhook_timestamp_seconds")
    if last is None:
        return Finding("arrivals", shown, CheckStatus.SKIPPED, "this healer does not say when the last webhook came")
    age = now - last
    started = metrics.process
    if started is not None and last - started < 5 and age < MAX_WEBHOOK_AGE:
        return Finding("arrivals", shown, CheckStatus.SKIPPED, "started less than 15 minutes ago, no webhook since")
    if age < MAX_WEBHOOK_AGE:
        return Finding("arrivals", shown, CheckStatus.OK, f"the last webhook came {age:.0f} s ago")
    remedy = (
        "PgSlotWatchdog makes Alertmanager send one every 5 minutes: see which of its links below, or above, fails."
    )
    return Finding("arrivals", shown, CheckStatus.WARNING, f"no webhook for {age / 60:.0f} minutes", remedy)
