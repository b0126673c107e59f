"""The frame of the exporter's HTML pages."""

from html import escape

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1c2024; --link: #0b57b8 }
:root { --quiet: #60646c; --line: #8888; --good: #18794e; --bad: #b42318 }
@media (prefers-color-scheme: dark) { :root { --ground: #121417; --text: #e6e8eb; --link: #70b8ff } }
@media (prefers-color-scheme: dark) { :root { --quiet: #9ba1a6; --good: #4cc38a; --bad: #ff8f85 } }
body { background: var(--ground); color: var(--text) } a { color: var(--link) }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1rem auto; padding: 0 1rem }
body { overflow-wrap: anywhere }
h1 { font-size: clamp(1rem, 4.2vw, 1.5rem) } h3 { font-size: 1rem }
h2 { font-size: clamp(1rem, 4.1vw, 1.2rem); margin-top: 2rem }
nav { font-size: .875rem }
pre { overflow-x: auto; padding: .6rem; border: 1px solid var(--line); border-radius: .3rem }
pre { margin: .2rem 0 1rem; font-size: .85rem }
pre.output { border-style: dashed; color: var(--quiet); font-size: .75rem }
.place { margin: 1rem 0 0; font-size: .875rem; font-weight: 600 }
.quiet { color: var(--quiet) } .good { color: var(--good) } .bad { color: var(--bad) }
.scroll { overflow-x: auto } table { border-collapse: collapse; overflow-wrap: normal }
td, th { border: 1px solid var(--line); padding: .2rem .6rem; text-align: left; vertical-align: top }
"""

FOCUSABLE = 'tabindex="0"'
"""For a block that may scroll: without it, only a mouse or a finger can scroll it."""
SCROLL = f'<div class="scroll" {FOCUSABLE} role="region" aria-label="Table">'


def page(title: str, body: str) -> str:
    """Return a whole page; `title` is text, `body` is HTML."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body><main>
{body}
</main></body></html>
"""
