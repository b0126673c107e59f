"""Timeouts and intervals of webhooks and of the reconciliation with Alertmanager, all in seconds."""

BODY_TIMEOUT_SECONDS = 30.0
"""How long a client may take to send the body of a webhook; then it is answered with 503."""

LISTING_INTERVAL_SECONDS = 1.0
"""
Between two listings of Alertmanager's alerts.

An alert that ends and fires again within its group's `group_interval` sends no webhook. The healer then acts by the
listing: half of this later than by a webhook in the mean.
"""
LISTING_SHARE = 0.1
"""The most of its time that an Alertmanager spends on listings: where they take long, fewer are asked for."""
MAX_LISTING_INTERVAL_SECONDS = 30.0
LISTING_RETRY_SECONDS = 5.0
"""The longest wait after a failed listing; it begins at LISTING_INTERVAL_SECONDS and doubles."""

LISTING_TIMEOUT_SECONDS = 5.0
"""For each request, name resolution included."""
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

RESUBMIT_AFTER_SECONDS = 5.0
"""Until a listed alert is submitted again that was refused for a moment (budget, room, no measurement)."""
