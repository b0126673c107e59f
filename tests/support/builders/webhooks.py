"""A webhook of Alertmanager with one alert, and the clusters of the healer that receives it."""

from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerConfig, Node

ALERT = {
    "status": "firing",
    "labels": {"alertname": "PgSlotCreationStuck", "cluster": "c"},
    "annotations": {"summary": "s"},
    "startsAt": "2026-01-01T00:00:00.123456789Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prometheus/graph",
    "fingerprint": "0123456789abcdef",
}
BODY = {
    "version": "4",
    "groupKey": "{}:{}",
    "truncatedAlerts": 0,
    "status": "resolved",
    "receiver": r"healer\.one",
    "groupLabels": {},
    "alerts": [ALERT],
    "notification_reason": "first notification",
    "routeLabels": {"new": "field"},
}
NOWHERE = Conninfo("host=127.0.0.1 port=1 user=x")
TARGET = HealerConfig(NOWHERE, enabled=True, dry_run=False)
CLUSTERS = {
    "c": Cluster("c", (Node("c", "n", NOWHERE),), TARGET),
    "watched": Cluster("watched", (Node("watched", "n", NOWHERE),), None),
}
