"""A server at one moment, and what has changed since another: for `top`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from time import monotonic
from typing import Final

import msgspec

from ..values import text_of
from .behind import Behind, look
from .server import Server
from .survey import Stream, cursors_there, streams_there, survey

# So many entries are counted at most, where the server does not know how far somebody is behind; and seconds between
# two searches for streams and cursors, for which the server has to look at all of its keys.
_MOST_COUNTED: Final = 1000
_SEARCH_EVERY: Final = 10.0


class Moment(msgspec.Struct, frozen=True):
    """What there was at one moment.

    Attributes:
        at: when, by the monotonic clock.
        streams: the streams.
        readers: who reads them.
        version: of the server, "" where that may not be asked.
        memory: bytes that the server uses; None where that may not be asked.
        clients: how many are connected; the same.
    """

    at: float
    streams: Sequence[Stream]
    readers: Sequence[Behind]
    version: str = ""
    memory: int | None = None
    clients: int | None = None


class Rates:
    """How fast streams grow, and are handled, between two moments. None where that cannot be told."""

    def __init__(self, before: Moment | None, now: Moment) -> None:
        self._seconds = 0.0 if before is None else now.at - before.at
        self._appended = _added(before, now)
        self._readers = {} if before is None else {_who(each): each for each in before.readers}

    def appended(self, stream: str) -> float | None:
        """Entries a second that were appended to a stream."""
        return self._rate(self._appended.get(stream))

    def handled(self, reader: Behind) -> float | None:
        """Entries a second that somebody was done with: what was appended, and what fewer are left."""
        appended, before = self._appended.get(reader.stream), self._readers.get(_who(reader))
        if before is None or reader.kind == "consumer" or reader.position is None:
            return None
        if reader.kind == "subscriber" and reader.position == before.position:
            return self._rate(0)  # what fewer are left was removed
        if appended is None or before.entries is None or reader.entries is None:
            return None
        return self._rate(max(0, appended + before.entries - reader.entries))

    def _rate(self, count: int | None) -> float | None:
        return None if count is None or self._seconds <= 0 else count / self._seconds


def _added(before: Moment | None, now: Moment) -> dict[str, int]:
    """How many entries were appended to each stream since; a stream that was made anew is left out."""
    if before is None:
        return {}
    were = {stream.stream: stream.added for stream in before.streams}
    return {
        stream.stream: stream.added - added
        for stream in now.streams
        if stream.added is not None
        and (added := were.get(stream.stream)) is not None
        and stream.added >= added
    }


def _who(reader: Behind) -> tuple[str, str, str]:
    return reader.stream, reader.kind, reader.name


class Looker:
    """Looks at a server again and again.

    Args:
        server: which.
        streams: the keys of those to look at; empty for all that there are.
    """

    def __init__(self, server: Server, streams: Sequence[str] = ()) -> None:
        self._server = server
        self._asked_for = streams
        self._streams: Sequence[str] = streams
        self._cursors: list[tuple[str, str]] = []
        self._due = 0.0

    async def look(self) -> Moment:
        """The server now.

        Raises:
            Away: it cannot be asked at the moment.
            EventsError: it refuses.
        """
        if monotonic() >= self._due:
            self._cursors = await cursors_there(self._server)
            self._streams = self._asked_for or await streams_there(self._server)
            self._due = monotonic() + _SEARCH_EVERY
        streams = await survey(self._server, self._streams, self._cursors)
        at = monotonic()
        there = [stream.stream for stream in streams]
        readers = await look(self._server, there, self._cursors, _MOST_COUNTED)
        [info] = await self._server.ask_all([("INFO",)])
        about = info_of(text_of(info)) if isinstance(info, bytes) else {}
        return Moment(
            at,
            streams,
            readers,
            about.get("valkey_version") or about.get("redis_version", ""),
            _number(about.get("used_memory")),
            _number(about.get("connected_clients")),
        )


def info_of(text: str) -> dict[str, str]:
    """The answer to INFO by its names."""
    return dict(re.findall(r"^(\w+):(.*?)\r?$", text, re.MULTILINE))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
