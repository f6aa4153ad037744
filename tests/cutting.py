"""A way to a server that breaks once, after so many bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

from mainflux_events.testing import RedisServer

Direction = Literal["requests", "replies"]


class Way:
    """Leads to a server. Made by `way_to`.

    Attributes:
        url: for clients.
        passed: how many bytes went through, in each direction, over all connections.
        broken: whether it has broken.
    """

    def __init__(self) -> None:
        self.url = ""
        self.passed: dict[Direction, int] = {"requests": 0, "replies": 0}
        self.broken = False
        self._breaks: tuple[Direction, int] | None = None

    def break_after(self, direction: Direction, octets: int) -> None:
        """Let so many further bytes pass in this direction, and end the connection that the last of them is on."""
        self._breaks = direction, self.passed[direction] + octets
        self.broken = False

    def pass_through(self, direction: Direction, data: bytes) -> tuple[bytes, bool]:
        """What of the data passes, and whether the connection ends behind it."""
        self.passed[direction] += len(data)
        if self._breaks is None or self._breaks[0] != direction or self.passed[direction] < self._breaks[1]:
            return data, False
        over = self.passed[direction] - self._breaks[1]
        self._breaks, self.broken = None, True
        return data[: len(data) - over], True


@contextlib.asynccontextmanager
async def way_to(server: RedisServer) -> AsyncIterator[Way]:
    """A way to a server, over TCP."""
    way = Way()

    async def pump(direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                data, ends = way.pass_through(direction, data)
                writer.write(data)
                await writer.drain()
                if ends:
                    return True
        return False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert server.socket is not None
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(server.socket))
        pumps = [
            asyncio.ensure_future(pump("requests", reader, inner_writer)),
            asyncio.ensure_future(pump("replies", inner_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in pumps:
                each.cancel()
            inner_writer.close()
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        way.url = f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"
        yield way
    finally:
        listener.close()
