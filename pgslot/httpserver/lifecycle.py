"""POST /-/reload, as in Prometheus."""

from collections.abc import Awaitable, Callable

from aiohttp import web


async def answer_reload(reload: Callable[[], Awaitable[str | None]], *, enabled: bool) -> web.Response:
    """
    Reload and answer 200, or 500 with the error; 403 unless the lifecycle API is enabled.

    `reload` returns None, or the error that kept the old configuration in force.
    """
    if not enabled:
        return web.Response(status=403, text="Lifecycle API is not enabled: start with --web.enable-lifecycle.\n")
    error = await reload()
    return web.Response() if error is None else web.Response(status=500, text=f"{error}\n")
