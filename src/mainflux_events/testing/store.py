"""What the in-memory server keeps and does: fakeredis, behind the bytes of a connection.

fakeredis executes the commands and, with lupa, the Lua scripts of this library as they stand. Here is what lies between
it and one connection: requests are parsed and replies packed as RESP, what blocks waits without a task or a thread and
is served in the order of its coming, and the IDs of entries come from a clock that can be given.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

import hiredis
from fakeredis import FakeServer
from fakeredis._helpers import NoResponse, SimpleError, current_time
from fakeredis._msgs import WRONGTYPE_MSG, XGROUP_BUSYGROUP, XGROUP_KEY_NOT_FOUND_MSG
from fakeredis._socket._fakesocket import FakeSocket
from fakeredis.model import StreamEntryKey, StreamGroup, XStream
from redis.asyncio import Redis

from ..resp import bulk

importlib.import_module("lupa")  # without it fakeredis knows no scripts, and does not say why

# What it is in the eyes of its clients: by that, fakeredis decides what to answer.
VERSION: Final = (8, 2)
_NO_GROUP: Final = SimpleError("NOGROUP the stream or its group is gone")


class Store(FakeServer):
    """What is kept, and who waits for more.

    Args:
        clock: the time in seconds since 1970, for the IDs of entries.

    Attributes:
        waiting: the sessions that are blocked, in the order of their coming.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(version=VERSION)
        self.clock = clock
        self.waiting: dict[Session, None] = {}
        self.dbs[0].add_change_callback(self._wake)

    def entries(self, stream: str) -> Iterator[tuple[bytes, list[bytes]]]:
        """The IDs and fields of what is in a stream."""
        with self.lock:
            item = self.dbs[0].get(stream.encode())
            entries: list[Any] = list(item.value) if item and isinstance(item.value, XStream) else []
        return (tuple(entry) for entry in entries)

    def _wake(self) -> None:
        for session in self.waiting:
            session.wake()


