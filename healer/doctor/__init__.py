"""
`pg-slot-healer doctor`: checks a deployment link by link, from the configuration to Alertmanager's silences.

Open `run.py` first: it lists the checks in their order. Each link has a file of its own in `checks/`; `output.py`
prints the findings (`result.py`), `http.py` and `server_facts.py` ask the other programs and PostgreSQL.
"""
