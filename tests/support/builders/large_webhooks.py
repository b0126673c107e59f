"""Bodies of webhooks that take as much memory as a sender with the token can make the healer use."""

import gzip
import json
from functools import cache

from healer.webhook.body import MAX_BODY_BYTES


def _filled(start: bytes, piece: bytes, end: bytes) -> bytes:
    """Return a body of MAX_BODY_BYTES that repeats the piece."""
    return start + piece * ((MAX_BODY_BYTES - len(start) - len(end)) // len(piece)) + end


_ALERT_START = b'{"version":"4","alerts":[{"status":"firing","fingerprint":"f","labels":{'


@cache
def worst_bodies() -> dict[str, bytes]:
    """Return bodies by what they are full of; each is answered with 400."""
    return {
        "empty arrays": _filled(b"[", b"[],", b"1]"),
        "empty arrays in an unknown field": _filled(b'{"x":[', b"[],", b"1]}"),
        "empty arrays in an alert": _filled(b'{"version":"4","alerts":[{"x":[', b"[],", b"1]}]}"),
        "alerts that are empty": _filled(b'{"version":"4","alerts":[', b"{},", b"{}]}"),
        "small alerts": _filled(
            b'{"version":"4","alerts":[', b'{"status":"firing","labels":{},"fingerprint":"f"},', b"1]}"
        ),
        "fields of the body": _filled(b'{"version":"4"', b',"a":"b"', b"}"),
        "one label": _filled(_ALERT_START + b'"slot_name":"', b"x", b'"}}]}'),
        "one label beyond the basic plane": _filled(_ALERT_START + b'"slot_name":"', "\U0001f600".encode(), b'"}}]}'),
        "labels": _ALERT_START + b",".join(b'"%x":"%x"' % (i, i) for i in range(1_000_000)) + b"}}]}",
    }


def gzip_bomb() -> bytes:
    """Return 16 kB that become 16 MiB of JSON; sent with Content-Encoding: gzip."""
    return gzip.compress(worst_bodies()["empty arrays"])


def ten_thousand_alerts(cluster: str, node: str) -> bytes:
    """Return the body of a webhook as Alertmanager writes it, about as many slots of this node: over 8 MiB."""
    text = "The slot waits for a transaction of the session 4711 (user batch, application nightly load). " * 4
    labels = {"alertname": "PgSlotCreationStuck", "heal": "log_standby_snapshot", "cluster": cluster, "node": node}
    alerts = [
        {
            "status": "firing",
            "labels": labels
            | dict.fromkeys(("job", "instance", "severity", "team"), f"value-{i}")
            | {"slot_name": f"slot_{i}"},
            "annotations": {"summary": text, "description": text},
            "startsAt": "2026-11-30T12:00:00.000Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph?g0.expr=pgslot_creation_wait_seconds%7B%7D",
            "fingerprint": f"{i:016x}",
        }
        for i in range(10_000)
    ]
    return json.dumps({"version": "4", "status": "firing", "alerts": alerts}).encode()
