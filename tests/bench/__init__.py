"""Benchmarks of exporter and healer in comparison with the floor and the peer; start with `__main__.py`."""
