"""Headers of every answer, unless the application or `--web.config.file` sets them."""

from aiohttp import web, web_response

_EVERY_ANSWER = {
    # An answer is about this moment: a cache in between would show an old one.
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_PAGES = {
    # The pages have no script, image, form or frame. Their style is in the page.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Frame-Options": "deny",
}


def install(app: web.Application, program: str) -> None:
    """Set the headers on the application's answers; call it before anything that overrides them."""
    # aiohttp's own text has its version and Python's, also on answers to malformed requests, which no signal sees.
    web_response.SERVER_SOFTWARE = program  # type: ignore[attr-defined]
    app.on_response_prepare.append(_add_headers)


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    headers = _EVERY_ANSWER | _PAGES if response.content_type == "text/html" else _EVERY_ANSWER
    for name, value in headers.items():
        response.headers.setdefault(name, value)
