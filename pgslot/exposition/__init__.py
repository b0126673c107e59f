"""
Prometheus' text format, rendered faster than prometheus_client does it, from a catalogue that each program hands in.

Open `text_format.py` first: blocks of series and their lines. `families.py` turns blocks into a page.
"""
