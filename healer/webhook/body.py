"""Reads and parses the bodies of webhooks, within limits of memory and time that all of them share."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from aiohttp import HttpVersion11, hdrs, web

from healer.webhook import deadlines
from healer.webhook.payload import Webhook, WebhookError, parse
from pgslot.cli.logging import printable

MAX_BODY_BYTES = 16 * 1024 * 1024
"""10,000 alerts take 8 MiB."""
MAX_HELD_BYTES = 2 * MAX_BODY_BYTES
"""Of all bodies together that are being read or wait to be parsed."""


class RequestRefusedError(Exception):
    """The request is not accepted; `status` and the text are its answer. Alertmanager retries only a 5xx."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def expect_later(_request: web.Request) -> None:
    """Leave `Expect: 100-continue` to BodyReader: a sender is asked for the body only after its token was checked."""


class BodyReader:
    """Parses beside the event loop, one body at a time."""

    def __init__(self) -> None:
        self._held_bytes = 0
        self._parser = ThreadPoolExecutor(1, "parse webhooks")

    async def read(self, request: web.Request) -> Webhook:
        """Return the webhook in the body. Raises RequestRefusedError."""
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
            # Neither Alertmanager nor Grafana compresses; 16 kB of gzip may be 16 MiB of JSON.
            raise RequestRefusedError(415, "expected a body without Content-Encoding")
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise _too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(deadlines.BODY_TIMEOUT_SECONDS):
                await _ask_for_body(request)
                async for chunk in request.content.iter_any():
                    self._hold(body, chunk)
            return await asyncio.get_running_loop().run_in_executor(self._parser, parse, body)
        except TimeoutError:
            expected = f"expected the whole body within {deadlines.BODY_TIMEOUT_SECONDS:.0f} s"
            raise RequestRefusedError(503, expected) from None
        except ConnectionResetError:
            # Alertmanager does so at its own timeout, or when it stops. Nobody gets this answer.
            raise RequestRefusedError(400, "the sender closed the connection within the body") from None
        except (web.HTTPException, web.RequestPayloadError) as error:
            # A body whose chunks are malformed, for example: aiohttp must not wait for the rest of it.
            request.content.feed_eof()
            raise RequestRefusedError(400, f"body: cannot be read: {printable(str(error))[:200]}") from None
        except WebhookError as error:
            raise RequestRefusedError(400, str(error)) from None
        finally:
            self._held_bytes -= len(body)

    def _hold(self, body: bytearray, chunk: bytes) -> None:
        if len(body) + len(chunk) > MAX_BODY_BYTES:
            raise _too_large()
        if self._held_bytes + len(chunk) > MAX_HELD_BYTES:
            raise RequestRefusedError(503, "too many large webhooks at once")
        body += chunk
        self._held_bytes += len(chunk)


def _too_large() -> RequestRefusedError:
    return RequestRefusedError(413, f"expected a body of at most {MAX_BODY_BYTES} bytes")


async def _ask_for_body(request: web.Request) -> None:
    if request.version == HttpVersion11 and request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The answer itself has not begun.
        request.writer.output_size = 0
