"""How far who reads a stream is behind its end: subscribers, groups and their consumers.

The server counts what is behind a place only at the ends of a stream. In between it is counted here, up to a bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec

from ..cursor import Cursor, Lag, cursor_key, padded, parse_id, stored_cursor, stream_info
from ..errors import CursorCorrupt
from ..gaps import Extent, Place
from ..link import Reply
from ..refusals import Refusal
from ..standing import lag as group_lag
from ..values import text_of
from .server import Server, Words, named

# So many entries are counted at most, and so many in one read.
MOST_COUNTED: Final = 10_000
_PAGE: Final = 1000

AHEAD: Final = "ahead of the stream"
CORRUPT: Final = "corrupt cursor"


class Behind(msgspec.Struct, frozen=True):
    """How far one reader of a stream is behind.

    Attributes:
        stream: the key of the stream.
        kind: what reads.
        name: its name; a consumer's with that of its group before it, and a slash.
        position: the ID up to which it has read; of a consumer, that of the oldest entry that is pending.
        entries: how many entries are not handled; None where that is not known.
        at_least: how many there are at least, where they are not known.
        seconds: the time between what it has read and the last entry; None where that is not known.
        pending: how many were delivered and are not acknowledged, of groups and consumers.
        idle: seconds since a consumer last asked for something.
        trouble: what is wrong with it, "" if nothing is.
    """

    stream: str
    kind: Literal["subscriber", "group", "consumer"]
    name: str
    position: str | None
    entries: int | None
    seconds: float | None
    at_least: int | None = None
    pending: int | None = None
    idle: float | None = None
    trouble: str = ""


# --- decisions ------------------------------------------------------------------------------------------------------


def subscriber_behind(stream: str, name: str, stored: Reply, extent: Extent) -> Behind:
    """How far a subscriber is behind, by what is stored for it; `entries` is None in the middle of the stream."""
    try:
        position = stored_cursor(cursor_key(name, stream), stored)
    except CursorCorrupt:
        return Behind(stream, "subscriber", name, None, None, None, trouble=CORRUPT)
    if position is None:
        return Behind(stream, "subscriber", name, None, None, None)
    cursor = Cursor(name, stream)
    cursor.attach(position)
    place = Place(cursor)
    place.begin(position, extent)
    lag = place.lag(extent)
    trouble = AHEAD if _is_ahead(position, extent) else ""
    return Behind(stream, "subscriber", name, position, lag.entries, lag.seconds, trouble=trouble)


def _is_ahead(position: str, extent: Extent) -> bool:
    id = parse_id(position)
    # Where a time was to begin at, the ID is the last one of a millisecond, and may be ahead.
    return id is not None and id > extent.last and id[1] != 2**64 - 1


def group_behind(stream: str, info: dict[str, Any], group: dict[str, Any], pending: Reply) -> Behind:
    """How far a group is behind; `entries` is None where the server does not know."""
    lag: Lag = group_lag(info, group, pending)
    delivered = group["last-delivered-id"].decode()
    return Behind(
        stream,
        "group",
        text_of(group["name"]),
        delivered,
        lag.entries,
        lag.seconds,
        pending=group["pending"],
    )


def consumer_behind(stream: str, group: str, consumer: dict[str, Any], oldest: Reply, last_id: str) -> Behind:
    """How far a consumer is behind: what is pending for it.

    Args:
        stream, group: their names.
        consumer: what the server says of it.
        oldest: the answer to XPENDING for one entry of it.
        last_id: the last ID that the stream has given.
    """
    position = oldest[0][0].decode() if isinstance(oldest, list) and oldest else None
    seconds = 0.0 if position is None else max(0.0, (_milliseconds(last_id) - _milliseconds(position)) / 1000)
    name = f"{group}/{text_of(consumer['name'])}"
    pending = consumer["pending"]
    return Behind(
        stream,
        "consumer",
        name,
        position,
        pending,
        seconds,
        pending=pending,
        idle=consumer["idle"] / 1000,
    )


def _milliseconds(id: str) -> int:
    return int(id.partition("-")[0])


# --- asking ---------------------------------------------------------------------------------------------------------


async def look(
    server: Server, streams: Iterable[str], cursors: Sequence[tuple[str, str]], most: int = MOST_COUNTED
) -> list[Behind]:
    """All who read these streams.

    Args:
        server: where.
        streams: their keys.
        cursors: what `cursors_there` gave.
        most: so many entries are counted, at most, for each.
    """
    found: list[Behind] = []
    for stream in streams:
        names = [name for name, of in cursors if of == stream]
        info, groups, *stored = await _ask(
            server,
            ("XINFO", "STREAM", stream),
            ("XINFO", "GROUPS", stream),
            *(("GET", cursor_key(name, stream)) for name in names),
        )
        extent = Extent.of(info)
        subscribers = [
            subscriber_behind(stream, name, each, extent) for name, each in zip(names, stored, strict=True)
        ]
        found += [await _counted(server, each, most) for each in subscribers if each.position or each.trouble]
        if isinstance(groups, list):
            for group in map(named, groups):
                found += await _group(server, stream, stream_info(info), group, most)
    return found


async def _group(
    server: Server, stream: str, info: dict[str, Any], group: dict[str, Any], most: int
) -> list[Behind]:
    name = group["name"]
    pending, listed = await _ask(
        server, ("XPENDING", stream, name), ("XINFO", "CONSUMERS", stream, name), gone="NOGROUP"
    )
    if pending is None or listed is None:
        return []
    consumers = [named(each) for each in listed]
    oldest = await _ask(
        server,
        *(("XPENDING", stream, name, "-", "+", 1, consumer["name"]) for consumer in consumers),
        gone="NOGROUP",
    )
    whole = await _counted(server, group_behind(stream, info, group, pending), most)
    last_id = info["last-generated-id"].decode()
    return [
        whole,
        *(
            consumer_behind(stream, whole.name, consumer, each, last_id)
            for consumer, each in zip(consumers, oldest, strict=True)
        ),
    ]


async def _counted(server: Server, behind: Behind, most: int) -> Behind:
    """The same, with what the server did not tell counted."""
    if behind.entries is not None or behind.position is None:
        return behind
    count, whole = await count_between(server, behind.stream, behind.position, "+", most)
    count += behind.pending or 0
    if whole:
        return msgspec.structs.replace(behind, entries=count)
    return msgspec.structs.replace(behind, at_least=count)


async def count_between(
    server: Server, stream: str, after: str, to: str, most: int = MOST_COUNTED
) -> tuple[int, bool]:
    """How many entries are behind an ID and not behind another, counted up to a bound; and whether these are all."""
    count = 0
    if to != "+" and padded(after) >= padded(to):
        return 0, True
    while count < most:
        size = min(_PAGE, most - count)
        page = await server.ask("XRANGE", stream, f"({after}", to, "COUNT", size)
        count += len(page)
        if len(page) < size:
            return count, True
        after = page[-1][0].decode()
    return count, False


async def _ask(server: Server, *commands: Words, gone: str = "no such key") -> list[Any]:
    """Ask all of this. None for what is gone by now; cursors and XINFO STREAM have a way of their own to say so."""
    replies: list[Any] = []
    for words, reply in zip(commands, await server.ask_all(commands), strict=True):
        if not isinstance(reply, Refusal) or (words[0] == "GET" and reply.code == "WRONGTYPE"):
            replies.append(reply)
        elif gone in reply.text or "no such key" in reply.text:
            replies.append(reply if words[:2] == ("XINFO", "STREAM") else None)
        else:
            raise server.refused(reply, words)
    return replies
