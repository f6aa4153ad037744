"""Reading ahead: while handlers work on one batch of entries, the next is fetched."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, TypeAlias

import msgspec

from . import answers
from .cursor import Cursor
from .entries import Entries
from .gaps import Extent, Mark, Place
from .health import Condition
from .hooks import Observers
from .inbox import Batch, Inbox, Part
from .keeper import Keeper
from .line import TROUBLE, Line
from .link import Channel, Link, Reply
from .notices import Notice, Notices
from .policies import Backoff
from .resp import command
from .sizing import FIRST_ENTRIES, Sizing

# Entries by the key of their stream.
Found: TypeAlias = dict[bytes, Entries]

NOTHING: Final = Entries([], [])

# How long the server holds back an empty answer.
BLOCK_MS: Final = 2000


class ReadAhead(ABC):
    """Reads the streams of one server.

    Args:
        link: where to connect to.
        streams: their keys.
        inbox: where batches go, one at a time, and at last what no further attempt can mend.
        backoff: the waits between attempts.
        patience: seconds that the server may be silent beyond the time that it holds back an answer.
        observers: who is told.
        first: how many entries of a stream to ask for at first.
    """

    def __init__(
        self,
        link: Link,
        streams: Sequence[str],
        inbox: Inbox,
        *,
        backoff: Backoff,
        patience: float,
        observers: Observers,
        first: int,
    ) -> None:
        self._streams = streams
        self.line: Line = Line(
            link,
            streams[0],
            stream=",".join(streams),
            what="read",
            backoff=backoff,
            patience=patience + BLOCK_MS / 1000,
            observers=observers,
        )
        self._sizing = Sizing(len(streams), first)
        self._inbox = inbox
        self._taken = asyncio.Event()
        self._taken.set()
        # What of the last batch is to be learned from, as `_learn` wants it.
        self._came: tuple[list[int], int, int] | None = None
        # When it was taken, how long the one before had been handled by then, and how long it was waited for.
        self._proceeded = self._handling = self._waited = 0.0
        self._ended: Exception | None = None

    @property
    def condition(self) -> Condition:
        """How reading goes."""
        found = self.line.condition
        if self._ended is None:
            return found
        return msgspec.structs.replace(
            found, failing=found.failing or found.worked or 0.0, reason=str(self._ended), final=True
        )

    @abstractmethod
    async def _attach(self, channel: Channel) -> None:
        """Find out where to begin, where that is not known yet."""

    @abstractmethod
    async def _fetch(self, channel: Channel) -> None:
        """Wait for the next entries, for a while, and hand them over."""

    async def begin(self) -> None:
        """Make the first attempt to connect and to find out where to begin. Raises what that does."""
        await self._attach(await self.line.channel())

    async def disconnect(self) -> None:
        """End the connection, of a reader that does not run any more."""
        await self.line.disconnect()

    async def run(self) -> None:
        """Put a batch into the inbox whenever the last one was taken, until cancelled."""
        try:
            while True:
                try:
                    channel = await self.line.channel()
                    await self._attach(channel)
                    await self._fetch(channel)
                    self.line.worked()
                except TROUBLE as trouble:
                    await self.line.rest(trouble)
                    continue
                await self._taken.wait()
                if self._came is not None:
                    self._learn(*self._came)
                    self._came = None
        except Exception as error:
            self._ended = error
            self._inbox.put_nowait(error)

    def _hand_over(self, parts: list[Part | Notice], size: int = 0) -> None:
        """Put what was fetched into the inbox, with its bytes. Until it is taken, nothing more is fetched."""
        if parts:
            self._taken.clear()
            self._inbox.put_nowait(Batch(parts, self._proceed, size))

    def _proceed(self, waited: float) -> None:
        """The batch was taken from the inbox, by somebody who had to wait so long for it: fetch the next."""
        now = monotonic()
        self._handling, self._waited = now - waited - self._proceeded, waited
        self._proceeded = now
        self._inbox.hold_up(self._taken.set)

    def _learn(self, counts: list[int], size: int, shown: int) -> None:
        """Learn from the batch that was taken, for the next: now, that nobody waits for its events any more."""
        self._sizing.came(counts, size, shown)
        self._sizing.taken(self._handling, self._waited)


class Reader(ReadAhead):
    """Reads from the cursors on.

    Args:
        link, inbox, settings: as of `ReadAhead`.
        places: the streams, and how far they are read.
        keeper: who stores how far they are handled.
        attach: what finds out where to begin, where that is not known yet.
        notices: who tells of gaps and resets.
        go_back: what moves a cursor back, when a reset was told.
    """

    def __init__(
        self,
        link: Link,
        places: Sequence[Place],
        keeper: Keeper,
        attach: Callable[[Channel], Awaitable[None]],
        notices: Notices,
        go_back: Callable[[Cursor, str], None],
        inbox: Inbox,
        **settings: Any,
    ) -> None:
        streams = [place.cursor.stream for place in places]
        super().__init__(link, streams, inbox, first=FIRST_ENTRIES, **settings)
        self._places = places
        self._keys = [stream.encode() for stream in self._streams]
        # Asked after each read, so that what is still there then was there when it was read.
        self._asked = b"".join(command("XINFO", "STREAM", stream) for stream in self._streams)
        self._keeper = keeper
        self._attaching = attach
        self._notices = notices
        self._go_back = go_back

    async def _attach(self, channel: Channel) -> None:
        await self._attaching(channel)

    async def _fetch(self, channel: Channel) -> None:
        ids, before = [place.id for place in self._places], channel.received
        read = command(
            "XREAD", "COUNT", self._sizing.entries, "BLOCK", BLOCK_MS, "STREAMS", *self._streams, *ids
        )

        def take(replies: list[Reply]) -> tuple[Found, list[Extent]] | None:
            return self._take(replies, channel.received - before)

        broken = await channel.exchange_then(read + self._asked, 1 + len(ids), take)
        if broken is not None:
            entries, extents = broken
            kept = await self._known_again(channel, extents)
            self._hand_over(self._follow(entries, extents, kept))

    def _take(self, replies: list[Reply], size: int) -> tuple[Found, list[Extent]] | None:
        """Hand over what was read. Gives it, where some stream is not the same any more and has to be looked at."""
        reply, *infos = replies
        entries = answers.read(reply, self._keys, "XREAD")
        extents = [Extent.of(info) for info in infos]
        if counts := [len(found.ids) for found in entries.values() if found.ids]:
            # The first and the last of each stream came as well.
            self._came = counts, size, 2 * len(extents)
        if any(map(Place.broken, self._places, extents)):
            return entries, extents
        self._hand_over(self._follow(entries, extents, {}), size)
        return None

    async def _known_again(self, channel: Channel, extents: list[Extent]) -> dict[Place, Mark | None]:
        """The streams that are not the same any more, each with the last entry that was read and is still there."""
        broken = [place for place, extent in zip(self._places, extents, strict=True) if place.broken(extent)]
        kept: dict[Place, Mark | None] = dict.fromkeys(broken)
        marks = [(place, mark) for place in broken for mark in place.marks]
        if marks:
            asked = [
                command("XREAD", "COUNT", 1, "STREAMS", place.cursor.stream, mark.before)
                for place, mark in marks
            ]
            replies = await channel.exchange(b"".join(asked), len(marks))
            for (place, mark), reply in zip(marks, replies, strict=True):
                key = place.cursor.stream.encode()
                if mark.known_again(answers.read(reply, (key,), "XREAD").get(key)):
                    kept[place] = mark
        return kept

    def _follow(
        self, entries: Found, extents: list[Extent], kept: dict[Place, Mark | None]
    ) -> list[Part | Notice]:
        """What was read, and in front of it what is to be told. Nothing in here waits, so none of it gets lost."""
        batch: list[Part | Notice] = []
        for place, key, extent in zip(self._places, self._keys, extents, strict=True):
            if place in kept and (reset := place.reset(extent, kept[place])) is not None:
                go_back = partial(self._go_back, place.cursor, reset.resume)
                batch.append(Notice(self._notices, reset, go_back))
                continue  # what of it was read comes again
            # A read that waited is answered with no entries where what came was trimmed in the same moment.
            found = entries.get(key) or NOTHING
            if (gap := place.follow(found, extent)) is not None:
                batch.append(Notice(self._notices, gap))
            if found.ids:
                batch.append(Part(place.cursor, self._keeper, found))
        return batch
