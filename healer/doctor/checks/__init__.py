"""
One file for each link of the chain: servers, healer, Prometheus, Alertmanager, and what these are made of.

A `check_` function asks the other program and returns findings; a `judge_` function is pure, and turns facts into
findings. Open `alertmanager.py` first for where alerts go, `servers.py` for PostgreSQL.
"""
