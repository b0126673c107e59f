"""What another program answers over HTTP: no more of it than is bearable is read."""

import aiohttp


async def body_of(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the body. Raises ValueError for another status than 200, and for more than `most` bytes."""
    if answer.status != 200:
        raise ValueError(f"expected 200, found {answer.status}")
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        body += chunk
        if len(body) > most:
            raise ValueError(f"expected at most {most} bytes, found more")
    return bytes(body)
