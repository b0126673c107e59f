"""Timeouts and intervals of an episode, in seconds; those of its connection to the primary: remedies/connection.py."""

COLLECT_TIMEOUT = 5.0
"""Within which a node has to answer a snapshot."""

MAX_SNAPSHOT_AGE = 0.5
"""Before an attempt; when the last snapshot is older, another one is taken first."""

NO_ROOM_INTERVAL = 1.0
"""Between two checks whether clusters_at_once lets this cluster be acted on."""

WATCH_SECONDS = 20.0
"""
For which a healed slot is watched while its alert fires on.

PgSlotCreationWaiting fires on for 10 s (`keep_firing_for`); Prometheus, Alertmanager and the next listing take up to
5 s more.
"""
WATCH_INTERVAL = 2.0
"""Between two snapshots of healed slots."""

CLOSE_TIMEOUT = 15.0
"""For episodes to close their connections at the end; a snapshot or an attempt takes less."""
