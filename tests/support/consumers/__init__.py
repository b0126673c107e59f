"""Real consumers of logical slots, of PostgreSQL and third parties; start with `programs.py`."""
