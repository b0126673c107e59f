"""A year of incidents for the real healer on model clusters; start with `simulation.py`."""