class Session(FakeSocket):
    """One connection, as the server sees it. Bound to an event loop.

    Args:
        store: what executes commands.
        send: takes each reply.
        hang_up: called, in whatever thread, when somebody kills this connection.

    Attributes:
        last: the last command, for messages.
    """

    def __init__(self, store: Store, send: Callable[[bytes], None], hang_up: Callable[[], None]) -> None:
        self._store = store
        self._send = send
        self._hang_up = hang_up
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        # What a blocked command asks again when something has changed, and whether it is about to.
        self._ask: Callable[[], Any] = lambda: None
        self._woken = False
        # The groups that it reads as a member of, by the keys of their streams.
        self._groups: dict[bytes, StreamGroup] = {}
        # Milliseconds: the time stands still within a script or a transaction.
        self._now = 0
        self.last: str = "none"
        super().__init__(store, 0, client_class=Redis)

    def end(self) -> None:
        """The client is gone."""
        with self._store.lock:
            self._leave()
        self.close()

    def kill(self) -> None:
        super().kill()
        self._hang_up()

    # What waits. These run on the session's own loop, but for `wake`.

    def _blocking(
        self,
        timeout: float | None,
        func: Callable[[bool], Any],
        shape: Callable[[Any], Any] | None = None,
    ) -> Any:
        def ask(first: bool = False) -> Any:
            found = func(first)
            return shape(found) if found and shape is not None else found

        found = ask(first=True)
        if found or self._in_transaction:
            return found or None
        self._ask = ask
        self.pause()
        self._store.waiting[self] = None
        if timeout:
            self._timer = self._loop.call_later(timeout, self._look, True)
        return NoResponse()

    def wake(self) -> None:
        """Something has changed, in whatever thread: look again."""
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # its loop is closed, so nobody waits for it
                self._loop.call_soon_threadsafe(self._look)

    def _look(self, due: bool = False) -> None:
        with self._store.lock:
            self._woken = False
            if self not in self._store.waiting:
                return
            found = _NO_GROUP if self._bereft() else self._ask()
            if not found and not due:
                return
            self._leave()
        self.put_response(self._decode_result(found or None))
        self.resume()

    def _leave(self) -> None:
        self._store.waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Requests in, replies out.

    def _parse_commands(self) -> Generator[None, bytes, None]:
        # fakeredis' own copies what is left of a request at each of its arguments.
        reader = hiredis.Reader()
        while True:
            while self._paused or (request := reader.gets()) is False:
                reader.feed((yield))
            self.last = request[0].decode("ascii", "replace").upper()
            self._now = int(self._store.clock() * 1000)
            self._process_command(request)

    def put_response(self, msg: Any) -> None:
        self._send(packed(msg))

    def _decode_error(self, error: SimpleError) -> Any:
        # Where fakeredis says it with other first words than a server, by which errors are told apart.
        if error.value == XGROUP_BUSYGROUP:
            return SimpleError(error.value.removeprefix("ERR "))
        if error.value == XGROUP_KEY_NOT_FOUND_MSG and self.last == "XREADGROUP":
            return _NO_GROUP
        return error

    def xadd(self, key: Any, *args: bytes) -> Any:
        options = self._parse_add_trim_args(args, xadd=True)
        if options.entry_id is None:
            # "*" as the ID of this moment: it never goes back, and counts on within a millisecond.
            last = key.value.last_id.ts if isinstance(key.value, XStream) else 0
            id = b"%d-*" % max(self._now, last)
            args = (*args[: options.id_index], id, *args[options.id_index + 1 :])
        return super().xadd(key, *args)

    def xread(self, *args: bytes) -> Any:
        self._streams(args)
        self._groups = {}
        return super().xread(*args) or None

    def xreadgroup(self, group_const: bytes, group_name: bytes, consumer_name: bytes, *args: bytes) -> Any:
        keys = self._streams(args)
        reply = super().xreadgroup(group_const, group_name, consumer_name, *args)
        self._groups = {key: self._db[key].value.group_get(group_name) for key in keys}
        return reply

    def xgroup_destroy(self, key: Any, group_name: bytes) -> int:
        destroyed: int = super().xgroup_destroy(key, group_name)
        key.updated()  # so that those who wait for its events look again
        return destroyed

    def _bereft(self) -> bool:
        """Whether a group that is waited for, or its stream, is gone."""
        for key, group in self._groups.items():
            item = self._db.get(key)
            if (
                item is None
                or item.value is not group.stream
                or group.stream.group_get(group.name) is not group
            ):
                return True
        return False

    def _streams(self, args: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The keys that are read from. fakeredis takes it for granted that they hold streams."""
        words = [word.upper() for word in args]
        first = words.index(b"STREAMS") + 1 if b"STREAMS" in words else len(words)
        keys = args[first : first + (len(args) - first) // 2]
        for key in keys:
            item = self._db.get(key)
            if item is not None and not isinstance(item.value, XStream):
                raise SimpleError(WRONGTYPE_MSG)
        return keys

    def xautoclaim(
        self, key: Any, group_name: bytes, consumer_name: bytes, min_idle_ms: int, start: bytes, *args: bytes
    ) -> Any:
        # What is not in the stream any more goes at once, and not only when it was idle for so long.
        gone: list[Any] = []
        stream = key.value
        if isinstance(stream, XStream) and (group := stream.group_get(group_name)) is not None:
            first, since = StreamEntryKey.parse_str(start), current_time() - min_idle_ms
            quick = [id for id, pending in group.pel.items() if id >= first and pending.time_read > since]
            _, gone = group.claim(0, [id for id in quick if id not in stream], consumer_name, None, False)
        reply = super().xautoclaim(key, group_name, consumer_name, min_idle_ms, start, *args)
        place, claimed, *removed = reply
        return [place, claimed, *([*(id.encode() for id in gone), *ids] for ids in removed)]


def packed(reply: Any) -> bytes:
    """A reply as RESP 2."""
    match reply:
        case None:
            return b"$-1\r\n"
        case SimpleError():
            return b"-%b\r\n" % " ".join(reply.value.splitlines()).encode()
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return bulk(reply)
        case list():
            return b"*%d\r\n%b" % (len(reply), b"".join(map(packed, reply)))
    raise TypeError(f"no reply: {type(reply).__name__}")
