"""
pg-slot-exporter, the program: collects snapshots of PostgreSQL clusters and exposes them to Prometheus.

Open `app.py` first: a scrape begins there. A metric is a row of `catalogue.py`, and `series.py` fills it.
"""
