"""The remedy that forces a running-xacts record on the primary, by pg_log_standby_snapshot(). Open remedy.py first."""
