"""A receiver that is the healer's: does it lead to this one, and does it send as it should?"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from healer.doctor.checks.healer import HealerSamples, OtherProgramError, read_metrics
from healer.doctor.checks.receivers import Receiver, Webhook
from healer.doctor.http import Client, NoAnswerError
from healer.doctor.result import CheckStatus, Finding

SEE = "See alerts/alertmanager.yml."
PROOF = (
    "Ask again with --test-alert: it sends a marked alert the same way, which the healer notes, and nothing more."
    " A receiver that gets PgSlotWatchdog is proven by it, within 5 minutes."
)


def judge_address(receiver: Receiver, healer: Client, metrics: HealerSamples | None) -> Finding:
    """Does one of its webhooks lead to the healer that was examined? `metrics`: of that one, None when it is away."""
    subject = f"receiver {receiver.name}"
    if receiver.evidence.delivered:
        return Finding("leads to", subject, CheckStatus.OK, receiver.evidence.text)
    if not receiver.shown:
        found = f"Alertmanager hides the URL, and {receiver.evidence.text}"
        return Finding("leads to", subject, CheckStatus.UNKNOWN, found, PROOF)
    if metrics is None:
        return Finding(
            "leads to", subject, CheckStatus.SKIPPED, f"there is no healer at {healer.shown} to compare with"
        )
    others: list[str] = []
    unknown: list[str] = []
    for webhook in receiver.shown:
        url = urlsplit(str(webhook["url"]))
        there = Client(url._replace(path=url.path.removesuffix("/alerts"), query="").geturl())
        if there.shown == healer.shown:
            return Finding("leads to", subject, CheckStatus.OK, f"{there.shown}/alerts, this healer")
        try:
            process = read_metrics(there).process
        except OtherProgramError:
            others.append(f"{there.shown} (no healer)")
            continue
        except NoAnswerError as error:
            unknown.append(f"{there.shown} cannot be asked from here ({error})")
            continue
        if process is not None and process == metrics.process:
            return Finding("leads to", subject, CheckStatus.OK, f"{there.shown}/alerts, this healer by another name")
        others.append(there.shown)
    if unknown:
        found = f"{'; '.join(unknown)}, and {receiver.evidence.text}"
        return Finding("leads to", subject, CheckStatus.UNKNOWN, found, PROOF)
    remedy = "Put the URL right, or examine that healer: --healer.url."
    found = f"leads elsewhere than to {healer.shown}: {', '.join(others)}"
    return Finding("leads to", subject, CheckStatus.FAILED, found, remedy)


def judge_webhooks(receiver: Receiver, *, token: bool) -> Iterator[Finding]:
    """
    Say what is wrong with how the healer's receiver sends; `token`: the healer wants one.

    Of several webhooks whose URLs are hidden one is the healer's and the others are somebody else's: what holds for all
    of them holds for it.
    """
    # What has arrived has had the token, wherever that is set.
    token = token and not receiver.evidence.delivered
    faults = [list(_faults(f"receiver {receiver.name}", webhook, token=token)) for webhook in receiver.candidates]
    if receiver.shown:
        yield from (fault for each in faults for fault in each)
        return
    common = [fault for fault in faults[0] if all(fault in each for each in faults)]
    yield from common
    doubtful = dict.fromkeys(fault.found for each in faults for fault in each if fault not in common)
    if doubtful:
        found = f"{'; '.join(doubtful)}: of one of its {len(faults)} webhooks, and which is the healer's is hidden"
        remedy = f"Give the healer a receiver of its own. {SEE}"
        yield Finding("webhook", f"receiver {receiver.name}", CheckStatus.UNKNOWN, found, remedy)


def _faults(subject: str, webhook: Webhook, *, token: bool) -> Iterator[Finding]:
    http = webhook.get("http_config") or {}
    if token and not (http.get("authorization") or http.get("basic_auth") or http.get("oauth2")):
        remedy = f"Set http_config.authorization.credentials_file to a copy of webhook_token_file. {SEE}"
        yield Finding("webhook", subject, CheckStatus.FAILED, "sends no token: each webhook is refused", remedy)
    if not webhook.get("send_resolved", True):
        remedy = "Set send_resolved: true."
        found = "send_resolved: false: the healer does not hear that an alert has ended"
        yield Finding("webhook", subject, CheckStatus.WARNING, found, remedy)
    if webhook.get("max_alerts"):
        found = f"max_alerts {webhook['max_alerts']}: alerts beyond that are cut off, firing ones among them"
        yield Finding("webhook", subject, CheckStatus.WARNING, found, "Take max_alerts away.")
