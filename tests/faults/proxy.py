"""A TCP proxy that does to connections what networks do: delay, silence, resets at any byte, late delivery."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

from mainflux_events.testing import RedisServer
from mainflux_events.testing.ports import reserved_port

Direction = Literal["to server", "to client"]

# Closed with this option, a TCP connection is reset: its other side sees an error, not an end.
_RESET: Final = struct.pack("ii", 1, 0)

# What is delivered after its client has gone is answered to nobody. A server that notices that too early would leave
# off in the middle of a long request, so its end of the connection is kept for so many seconds.
_LINGER: Final = 1.0


class Proxy:
    """Stands between clients and a server. Made by `proxy_to`.

    Attributes:
        port: where it listens, on 127.0.0.1.
        answered: whether what is cut is answered yet.
        connections: those that are open at either end, the oldest first.
        passed: how many bytes went through, in each direction.
        tap: called with the direction and each piece that goes through.
    """

    def __init__(self, server: RedisServer, port: int, tls: ssl.SSLContext | None) -> None:
        self._server = server
        self.port = port
        self._tls = tls
        self._listener: asyncio.Server | None = None
        self._cuts: dict[Direction, int] = {}
        self._cut_on: Connection | None = None
        self._held = False
        self._delay = 0.0
        self._joining: set[asyncio.Task[None]] = set()
        self.answered = False
        self.connections: list[Connection] = []
        self.passed: dict[Direction, int] = {"to server": 0, "to client": 0}
        self.tap: Callable[[Direction, bytes], None] | None = None

    def url(self, credentials: str = "", *, host: str = "127.0.0.1") -> str:
        """For clients; `credentials` is `user:password`, percent-encoded."""
        scheme = "redis" if self._tls is None else "rediss"
        return f"{scheme}://{credentials and f'{credentials}@'}{host}:{self.port}/0"

    async def accept(self) -> None:
        """Take connections, as in the beginning."""
        if self._listener is None:
            self._listener = await asyncio.get_running_loop().create_server(
                self._connect, "127.0.0.1", self.port, ssl=self._tls
            )

    def refuse(self) -> None:
        """Take no new connections; those that there are stay."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def reset(self) -> None:
        """End all connections with an error at both ends."""
        for connection in list(self.connections):
            connection.reset()

    def cut(
        self, direction: Direction, after: int, *, answered: bool = False, on: Connection | None = None
    ) -> None:
        """Let so many further bytes pass in this direction, and reset the connection that the last of them is on.

        With `answered`, what the server has to say to what it got passes yet, and then the connection ends. Where a
        connection is given, only what passes on that one counts.
        """
        self._cuts[direction] = after
        self.answered = answered
        self._cut_on = on

    @property
    def cutting(self) -> bool:
        """Whether a cut is still to come."""
        return bool(self._cuts)

    def delay(self, seconds: float) -> None:
        """From now on each byte takes so long, in either direction."""
        self._delay = seconds
        for connection in self.connections:
            for end in connection.ends:
                end.delay = seconds

    def hold(self) -> None:
        """A partition: nothing arrives at either side, on new connections neither, until `release`."""
        self._held = True
        for connection in self.connections:
            connection.hold()

    def hold_after(self, sent: int) -> asyncio.Event:
        """The same, when so many further bytes went to the server. Gives what tells of that."""
        held = asyncio.Event()
        end = self.passed["to server"] + sent

        def look(direction: Direction, data: bytes) -> None:
            if self.passed["to server"] >= end and not held.is_set():
                self.hold()
                held.set()

        self.tap = look
        return held

    def release(self, *, late: bool = False) -> None:
        """The end of a partition. `late` delivers to the server also what clients had sent that are gone by now."""
        self._held = False
        for connection in list(self.connections):
            connection.release(late=late)

    async def aclose(self) -> None:
        """The end of it all."""
        self.refuse()
        if self._joining:
            await asyncio.wait(self._joining)
        while self.connections:
            self.reset()
            await asyncio.sleep(0)

    def _connect(self) -> End:
        connection = Connection(self)
        self.connections.append(connection)
        if self._held:
            connection.hold()
        for end in connection.ends:
            end.delay = self._delay
        return connection.client

    def join(self, connection: Connection) -> None:
        """Make the other half of a new connection."""
        joining = asyncio.get_running_loop().create_task(self._join(connection))
        self._joining.add(joining)
        joining.add_done_callback(self._joining.discard)

    async def _join(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._server.socket is not None:
                await loop.create_unix_connection(lambda: connection.server, str(self._server.socket))
            else:
                await loop.create_connection(lambda: connection.server, self._server.host, self._server.port)
        except OSError:
            connection.reset()

    def let_through(self, connection: Connection, direction: Direction, data: bytes) -> tuple[bytes, bool]:
        """What of it passes, and whether the connection ends there."""
        after = self._cuts.get(direction) if self._cut_on in (None, connection) else None
        ends = after is not None and after <= len(data)
        if after is not None:
            data = data[:after]
            self._cuts[direction] = after - len(data)
        if ends:
            del self._cuts[direction]
        self.passed[direction] += len(data)
        if self.tap is not None and data:
            self.tap(direction, data)
        return data, ends


class Connection:
    """One connection through the proxy: the end at the client, and the end at the server."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.client = End(self, "to server")
        self.server = End(self, "to client")
        self.client.other, self.server.other = self.server, self.client
        self.ends = (self.client, self.server)

    def hold(self) -> None:
        """Let nothing arrive at either side until it is released. That the client ends it, the server learns then."""
        for end in self.ends:
            end.held = True

    def release(self, *, late: bool = True) -> None:
        """Deliver what was held; without `late`, what the client had sent only if it is still there."""
        if not late and self.client.gone:
            self.reset()
        for end in self.ends:
            end.held = False
            end.deliver()

    def reset(self) -> None:
        """End it with an error at both ends."""
        for end in self.ends:
            end.reset()

    def lost(self) -> None:
        """One end is gone."""
        if self.client.gone and self.server.gone and self in self.proxy.connections:
            self.proxy.connections.remove(self)


class End(asyncio.Protocol):
    """One end of a connection, and what came in by it and is to leave by the other.

    Attributes:
        other: the other end.
        delay: seconds that what comes in takes.
        held: whether it is kept.
        last: what left last.
        gone: whether this end is closed.
    """

    other: End

    def __init__(self, connection: Connection, direction: Direction) -> None:
        self._connection = connection
        self._direction = direction
        self._loop = asyncio.get_running_loop()
        self._kept: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._resetting = self._deaf = False
        self.delay = 0.0
        self.held = False
        self.last = b""
        self.gone = False

    @property
    def kept(self) -> int:
        """How many bytes have come in and not left yet."""
        return sum(len(data) for _, data in self._kept)

    # --- the callbacks of asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)  # so that `resume_writing` says when all is written
        if self._resetting:
            transport.abort()
        elif self is self._connection.client:
            transport.pause_reading()
            self._connection.proxy.join(self._connection)
        elif not self.other.gone and self.other._transport is not None:
            self.other._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if not (self._resetting or self._deaf):
            self._kept.append((self._loop.time() + self.delay, data))
            self.deliver()

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        self._connection.lost()
        self.deliver()

    def resume_writing(self) -> None:
        if self._resetting:
            # Not at once: asyncio calls this in the middle of writing, and would end what is closed here a second time.
            self._loop.call_soon(self._abort)

    # --- what becomes of what came in ---

    def deliver(self) -> None:
        """Pass on what is due; tell the other end when this one is gone and all is passed on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.held:
            return
        late = self.gone and bool(self._kept)
        # The clock may be behind a timer that has just gone off, by less than its resolution.
        now = self._loop.time() + 0.001
        while self._kept and self._kept[0][0] <= now:
            self._pass(self._kept.popleft()[1])
        if self._kept:
            self._timer = self._loop.call_at(self._kept[0][0], self.deliver)
        elif self.gone:
            if late:
                self._loop.call_later(_LINGER, self.other.close)
            else:
                self.other.close()

    def _pass(self, data: bytes) -> None:
        data, ends = self._connection.proxy.let_through(self._connection, self._direction, data)
        self.last = data
        target = self.other._transport
        if target is not None and not target.is_closing() and data:
            target.write(data)
        if ends and self._connection.proxy.answered:
            self._kept.clear()
            self._deaf = True
            self.other.finish()
        elif ends:
            self.reset()
            self.other.reset(when_written=True)

    # --- its end ---

    def close(self) -> None:
        """End it in good order, unless it is to end with an error when all is written."""
        if self._transport is not None and not self._resetting:
            self._transport.close()

    def finish(self) -> None:
        """Let its other side know that nothing more comes."""
        if self._transport is not None and not self.gone:
            self._transport.write_eof()

    def reset(self, *, when_written: bool = False) -> None:
        """End it with an error at its other side, and forget what was not passed on."""
        self._kept.clear()
        self._resetting = True
        if self._transport is None:
            self.gone = True
            self._connection.lost()
        elif not (when_written and self._transport.get_write_buffer_size()):
            self._abort()

    def _abort(self) -> None:
        if self._transport is None or self.gone:
            return
        own: socket.socket = self._transport.get_extra_info("socket")
        if own.family != socket.AF_UNIX and own.fileno() >= 0:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()


@contextlib.asynccontextmanager
async def proxy_to(server: RedisServer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """A proxy in front of a server while the context lasts, on a port of 127.0.0.1.

    With `tls`, clients have to speak TLS to it; what is inside is passed on.
    """
    with reserved_port() as port:
        proxy = Proxy(server, port, tls)
        await proxy.accept()
        try:
            yield proxy
        finally:
            await proxy.aclose()
