"""A random day on real servers with all invariants checked; start with `run.py`."""
