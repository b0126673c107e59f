"""Writes the pages of docs/reference that follow from code and rules: `python -m docs.generators`; open __main__.py."""
