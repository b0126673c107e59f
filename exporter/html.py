"""The frame of the exporter's HTML pages."""

from html import escape

_STYLE = """
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1rem auto; padding: 0 1rem }
pre { overflow-x: auto; padding: .6rem; border: 1px solid #8888; border-radius: .3rem }
table { border-collapse: collapse } td, th { border: 1px solid #8888; padding: .2rem .6rem; text-align: left }
"""


def page(title: str, body: str) -> str:
    """Return a whole page; `title` is text, `body` is HTML."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>
<body>{body}</body></html>
"""
