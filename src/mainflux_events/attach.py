"""Where a subscription begins: the stored cursors, or what `start` comes to, stored at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from .cursor import Cursor, Lag, Start, lag, resolve_start, stored_cursor, stream_info
from .errors import ConfigError, EventsError
from .link import Channel, Disconnected, Link, Reply, Unreachable
from .refusals import Refusal, refuse_access
from .resp import command


async def attach(
    cursors: Sequence[Cursor], start: Start, reading: Channel, storing: Channel, where: str
) -> None:
    """Find out where to begin to read each stream.

    Args:
        cursors: those of streams of one server.
        start: where to begin where no cursor is stored.
        reading: a connection to the server of the streams.
        storing: a connection to the server of the cursors.
        where: the server, for messages.

    Raises:
        CursorCorrupt: a stored cursor is no ID.
        AccessRefused, ConfigError: the user may not read, or a key holds something else than a stream.
        Disconnected, Refusal: what may pass.
    """
    stored = await look(cursors, reading, storing, where)
    for cursor, found in zip(cursors, stored, strict=True):
        id = found
        if id is None:
            id = resolve_start(start, await _last_id(cursor, reading, where), datetime.now(UTC))
            id = await _store_first(cursor, id, storing, where)
        else:
            [again] = await storing.exchange(cursor.same_commit(id), 1)
            _refuse_access(again, where, _storing(cursor))
        cursor.attach(id)


async def look(cursors: Sequence[Cursor], reading: Channel, storing: Channel, where: str) -> list[str | None]:
    """The stored cursors, None where there is none. For those who only look: nothing is changed.

    Raises what `attach` does.
    """
    await _check_readable(cursors, reading, where)
    stored = await storing.exchange(b"".join(command("GET", cursor.key) for cursor in cursors), len(cursors))
    for cursor, reply in zip(cursors, stored, strict=True):
        _refuse_access(reply, where, f"GET on {cursor.key!r}")
    return [stored_cursor(cursor.key, reply) for cursor, reply in zip(cursors, stored, strict=True)]


async def ask_lag(cursor: Cursor, link: Link, patience: float) -> Lag:
    """How far a cursor is behind. EventsError where the server cannot be asked, or where to begin is not known."""
    try:
        reply = await link.ask(cursor.stream, patience, command("XINFO", "STREAM", cursor.stream))
        info = stream_info(reply)
    except (Unreachable, Disconnected, Refusal) as error:
        raise EventsError(f"lag of {cursor.stream!r}: {link.where}: {error}") from None
    if not cursor.handled:
        raise EventsError(f"lag of {cursor.stream!r}: where to begin to read could not be found out yet")
    return lag(cursor, info)


async def _check_readable(cursors: Sequence[Cursor], reading: Channel, where: str) -> None:
    asked = [
        command("TYPE", cursor.stream) + command("XREAD", "COUNT", 1, "STREAMS", cursor.stream, "$")
        for cursor in cursors
    ]
    replies = await reading.exchange(b"".join(asked), 2 * len(cursors))
    for cursor, kind, read in zip(cursors, replies[::2], replies[1::2], strict=True):
        if isinstance(kind, bytes) and kind not in (b"stream", b"none"):
            raise ConfigError(
                f"{where}: the key {cursor.stream!r} holds a {kind.decode()}, not a stream; choose another stream"
            )
        _refuse_access(read, where, f"XREAD on {cursor.stream!r}")
        if isinstance(read, Refusal):
            raise read


async def _last_id(cursor: Cursor, reading: Channel, where: str) -> str:
    [reply] = await reading.exchange(command("XINFO", "STREAM", cursor.stream), 1)
    _refuse_access(reply, where, f"XINFO STREAM on {cursor.stream!r}")
    info = stream_info(reply)
    return str(info["last-generated-id"].decode())


async def _store_first(cursor: Cursor, id: str, storing: Channel, where: str) -> str:
    """Store the first cursor, unless another subscriber of this name was quicker. Gives what is stored."""
    [reply] = await storing.exchange(cursor.first_commit(id), 1)
    _refuse_access(reply, where, _storing(cursor))
    if isinstance(reply, Refusal):
        raise reply
    found = stored_cursor(cursor.key, reply)
    return id if found is None else found


def _storing(cursor: Cursor) -> str:
    return f"EVAL with GET and SET on {cursor.key!r}"


_RIGHTS = (
    "subscribing needs the rights +xread +xinfo +type on the stream's key, "
    "and +get +set +eval +evalsha on the cursor's"
)


def _refuse_access(reply: Reply, where: str, what: str) -> None:
    refuse_access(reply, where, what, _RIGHTS)
