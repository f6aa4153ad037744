"""A Redis server in the memory of this process: no other process, no sockets, no threads.

Where redis-py would make a connection, `memory://name` leads to a transport that hands its bytes to the store. All
above that is the library as it is: the same publisher, subscribers, connections, commands and scripts.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from ..errors import ConfigError
from ..events import Event
from ..inmemory import IN_MEMORY
from ..link import Link
from ..nodes import ask
from ..refusals import Refusal
from ..resp import command
from ..wire import decode

if TYPE_CHECKING:
    from .store import Store

__all__ = ["MemoryServer", "memory_server"]

_numbers = itertools.count(1)


@contextlib.contextmanager
def memory_server(
    name: str | None = None, *, clock: Callable[[], float] = time.time
) -> Iterator[MemoryServer]:
    """Keep a server in memory while the context lasts; with its end, all that it holds is gone.

    - ``name``: by which ``memory://name`` finds it: letters, digits, ``_``, ``.`` and ``-``. Without, a new one.
    - ``clock``: gives the time in seconds since 1970 from which the IDs of entries are made. Whatever ends by itself,
      such as a lease, ends by the real time.

    Needs the extra ``testing``. Raises :class:`mainflux_events.ConfigError` without it, and for a name that another
    server has.
    """
    try:
        from .store import Store
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"memory:// needs {error.name}, which is not installed: pip install 'mainflux-events[testing]'"
        ) from None
    name = f"memory-{next(_numbers)}" if name is None else name
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise ConfigError(f"name: letters, digits, '_', '.' and '-' are wanted, not {name!r}")
    if name in IN_MEMORY:
        raise ConfigError(f"name: there is a server at memory://{name} already")
    server = MemoryServer(name, Store(clock))
    IN_MEMORY[name] = server._connection
    try:
        yield server
    finally:
        del IN_MEMORY[name]
        server._end()


class MemoryServer:
    """A server in memory, made by :func:`memory_server`. Bound to no event loop: any may use it, several at once too.

    - ``url``: for publishers and subscribers: ``memory://`` and the name.
    """

    def __init__(self, name: str, store: Store) -> None:
        self.url: str = f"memory://{name}"
        self._store = store
        self._transports: dict[_Transport, None] = {}

    def __repr__(self) -> str:
        return f"<MemoryServer at {self.url}>"

    def connections(self) -> list[str]:
        """Who is connected, in the order of their coming: the last command of each."""
        return [transport.session.last for transport in list(self._transports)]

    def events(self, stream: str) -> list[Event]:
        """The events that are in a stream now, the oldest first. Raises :class:`mainflux_events.DecodeError`."""
        return [decode(fields, stream, id.decode()) for id, fields in self._store.entries(stream)]

    async def command(self, *args: str | bytes | int, timeout: float = 5.0) -> Any:
        """Send one command over a connection of its own and give its reply: bytes, an int, None, or a list of these.

        Raises redis-py's ``ResponseError`` for a reply that is an error, as :meth:`RedisServer.command` does.
        """
        reply = await ask(Link(self.url, timeout), "", timeout, command(*args))
        if isinstance(reply, Refusal):
            raise ResponseError(reply.text)
        return reply

    def _connection(self) -> _Connection:
        return _Connection(self._store, self._transports)

    def _end(self) -> None:
        for transport in list(self._transports):
            transport.abort_soon()


class _Connection:
    """What a `Link` takes for a connection that redis-py has made."""

    _writer: _Connection

    def __init__(self, store: Store, transports: dict[_Transport, None]) -> None:
        self._store = store
        self._transports = transports

    async def connect(self) -> None:
        self.transport = _Transport(self._store, self._transports)
        self._writer = self

    async def disconnect(self, nowait: bool) -> None:
        """The transport is aborted by who has taken it over."""


class _Transport(asyncio.Transport):
    """The client's end of a connection: what is written is executed at once, and answered at the next turn of the loop.

    Args:
        store: who executes it.
        transports: where this one is as long as it stands.
    """

    def __init__(self, store: Store, transports: dict[_Transport, None]) -> None:
        from .store import Session

        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.BaseProtocol = asyncio.Protocol()
        self._transports = transports
        self._replies: list[bytes] = []
        self._paused = False
        self.session = Session(store, self._reply, self.abort_soon)
        transports[self] = None

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self not in self._transports

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self.is_closing():
            return
        try:
            self.session.sendall(bytes(data))
        except Exception as error:
            self._end(RuntimeError(f"the in-memory server failed, by {type(error).__name__}: {error}"))

    def _reply(self, packed: bytes) -> None:
        self._replies.append(packed)
        if len(self._replies) == 1:
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        if self._replies and not self._paused and not self.is_closing():
            replies = b"".join(self._replies)
            self._replies.clear()
            assert isinstance(self._protocol, asyncio.Protocol)
            self._protocol.data_received(replies)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._loop.call_soon(self._deliver)

    def abort(self) -> None:
        self._end(None)

    close = abort

    def abort_soon(self) -> None:
        """The same, from any thread."""
        with contextlib.suppress(RuntimeError):  # its loop is closed, and nobody there any more
            self._loop.call_soon_threadsafe(self.abort)

    def _end(self, error: Exception | None) -> None:
        if not self.is_closing():
            del self._transports[self]
            self.session.end()
            self._loop.call_soon(self._protocol.connection_lost, error)
