"""Timeouts and intervals of Patroni's discovery. Seconds between two polls of a cluster: `interval` of `patroni`."""

URL_TIMEOUT_SECONDS = 3.0
"""For each of the two requests to one URL."""

STARTUP_JITTER_SECONDS = 0.02
"""Between the first polls of two clusters, at most, so that thousands do not start at once."""
