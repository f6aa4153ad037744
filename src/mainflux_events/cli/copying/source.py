"""Reading a stream for a copy: all that is there, in order, and what was removed before it could be read."""

from __future__ import annotations

from typing import Final

import msgspec

from ... import answers
from ...cursor import Cursor, parse_id
from ...entries import Entries
from ...errors import ConfigError, EventsError, StreamGap, StreamReset
from ...gaps import Extent, Mark, Place
from ...link import Link, Reply
from ...resp import command
from .lines import Entry
from .side import Side

# One read: so many entries at most, and about so many bytes. They are appended in one step of the target's server.
FIRST_ENTRIES: Final = 100
MOST_ENTRIES: Final = 1000
READ_BYTES: Final = 1024 * 1024

# How long the server holds back an empty answer, where what comes is waited for.
BLOCK_MS: Final = 1000

_RIGHTS: Final = (
    "to read a stream needs +xinfo +type on its key, and +xread (mirror) or +xrange (replay, dump)"
)


class Read(msgspec.Struct):
    """What was read at once.

    Attributes:
        told: what is to be told before it.
        entries: in order.
        behind: how many seconds the last of them is from the end of the stream.
    """

    told: list[StreamGap | StreamReset]
    entries: list[Entry]
    behind: float


class Source(Side):
    """A stream that is read.

    Args:
        link: where it is.
        stream: its key.
        end: the ID of the last entry to read; None for no end: what comes is waited for.
    """

    def __init__(self, link: Link, stream: str, end: str | None) -> None:
        super().__init__(link, stream, what="read", rights=_RIGHTS)
        self.end: str | None = end
        self._place = Place(Cursor("copy", stream))
        self._count = FIRST_ENTRIES
        self._finished = False

    async def extent(self) -> Extent:
        """What is there.

        Raises:
            ConfigError: the key holds something else.
        """
        kind, info = await self.ask(command("TYPE", self.key) + command("XINFO", "STREAM", self.key), 2)
        if isinstance(kind, bytes) and kind not in (b"stream", b"none"):
            raise ConfigError(f"{self.where}: the key {self.key!r} holds a {kind.decode()}, not a stream")
        return Extent.of(info)

    def begin(self, id: str, extent: Extent) -> None:
        """Read what is behind this ID. What is gone by now is not missing."""
        self._place.begin(id, extent)

    def resume(self, id: str) -> None:
        """Read on behind this ID. What is gone since it was read is missing."""
        self._place.resume(id)

    async def read(self) -> Read | None:
        """The next entries; None behind the end. Where there is no end, none may come for a while."""
        if self._finished:
            return None
        place = self._place
        found, info = await self.ask(self._next() + command("XINFO", "STREAM", self.key), 2)
        extent = Extent.of(info)
        if place.broken(extent):
            reset = place.reset(extent, await self._known_again())
            if reset is not None:
                return Read([StreamReset(self.key, reset.after, reset.last, reset.resume)], [], 0.0)
        entries = _entries(found, self.key, live=self.end is None)
        gap = place.follow(entries, extent)
        told: list[StreamGap | StreamReset] = []
        if gap is not None:
            told.append(StreamGap(gap.stream, gap.after, gap.next, gap.missed, gap.exact))
        read = [Entry(self.key, id.decode(), tuple(fields)) for id, fields in entries]
        self._adapt(read)
        last = parse_id(place.id) or (0, 0)
        return Read(told, read, max(0, extent.last[0] - last[0]) / 1000 if extent.last > last else 0.0)

    def _next(self) -> bytes:
        if self.end is None:
            return command(
                "XREAD", "COUNT", self._count, "BLOCK", BLOCK_MS, "STREAMS", self.key, self._place.id
            )
        return command("XRANGE", self.key, f"({self._place.id}", self.end, "COUNT", self._count)

    def _adapt(self, entries: list[Entry]) -> None:
        full = len(entries) == self._count
        self._finished = self.end is not None and not full
        if entries:
            fitting = READ_BYTES * len(entries) // max(1, sum(entry.size for entry in entries))
            self._count = max(1, min(fitting, self._count * (2 if full else 1), MOST_ENTRIES))

    async def _known_again(self) -> Mark | None:
        """Of a stream that is not the same any more: the last entry that was read and is still there."""
        marks = self._place.marks
        asked = [command("XREAD", "COUNT", 1, "STREAMS", self.key, mark.before) for mark in marks]
        replies = await self.ask(b"".join(asked), len(asked)) if asked else []
        known = [
            mark
            for mark, reply in zip(marks, replies, strict=True)
            if mark.known_again(_entries(reply, self.key, live=True))
        ]
        return known[-1] if known else None


def _entries(reply: Reply, stream: str, *, live: bool) -> Entries:
    if live:
        return answers.read(reply, (stream.encode(),), "XREAD").get(stream.encode()) or Entries([], [])
    if not isinstance(reply, list):
        raise EventsError("the server sent what is no answer to a read")
    return Entries.of(reply)
