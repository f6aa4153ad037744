"""A TCP proxy that puts the server at a distance: `python -m benchmarks.proxy PORT ROUND_TRIP_MS`.

Each direction is held back by half the round trip, its bandwidth is not touched. It prints the port it listens on,
and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections import deque


class Side(asyncio.Protocol):
    """One end of a connection: what it receives leaves by the other end, later."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._due: deque[tuple[float, bytes]] = deque()
        self._transport: asyncio.Transport
        self.other: Side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._delay:
            self.other._transport.write(data)
            return
        self._due.append((self._loop.time() + self._delay, data))
        if len(self._due) == 1:
            self._loop.call_later(self._delay, self._deliver)

    def _deliver(self) -> None:
        now = self._loop.time()
        ready = []
        while self._due and self._due[0][0] <= now:
            ready.append(self._due.popleft()[1])
        self.other._transport.writelines(ready)
        if self._due:
            self._loop.call_at(self._due[0][0], self._deliver)

    def connection_lost(self, error: Exception | None) -> None:
        self.other._transport.close()


class Front(Side):
    """The end where clients connect; it connects on to the server."""

    def __init__(self, port: int, delay: float) -> None:
        super().__init__(delay)
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._transport.pause_reading()
        self._joining = self._loop.create_task(self._join())

    async def _join(self) -> None:
        _, self.other = await self._loop.create_connection(lambda: Side(self._delay), "127.0.0.1", self._port)
        self.other.other = self
        self._transport.resume_reading()


async def serve(port: int, round_trip: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Front(port, round_trip / 2), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    # select, and not epoll: that one rounds every wait up to a millisecond.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
