"""Generated webhooks: parser, filter and endpoint take or refuse every one, and no alert goes uncounted."""

import asyncio
import json
import re
from io import BytesIO
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from healer.app import application
from healer.webhook import payload
from healer.webhook.alert_filter import AcceptedAlert, classify
from healer.webhook.payload import Action, Alert, Webhook, WebhookError, parse
from pgslot.config.model import Config, HealerSettings
from pgslot.config.reload import ConfigReloader
from tests.support.builders.webhooks import CLUSTERS, TARGET

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
LABELS = st.dictionaries(
    st.sampled_from(["heal", "cluster", "node", "slot_name", "alertname", "instance"]) | st.text(max_size=20),
    st.sampled_from(["log_standby_snapshot", "end_transaction", "c", "watched", "n", "s", ""]) | st.text(max_size=20),
    max_size=8,
)
ALERT = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["firing", "resolved"]),
        "labels": LABELS,
        "fingerprint": st.text("0123456789abcdef", min_size=16, max_size=16),
    },
    optional={
        "annotations": st.dictionaries(st.text(), st.text(), max_size=2),
        "startsAt": st.text(),
        "endsAt": st.just("0001-01-01T00:00:00Z"),
        "generatorURL": st.text(),
        "new_field": JSON,
    },
)
BODY = st.fixed_dictionaries(
    {"version": st.sampled_from(["4", "1"]), "alerts": st.lists(ALERT, max_size=20)},
    optional={
        "status": st.sampled_from(["firing", "resolved"]),
        "receiver": st.text(),
        "truncatedAlerts": st.integers(0, 2**63),
        "groupKey": st.text(),
        "notification_reason": st.text(),
        "routeLabels": st.dictionaries(st.text(), st.text(), max_size=2),
    },
)


def parsed_or_refused(body: bytes) -> Webhook | str:
    try:
        return parse(body)
    except WebhookError as error:
        return str(error)


@given(BODY)
def test_valid_webhook_is_parsed_and_every_alert_keeps_its_status(body: dict[str, Any]) -> None:
    webhook = parse(json.dumps(body).encode())
    assert webhook.truncated == body.get("truncatedAlerts", 0)
    parsed = [(alert.firing, alert.labels, alert.fingerprint) for alert in webhook.alerts]
    sent = [(alert["status"] == "firing", used(alert["labels"]), alert["fingerprint"]) for alert in body["alerts"]]
    assert parsed == sent


def used(labels: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name in payload.LABELS}


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_body_is_parsed_or_refused_with_a_short_error(body: bytes) -> None:
    result = parsed_or_refused(body)
    assert isinstance(result, Webhook) or ("expected" in result and len(result) < 300)


@given(BODY, st.data())
def test_wrong_value_is_harmless_or_named_in_the_error(body: dict[str, Any], data: st.DataObject) -> None:
    assume(body["alerts"])
    alert = data.draw(st.sampled_from(body["alerts"]))
    key = data.draw(st.sampled_from(["status", "labels", "fingerprint"]))
    alert[key] = data.draw(JSON)
    result = parsed_or_refused(json.dumps(body).encode())
    assert isinstance(result, Webhook) or f".{key}" in result


@given(LABELS, st.booleans())
def test_only_configured_clusters_nodes_and_remedies_are_accepted(labels: dict[str, str], firing: bool) -> None:
    decision = classify(Alert(firing, labels, "f"), CLUSTERS)
    if isinstance(decision, AcceptedAlert):
        assert labels["heal"] == "log_standby_snapshot"
        assert (decision.cluster, decision.target) == (CLUSTERS["c"], TARGET)
        assert decision.slot.slot_name == labels["slot_name"]
        assert re.fullmatch("[a-z0-9_]{1,63}", labels["slot_name"])
        # A resolved alert may be about a node that has left the configuration since.
        assert decision.slot.node == "n" or (not firing and labels["node"])
    else:
        assert decision is Action.HEARTBEAT or decision.startswith("ignored")


BODIES = st.lists(st.binary(max_size=200) | BODY.map(lambda body: json.dumps(body).encode()), max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BODIES)
def test_endpoint_answers_every_body_and_counts_every_alert_once(bodies: list[bytes]) -> None:
    """No body causes a 500, and the counters add up."""

    async def run() -> None:
        config = Config(tuple(CLUSTERS.values()), HealerSettings())
        async with TestClient(TestServer(application(ConfigReloader(lambda: config, config)))) as client:
            taken = 0
            for body in bodies:
                answer = await client.post("/alerts", data=BytesIO(body))
                assert answer.status in (200, 400)
                if answer.status == 200:
                    taken += len(json.loads(body)["alerts"])
            families = {
                family.name: family
                for family in text_string_to_metric_families(await (await client.get("/metrics")).text())
            }
            counted = {sample.labels["action"]: sample.value for sample in families["pgslot_heal_alerts"].samples}
            assert sum(counted.values()) == taken
            assert set(counted) == {str(action) for action in Action}
            assert sum(sample.value for sample in families["pgslot_heal_webhooks"].samples) == len(bodies)
            assert (await client.get("/-/healthy")).status == 200
            assert (await client.get("/")).status == 200

    asyncio.run(run())
