"""What there is on a server: streams, the cursors of subscribers, consumer groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ..cursor import cursor_key
from ..link import Reply
from ..refusals import Refusal
from ..values import text_of
from .server import Server, named

_CURSORS: Final = cursor_key("", "").removesuffix(":")
_SCANNED: Final = 1000


class Stream(msgspec.Struct, frozen=True):
    """A stream.

    Attributes:
        stream: its key.
        entries: how many there are.
        memory: bytes that it takes, by the server's estimate; None where that may not be asked.
        first, last: the ID of the first entry, None where there is none, and the last ID that was given.
        added: how many entries were ever added; None before Redis 7.0.
        subscribers: the names under which cursors are stored.
        groups: the names of its consumer groups.
    """

    stream: str
    entries: int
    memory: int | None
    first: str | None
    last: str
    added: int | None
    subscribers: list[str]
    groups: list[str]


async def streams_there(server: Server) -> list[str]:
    """The keys of all streams."""
    return await _scan(server, "TYPE", "stream")


async def cursors_there(server: Server) -> list[tuple[str, str]]:
    """All cursors that are stored, each as the subscriber's name and the stream."""
    keys = await _scan(server, "MATCH", f"{_CURSORS}*")
    return sorted(found for key in keys if (found := parse_cursor_key(key)) is not None)


def parse_cursor_key(key: str) -> tuple[str, str] | None:
    """The subscriber's name and the stream of a cursor's key."""
    name, _, stream = key.removeprefix(_CURSORS).partition(":")
    return (name, stream) if key.startswith(_CURSORS) and name and stream else None


async def _scan(server: Server, *options: str) -> list[str]:
    found: set[bytes] = set()
    place: bytes = b"0"
    while True:
        place, keys = await server.ask("SCAN", place, "COUNT", _SCANNED, *options)
        found.update(keys)
        if place == b"0":
            return sorted(map(text_of, found))


async def survey(server: Server, streams: Iterable[str], cursors: Iterable[tuple[str, str]]) -> list[Stream]:
    """Look at these streams; those that are not there are left out.

    Args:
        server: where.
        streams: their keys.
        cursors: what `cursors_there` gave.
    """
    names = list(streams)
    asked = [
        words
        for name in names
        for words in (("XINFO", "STREAM", name), ("XINFO", "GROUPS", name), ("MEMORY", "USAGE", name))
    ]
    replies = await server.ask_all(asked)
    found = []
    for name, words, info, groups, memory in zip(
        names, asked[::3], replies[::3], replies[1::3], replies[2::3], strict=True
    ):
        if isinstance(info, Refusal) and "no such key" in info.text:
            continue
        if isinstance(info, Refusal):
            raise server.refused(info, words)
        subscribers = [subscriber for subscriber, stream in cursors if stream == name]
        found.append(stream_of(name, info, groups, memory, subscribers))
    return found


def stream_of(name: str, info: Reply, groups: Reply, memory: Reply, subscribers: list[str]) -> Stream:
    """A stream, by what the server says of it."""
    about: dict[str, Any] = named(info)
    first = about["first-entry"]
    return Stream(
        name,
        about["length"],
        memory if isinstance(memory, int) else None,
        first[0].decode() if first else None,
        about["last-generated-id"].decode(),
        about.get("entries-added"),
        subscribers,
        [text_of(named(group)["name"]) for group in groups] if isinstance(groups, list) else [],
    )
