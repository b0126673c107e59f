"""Another program over HTTP: how its name is found, and that no more of its answer than is bearable is read."""

import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from pgslot.postgres.connect import RESOLVER


class ThreadedResolver(AbstractResolver):
    """Looks names up as for servers: a name server that hangs holds up nothing else."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await RESOLVER.addresses(host)
        ]

    async def close(self) -> None:
        """Nothing is kept."""


async def read_limited(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the body. Raises ValueError for another status than 200, and for more than `most` bytes."""
    if answer.status != 200:
        raise ValueError(f"expected 200, found {answer.status}")
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        body += chunk
        if len(body) > most:
            raise ValueError(f"expected at most {most} bytes, found more")
    return bytes(body)
