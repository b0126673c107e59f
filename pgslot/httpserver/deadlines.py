"""How long the server waits for a client, all in seconds."""

REQUEST_SECONDS = 30.0
"""From opening a connection until its first request's headers are complete; for later requests, from the first byte."""
KEEP_ALIVE_SECONDS = 120.0
"""From an answer to the next request. Prometheus asks again within a minute; aiohttp itself closes after 75 s."""
SWEEP_SECONDS = 1.0
"""Between two searches for connections that are past these deadlines."""
HANDSHAKE_SECONDS = 10.0
"""For a TLS handshake."""
ACCEPT_RETRY_SECONDS = 1.0
"""Pause after a connection could not be accepted, as when the process has no descriptor left."""
SHUTDOWN_SECONDS = 5.0
"""For requests in flight to end after SIGTERM or SIGINT."""
