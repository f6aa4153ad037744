"""Where a subscription begins: the stored cursors, or what `start` comes to, stored at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from . import answers
from .cursor import Cursor, Lag, Start, resolve_start, stored_cursor
from .errors import ConfigError, EventsError
from .gaps import Extent, Place
from .link import Channel, Disconnected, Link, Reply, Unreachable
from .nodes import ask
from .refusals import Refusal, refuse_access
from .resp import command


class Storing(Protocol):
    """Where cursors are stored. What the methods raise, `attach` does."""

    async def load(self, cursors: Sequence[Cursor]) -> list[str | None]:
        """The stored cursors, None where there is none."""
        ...

    async def first(self, cursor: Cursor, id: str) -> str | None:
        """Store the first cursor. Where another subscriber of this name was quicker, gives what that has stored."""
        ...

    async def check(self, cursor: Cursor, id: str) -> None:
        """See whether it could be stored, by storing again what is."""


class InRedis:
    """Cursors in Redis.

    Args:
        channel: a connection to their server.
        where: the server, for messages.
    """

    def __init__(self, channel: Channel, where: str) -> None:
        self._channel = channel
        self._where = where

    async def load(self, cursors: Sequence[Cursor]) -> list[str | None]:
        """The stored cursors, None where there is none."""
        asked = b"".join(command("GET", cursor.key) for cursor in cursors)
        replies = await self._channel.exchange(asked, len(cursors))
        for cursor, reply in zip(cursors, replies, strict=True):
            _refuse_access(reply, self._where, f"GET on {cursor.key!r}")
        return [stored_cursor(cursor.key, reply) for cursor, reply in zip(cursors, replies, strict=True)]

    async def first(self, cursor: Cursor, id: str) -> str | None:
        """Store the first cursor. Where another subscriber of this name was quicker, gives what that has stored."""
        [reply] = await self._channel.exchange(cursor.first_commit(id), 1)
        _refuse_access(reply, self._where, _storing(cursor))
        if isinstance(reply, Refusal):
            raise reply
        return stored_cursor(cursor.key, reply)

    async def check(self, cursor: Cursor, id: str) -> None:
        """See whether it could be stored, by storing again what is."""
        [again] = await self._channel.exchange(cursor.same_commit(id), 1)
        _refuse_access(again, self._where, _storing(cursor))


async def attach(
    places: Sequence[Place], start: Start, reading: Channel, storing: Storing, where: str
) -> None:
    """Find out where to begin to read each stream, where that is not known yet.

    Args:
        places: those of streams of one server.
        start: where to begin where no cursor is stored.
        reading: a connection to the server of the streams.
        storing: where the cursors are.
        where: the server, for messages.

    Raises:
        CursorCorrupt: a stored cursor is no ID.
        AccessRefused, ConfigError: the user may not read, or a key holds something else than a stream.
        Disconnected, Refusal: what may pass.
    """
    places = [place for place in places if not place.id]
    cursors = [place.cursor for place in places]
    extents = await _extents(cursors, reading, where)
    stored = await storing.load(cursors)
    for place, cursor, extent, found in zip(places, cursors, extents, stored, strict=True):
        id = found
        if id is None:
            begins = resolve_start(start, extent.last_id, datetime.now(UTC))
            id = await storing.first(cursor, begins)
            if id is None:
                cursor.attach(begins)
                place.begin(begins, extent)
                continue
        else:
            await storing.check(cursor, id)
        cursor.attach(id)
        place.resume(id)


async def look(cursors: Sequence[Cursor], reading: Channel, storing: Storing, where: str) -> None:
    """For those who do not read yet: whether they could. Nothing is changed. Raises what `attach` does."""
    await _extents(cursors, reading, where)
    await storing.load(cursors)


async def ask_lag(place: Place, link: Link, patience: float) -> Lag:
    """How far a cursor is behind. EventsError where the server cannot be asked, or where to begin is not known."""
    stream = place.cursor.stream
    try:
        extent = Extent.of(await ask(link, stream, patience, command("XINFO", "STREAM", stream)))
    except (Unreachable, Disconnected, Refusal) as error:
        raise EventsError(f"lag of {stream!r}: {link.where}: {error}") from None
    if not place.id:
        raise EventsError(f"lag of {stream!r}: where to begin to read could not be found out yet")
    return place.lag(extent)


async def _extents(cursors: Sequence[Cursor], reading: Channel, where: str) -> list[Extent]:
    """What is there of the streams, all of which may be read."""
    asked = [
        command("TYPE", cursor.stream)
        + command("XREAD", "COUNT", 1, "STREAMS", cursor.stream, "$")
        + command("XINFO", "STREAM", cursor.stream)
        for cursor in cursors
    ]
    replies = await reading.exchange(b"".join(asked), 3 * len(cursors))
    extents = []
    for cursor, kind, read, info in zip(cursors, replies[::3], replies[1::3], replies[2::3], strict=True):
        if not isinstance(kind, Refusal) and (held := answers.kind(kind)) not in ("stream", "none"):
            raise ConfigError(
                f"{where}: the key {cursor.stream!r} holds a {held}, not a stream; choose another stream"
            )
        _refuse_access(read, where, f"XREAD on {cursor.stream!r}")
        _refuse_access(info, where, f"XINFO STREAM on {cursor.stream!r}")
        answers.read(read, (cursor.stream.encode(),), "XREAD")
        extents.append(Extent.of(info))
    return extents


def _storing(cursor: Cursor) -> str:
    return f"EVAL with GET and SET on {cursor.key!r}"


_RIGHTS = (
    "subscribing needs the rights +xread +xinfo +type on the stream's key, "
    "and +get +set +eval +evalsha on the cursor's"
)


def _refuse_access(reply: Reply, where: str, what: str) -> None:
    refuse_access(reply, where, what, _RIGHTS)
