"""
Pure functions from a snapshot to causes: why a slot creation waits, why a slot retains WAL, what a failover would keep.

Each file answers one such question. Start with creation_wait.py and retention.py.
"""
