"""The commands of pg-slot-exporter, one file each: serve, sql, metrics, rules, rehearse. cli.py lists them."""
