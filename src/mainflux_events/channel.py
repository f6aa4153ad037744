"""One connection to a server: packed commands out, replies in, in order and in bulk.

The transport is that of a connection which redis-py has made. Through redis-py's own calls each reply would cost an
await, and a retried pipeline would append again what was acknowledged.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, Final, Self, TypeAlias, TypeVar

import anyio.lowlevel
import hiredis

from .errors import ConfigError
from .refusals import Refusal
from .resp import command

T = TypeVar("T")

_ASKING: Final = command("ASKING")

# Seconds that a slot may take to move, until its owner is asked once more.
ASK_AGAIN_AFTER: Final = 5.0

# What a reply is parsed to. Error replies are `Refusal`s, also within an array.
Reply: TypeAlias = "bytes | int | list[Any] | Refusal | None"


class Disconnected(Exception):
    """The connection ended before all replies were there.

    Attributes:
        reason: why.
        replies: those that did arrive.
    """

    def __init__(self, reason: str, replies: list[Reply]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.replies = replies


# What takes the replies to what was written together, and why they are not all, where the connection ended first.
Answer: TypeAlias = Callable[[list[Reply], str], None]


class _Exchange:
    """What was written together, and the replies it waits for."""

    __slots__ = ("answer", "replies", "wanted")

    def __init__(self, wanted: int, answer: Answer) -> None:
        self.wanted = wanted
        self.replies: list[Reply] = []
        self.answer = answer


class Channel(asyncio.Protocol):
    """One connection. Exchanges are answered in the order they were written in.

    Args:
        connection: a connection of redis-py that is connected; its transport is taken over.
        patience: seconds that the server may be silent while a reply is due.

    Raises:
        ConfigError: it has no transport.

    Attributes:
        asking: whether what is written together has to be one command, or one whole transaction.
        received: how many bytes have come.
    """

    asking: ClassVar[bool] = False

    def __init__(self, connection: Any, patience: float) -> None:
        if not hasattr(connection._writer, "transport"):
            raise ConfigError(
                "redis: the connections of this client have no transport of asyncio; for tests without a server there "
                "is memory://, see mainflux_events.testing"
            )
        # `_writer` is the one private name of redis-py that is used: it has no other way to the transport.
        self._connection = connection
        self._transport: asyncio.Transport = connection._writer.transport
        self._streams = self._transport.get_protocol()
        self._patience = patience
        self._reader = hiredis.Reader(replyError=Refusal)
        self._exchanges: deque[_Exchange] = deque()
        self._reason = "the server closed the connection"
        self._loop = asyncio.get_running_loop()
        self._heard = 0.0
        self.received: int = 0
        self._watch: asyncio.TimerHandle | None = None
        self._listening: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._transport.set_protocol(self)
        self._can_cork = _can_cork(self._transport)
        self._corked = False

    @classmethod
    async def made(cls, connection: Any, patience: float) -> Self:
        """Have a connection of redis-py connect, and take it over. Raises what that does."""
        try:
            await _uncancelled(connection.connect())
            return cls(connection, patience)
        except BaseException:  # a cancellation too: nobody else could end it
            await connection.disconnect(nowait=True)
            raise

    @property
    def alive(self) -> bool:
        """Whether the connection still stands, as far as is known."""
        return not self._transport.is_closing()

    @property
    def usable(self) -> bool:
        """Whether what comes next is to go over it."""
        return self.alive

    @property
    def reason(self) -> str:
        """Why the connection has ended, once it has."""
        return self._reason

    def post(self, payload: bytes, wanted: int, answer: Answer) -> None:
        """Write packed commands, and have their replies, that many, given to `answer` when they are there."""
        if not self.alive:
            answer([], self._reason)
            return
        if not self._exchanges:
            self._heard = self._loop.time()
        self._exchanges.append(_Exchange(wanted, answer))
        self._transport.write(payload)
        if self._corked:
            self._cork(False)
        if self._watch is None:
            self._watch = self._loop.call_later(self._patience, self._check)

    def whisper(self, payload: bytes) -> None:
        """Write packed commands that have no replies. The kernel has them, and sends them no later than the next post.

        Where the process ends, the kernel sends what it has, unless there are replies that were not read. So nothing
        is left to it while a reply is due. Nor is it for longer than 0.2 s, after which it sends by itself.
        """
        if self._transport.is_closing():
            return  # the next post will tell
        if self._can_cork and not self._corked and not self._exchanges:
            self._cork(True)
        self._transport.write(payload)

    def _cork(self, on: bool) -> None:
        self._corked = on
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, int(on))

    def exchange(self, payload: bytes, wanted: int) -> Coroutine[Any, Any, list[Reply]]:
        """Write packed commands at once; await what it gives for their replies. Cancelled, that ends the connection.

        Raises:
            Disconnected: the connection ended, or the server was silent for too long.
        """
        return self.exchange_then(payload, wanted, _as_they_are)

    def exchange_then(
        self, payload: bytes, wanted: int, take: Callable[[list[Reply]], T]
    ) -> Coroutine[Any, Any, T]:
        """The same, but the replies are taken the moment they are there, and not a turn of the event loop later.

        Gives what taking them gives, or raises what that does. Cancelled, nothing is taken.
        """
        done: asyncio.Future[T] = self._loop.create_future()

        def answer(replies: list[Reply], ended: str) -> None:
            if done.done():
                return
            if ended:
                done.set_exception(Disconnected(ended, replies))
                return
            try:
                taken = take(replies)
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(taken)

        self.post(payload, wanted, answer)
        self.listen()
        return self._answered(done)

    async def _answered(self, done: asyncio.Future[T]) -> T:
        try:
            return await done
        except asyncio.CancelledError:
            self.abort("the call was cancelled")
            raise

    def listen_later(self, seconds: float) -> None:
        """Leave replies where they are for so long: together they cost less than one by one."""
        if self._listening is None and self.alive:
            self._transport.pause_reading()
            self._listening = self._loop.call_later(seconds, self.listen)

    def listen(self) -> None:
        """Take replies as they come again."""
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
            if self.alive:
                self._transport.resume_reading()

    def abort(self, reason: str) -> None:
        """End the connection at once."""
        if self.alive:
            self._reason = reason
            self._transport.abort()

    async def aclose(self) -> None:
        """End the connection, and wait for the end, which is a turn of the loop away."""
        self.abort("it was closed")
        await self._connection.disconnect(nowait=True)
        await asyncio.wait([self._ended], timeout=1.0)

    def _check(self) -> None:
        self._watch = None
        if self._exchanges:
            silent = self._loop.time() - self._heard
            if silent < self._patience:
                self._watch = self._loop.call_later(self._patience - silent, self._check)
            else:
                self.abort(f"no reply in {self._patience:g} s")

    # The callbacks of asyncio.Protocol.

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self.received += len(data)
        self._reader.feed(data)
        gets, exchanges = self._reader.gets, self._exchanges
        while True:
            try:
                reply = gets()
            except Exception as error:
                # Besides its own errors hiredis raises what a length or a type leads to that no honest server sends:
                # MemoryError, TypeError.
                self.abort(f"the server sent what is no reply: {str(error) or type(error).__name__}")
                return
            if reply is False:
                return
            if not exchanges:
                self.abort("the server sent a reply that nobody asked for")
                return
            exchange = exchanges[0]
            exchange.replies.append(reply)
            if len(exchange.replies) == exchange.wanted:
                exchanges.popleft()
                exchange.answer(exchange.replies, "")

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._reason = str(exc) or type(exc).__name__
        if self._exchanges and isinstance(last := (self._exchanges[0].replies or [None])[-1], Refusal):
            self._reason += f", after it had said: {last.text}"  # which may be why
        for timer in (self._watch, self._listening):
            if timer is not None:
                timer.cancel()
        while self._exchanges:
            exchange = self._exchanges.popleft()
            exchange.answer(exchange.replies, self._reason)
        self._ended.set_result(None)
        # redis-py's own objects are told, so that they too know that it is over.
        self._streams.connection_lost(exc)


class AskingChannel(Channel):
    """One to a node of a cluster that gets a slot and is not its owner yet: the other one has said `ASK`.

    Everything is about keys of that slot. Of how the move ends it hears nothing, so it is of use for some seconds, and
    then the owner is to be asked.
    """

    asking = True

    def __init__(self, connection: Any, patience: float) -> None:
        super().__init__(connection, patience)
        self._until = self._loop.time() + ASK_AGAIN_AFTER

    @property
    def usable(self) -> bool:
        return self.alive and self._loop.time() < self._until

    def post(self, payload: bytes, wanted: int, answer: Answer) -> None:
        # Where it may not be said, the next reply is the MOVED that it was to prevent.
        super().post(_ASKING + payload, wanted + 1, lambda replies, ended: answer(replies[1:], ended))


async def _uncancelled(connecting: Awaitable[None]) -> None:
    """Await what may swallow a cancellation, as `asyncio.wait_for` does on Python 3.11, and raise it then."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    await connecting
    if task.cancelling() > before:
        await anyio.lowlevel.checkpoint_if_cancelled()  # that of a scope of anyio bears its mark
        raise asyncio.CancelledError


def _as_they_are(replies: list[Reply]) -> list[Reply]:
    return replies


def _can_cork(transport: asyncio.Transport) -> bool:
    """Whether the kernel can be asked to wait for more before it sends: Linux can, of TCP."""
    family = getattr(transport.get_extra_info("socket"), "family", None)  # in memory there is no socket
    plain = transport.get_extra_info("sslcontext") is None
    return hasattr(socket, "TCP_CORK") and plain and family in (socket.AF_INET, socket.AF_INET6)
