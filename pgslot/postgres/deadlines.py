"""Timeouts of connections to PostgreSQL. A caller's `timeout`, in seconds, covers all of connect() or fetch()."""

STATEMENT_SHARE = 0.8
"""Share of the timeout that one statement may take, so that the server's error arrives before our own deadline."""
LOCK_SHARE = 0.4
"""Share of the timeout that one statement may wait for a lock."""

MIN_CONNECT_SECONDS = 2
"""The least that connect_timeout of a connection string can ask for, as in libpq."""

SLOW_LOOKUP_SECONDS = 1.0
"""A name whose lookup took longer is slow, and shares half of the resolver's threads with the other slow ones."""

PASSWORD_COMMAND_SECONDS = 30.0
"""A password_command may take this long; a connection waits for it no longer than its own time."""
