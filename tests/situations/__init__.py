"""Situations of docs/reference/what-is-shown.md: what is true, and what the exporter shows of it over time."""
