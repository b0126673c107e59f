"""The incident that the project began with, on real servers; start with `incident.py`."""
