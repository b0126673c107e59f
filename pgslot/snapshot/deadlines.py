"""
All times that bound a collection, in seconds. The time of the collection itself is given by its caller.

Nothing here depends on anything else in the package.
"""

MIN_COLLECT_SECONDS = 0.5
"""A shorter collection would only ever time out: none is started, or repeated, with less time left."""

GRACE_SECONDS = 0.1
"""A collection may take this much longer than its time, to end in order and say how it failed."""

PEER_GRACE_SECONDS = 0.2
"""Other nodes have this long after the primary has answered: enough to notice that there are two primaries."""

STANDBY_GRACE_SECONDS = 1.0
"""Standbys have this long after a primary with failover slots: a new connection across an ocean takes less."""

LISTING_SECONDS = 3.0
"""Listing a WAL directory may take this long: a scrape waits for it."""

LISTING_SHARE = 0.05
"""The part of the time that listing WAL directories may take: a slow listing is repeated later."""

LISTING_INTERVAL_SECONDS = 60.0
"""Time from one listing of a node's WAL directory to the next, unless the exporter's flag says otherwise."""

RECENT_SECONDS = 60.0
"""A node's last answer says for this long what the node is; longer than the interval between two scrapes."""

REFUSAL_SECONDS = 900.0
"""A function that the server refuses is called again after this long: each call is an error in the server's log."""

RENEWAL_SECONDS = 15.0
"""A connection that could not be renewed, before its password ends, is tried to be renewed again after this long."""
