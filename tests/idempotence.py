"""What the tests of idempotent publishing have in common: publishers, what must hold, and a network to disturb."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from histories import STREAM, History, stored_ids
from mainflux_events import Backoff, Publisher
from mainflux_events.testing import RedisServer

SHORT = Backoff(initial=0.01, maximum=0.05)


def publisher_of(
    where: RedisServer | str | RedisCluster,
    history: History | None = None,
    stream: str = STREAM,
    **settings: Any,
) -> Publisher:
    defaults: dict[str, Any] = {
        "idempotent": True,
        "backoff": SHORT,
        "attempt_timeout": 5.0,
        "buffer_size": 200_000,
        "max_len": None,
        "hooks": [] if history is None else history.recorder,
    }
    url = where.url if isinstance(where, RedisServer) else where
    return Publisher(url, stream, **(defaults | settings))


async def stored(server: RedisServer, stream: str = STREAM) -> list[str]:
    async with Redis.from_url(server.url) as client:
        return await stored_ids(client, stream)


async def sequences(server: RedisServer) -> list[bytes]:
    """The keys of the sequences that the server keeps."""
    keys: list[bytes] = await server.command("KEYS", "mainflux:publisher:*")
    return keys


def check(history: History, publisher: Publisher, stored: list[str]) -> None:
    """Nothing twice, nothing lost, and nothing to report."""
    history.check(publisher, stored, duplicates=0)
    assert publisher.stats.acknowledged == publisher.stats.accepted
    assert publisher.stats.epochs == 0
    assert history.recorder.sequences == []


class Proxy:
    """Stands between a publisher and a server. Entered, it has a `url`.

    Attributes:
        server: where new connections lead to.
        hold: whether what clients send is kept back, until `release`.
        cut: after how many bytes of a "request" or a "reply" the connection ends; once.
    """

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.hold = False
        self.cut: dict[str, int] = {}
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Proxy:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.disconnect()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def disconnect(self) -> None:
        """End all connections, those that something is held back of too."""
        for writer in self._writers:
            writer.transport.abort()

    async def release(self) -> None:
        """Pass on what was held back, on the connections that it came for."""
        self.hold = False
        for writer, data in self._held:
            writer.write(data)
            await writer.drain()
        self._held.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await (
            asyncio.open_unix_connection(self.server.socket)
            if self.server.socket is not None
            else asyncio.open_connection(self.server.host, self.server.port)
        )
        self._writers += [writer, server_writer]
        pumps = [
            asyncio.create_task(self._pump("request", reader, server_writer)),
            asyncio.create_task(self._pump("reply", server_reader, writer)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        writer.close()
        if all(held is not server_writer for held, _ in self._held):
            server_writer.close()

    async def _pump(self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if way == "request" and self.hold:
                    self._held.append((writer, data))
                    continue
                left = self.cut.pop(way, None)
                writer.write(data[:left])
                if left is not None and left <= len(data):
                    return
                if left is not None:
                    self.cut[way] = left - len(data)
