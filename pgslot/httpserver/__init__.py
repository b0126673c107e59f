"""
An HTTP server for any aiohttp application, in the manner of Prometheus' exporter-toolkit: TLS, basic authentication, a
rate limit, bounded connections and reload. It knows nothing of PostgreSQL. Open `run.py` first: it puts the parts
together.
"""
