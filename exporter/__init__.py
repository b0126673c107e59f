"""pg-slot-exporter, the program: collects snapshots of PostgreSQL clusters and exposes them to Prometheus."""
