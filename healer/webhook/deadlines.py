"""Timeouts and intervals of webhooks and of the reconciliation with Alertmanager, all in seconds."""

BODY_TIMEOUT_SECONDS = 30.0
"""How long a client may take to send the body of a webhook; then it is answered with 503."""

RECONCILE_INTERVAL_SECONDS = 60.0
"""Between two listings of Alertmanager's alerts, while no episode runs and the last listing was complete."""
RECONCILE_BUSY_INTERVAL_SECONDS = 5.0
"""The same while an episode runs, so that a silence stops it soon, and until Alertmanager has answered in full."""

LISTING_TIMEOUT_SECONDS = 10.0
"""For each of the two requests of a listing, name resolution included."""
REFILL_SECONDS = 300.0
"""
From Alertmanager's start until its listing is complete.

It keeps no alerts over a restart; Prometheus sends those that fire again every minute or so.
"""

RETRY_AFTER_SECONDS = 300.0
"""
From the end of its heal until an alert that still fires is submitted again.

As often as Alertmanager repeats its webhook (`repeat_interval: 5m` in alerts/alertmanager.yml).
"""
