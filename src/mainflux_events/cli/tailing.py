"""Reading streams as they grow, without leaving a trace: no cursor, no group, no key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

import anyio
import msgspec

from .. import answers
from ..cursor import Cursor, Start, resolve_start
from ..entries import Entries
from ..errors import ConfigError, DecodeError, StreamGap, StreamReset
from ..events import Event, UnknownAction
from ..gaps import Extent, Mark, Place
from ..refusals import Outlook, Refusal
from ..wire import decode
from .events import undecoded
from .server import ELSEWHERE, Away, Server, Words

# Entries of each stream in one read, milliseconds that it waits for them, and seconds between attempts to connect.
_COUNT: Final = 500
_BLOCK_MS: Final = 1000
_WAIT: Final = 1.0

# An event, and why it does not decode ("" where it does).
Seen: TypeAlias = tuple[Event, str]


class Filters(msgspec.Struct, frozen=True):
    """Which events are wanted: those that meet each of these that is not empty.

    Attributes:
        operations: patterns such as `thing.*`, one of which the operation matches.
        orgs: the organisation in which it happened, or that it happened to, is one of these.
        groups: the same of groups.
        things: it happened to one of these things.
    """

    operations: Sequence[str] = ()
    orgs: Sequence[str] = ()
    groups: Sequence[str] = ()
    things: Sequence[str] = ()

    def match(self, event: Event) -> bool:
        """Whether this event is wanted."""
        operation = event.action.operation
        return (
            (not self.operations or any(fnmatchcase(operation, pattern) for pattern in self.operations))
            and _among(self.orgs, event.org_id, event, "org")
            and _among(self.groups, event.group_id, event, "group")
            and _among(self.things, "", event, "thing")
        )


def _among(wanted: Sequence[str], around: str, event: Event, kind: str) -> bool:
    return not wanted or bool({around, *_concerned(event, kind)}.difference({""}).intersection(wanted))


def _concerned(event: Event, kind: str) -> list[str]:
    """The IDs of this kind that an action names: that of its subject, and of fields `<kind>_id` and `<kind>_ids`."""
    action = event.action

    def field(name: str) -> Any:
        return action.fields.get(name) if isinstance(action, UnknownAction) else getattr(action, name, None)

    found = [field(f"{kind}_id")]
    if action.operation.startswith(f"{kind}."):
        found.append(field("id"))
    several = field(f"{kind}_ids")
    if isinstance(several, str):
        found += several.split(",")
    elif isinstance(several, list | tuple):
        found += several
    return [each for each in found if isinstance(each, str)]


def read_entry(stream: str, id: str, fields: list[bytes]) -> Seen:
    """The event of an entry; where it does not decode, its fields as they are, and why."""
    try:
        return decode(fields, stream, id), ""
    except (DecodeError, ConfigError) as error:
        return undecoded(stream, id, fields), str(error)


class Tail:
    """What comes to some streams, from a place on.

    Args:
        server: where.
        streams: their keys.
        since: where to begin.
        tell: is told of gaps, resets and troubles, in words.
    """

    def __init__(
        self, server: Server, streams: Sequence[str], since: Start, tell: Callable[[str], None]
    ) -> None:
        self._server = server
        self._places = [Place(Cursor("tail", stream)) for stream in streams]
        self._since = since
        self._tell = tell
        self._away = False

    async def __aiter__(self) -> AsyncIterator[list[Seen]]:
        """What each read gives, without end. Outages are told, and ridden out.

        Raises:
            EventsError: the server refuses for good.
        """
        await self._begin()
        while True:
            try:
                found = await self._read()
            except Away as error:
                if not self._away:
                    self._tell(f"{error}; trying again")
                self._away = True
                await anyio.sleep(_WAIT)
                continue
            if self._away:
                self._tell("connected again")
                self._away = False
            if found:
                yield found

    async def _begin(self) -> None:
        asked = [("XINFO", "STREAM", place.cursor.stream) for place in self._places]
        now = datetime.now(UTC)
        for place, extent in zip(self._places, await self._extents(asked), strict=True):
            place.begin(resolve_start(self._since, extent.last_id, now), extent)

    async def _read(self) -> list[Seen]:
        streams = [place.cursor.stream for place in self._places]
        ids = [place.id for place in self._places]
        read: Words = ("XREAD", "COUNT", _COUNT, "BLOCK", _BLOCK_MS, "STREAMS", *streams, *ids)
        # Asked after the read, so that what is still there then was there when it was read.
        asked = [("XINFO", "STREAM", stream) for stream in streams]
        reply, *infos = await self._server.ask_all([read, *asked])
        self._check(reply, read)
        extents = [self._extent(info, words) for info, words in zip(infos, asked, strict=True)]
        entries = dict(reply) if isinstance(reply, list) else {}
        found: list[Seen] = []
        for place, extent in zip(self._places, extents, strict=True):
            stream = place.cursor.stream
            if place.broken(extent):
                await self._go_on(place, extent)
                continue  # what of it was read comes again
            came = Entries.of(entries.get(stream.encode("utf-8", "surrogateescape")) or ())
            if (gap := place.follow(came, extent)) is not None:
                self._tell(str(StreamGap(gap.stream, gap.after, gap.next, gap.missed, gap.exact)))
            found += [read_entry(stream, id.decode(), fields) for id, fields in came]
        return found

    async def _go_on(self, place: Place, extent: Extent) -> None:
        """The stream is another one, or an older state of the same one: go on behind what both have."""
        asked = [("XREAD", "COUNT", 1, "STREAMS", place.cursor.stream, mark.before) for mark in place.marks]
        kept: Mark | None = None
        key = place.cursor.stream.encode("utf-8", "surrogateescape")
        for mark, reply in zip(list(place.marks), await self._server.ask_all(asked), strict=True):
            self._check(reply, ("XREAD",))
            kept = mark if mark.known_again(answers.read(reply, (key,), "XREAD").get(key)) else kept
        if (reset := place.reset(extent, kept)) is not None:
            self._tell(str(StreamReset(reset.stream, reset.after, reset.last, reset.resume)))

    async def _extents(self, asked: Sequence[Words]) -> list[Extent]:
        infos = await self._server.ask_all(asked)
        return [self._extent(info, words) for info, words in zip(infos, asked, strict=True)]

    def _extent(self, info: Any, words: Words) -> Extent:
        if not (isinstance(info, Refusal) and "no such key" in info.text):
            self._check(info, words)
        return Extent.of(info)

    def _check(self, reply: Any, words: Words) -> None:
        if isinstance(reply, Refusal):
            error = self._server.refused(reply, words)
            passes = reply.outlook in (Outlook.PASSING, Outlook.ELSEWHERE) and reply.code not in ELSEWHERE
            raise Away(str(error)) if passes else error
