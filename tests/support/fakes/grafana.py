"""The webhook body that Grafana's alerting sends."""

from typing import Any

GRAFANA_RULE_LABELS = {"severity": "warning", "component": "pgslot", "heal": "log_standby_snapshot"}


def grafana_body(*alerts: dict[str, Any]) -> dict[str, Any]:
    return {
        "receiver": "pg-slot-healer",
        "status": "firing",
        "alerts": list(alerts),
        "groupLabels": {},
        "commonLabels": GRAFANA_RULE_LABELS,
        "commonAnnotations": {},
        "externalURL": "http://grafana:3000/",
        "appVersion": "13.2.3",
        "version": "1",
        "groupKey": '{}/{heal="log_standby_snapshot"}:{alertname="PgSlotCreationStuck"}',
        "truncatedAlerts": 0,
        "orgId": 1,
        "title": "[FIRING:1]  (PgSlotCreationStuck pg-slot-healer c postgres standby)",
        "state": "alerting",
        "message": "**Firing**\n\nValue: query=31.5\nLabels:\n - alertname = PgSlotCreationStuck\n",
    }
