"""Builds and checks what is released: `python -m deploy.release`; open build.py first."""
