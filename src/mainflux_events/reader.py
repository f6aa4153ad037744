"""Reading ahead: while handlers work on one batch of entries, the next is fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from .cursor import Cursor
from .hooks import Observers
from .intake import Batch, Inbox, Keeper, Part
from .line import TROUBLE, Line
from .link import Channel, Link
from .policies import Backoff
from .refusals import Refusal
from .resp import command

# One batch: so many entries of a stream at most, and about so many bytes in all. As long as the handlers are the
# slower ones, batches are short: thousands of entries that live on while others are made set off full collections of
# the garbage collector. At a distance from the server they grow, until they outlast a round trip.
FIRST_ENTRIES: Final = 10
SHORT_ENTRIES: Final = 250
MOST_ENTRIES: Final = 4000
BATCH_BYTES: Final = 4 * 1024 * 1024

# How long the server holds back an empty answer.
BLOCK_MS: Final = 2000


class Reader:
    """Reads the streams of one server, from their cursors on.

    Args:
        link: where to connect to.
        cursors: the streams, and where to begin.
        keeper: who stores them.
        attach: what finds out where to begin, where that is not known yet.
        inbox: where batches go, one at a time, and at last what no further attempt can mend.
        backoff: the waits between attempts.
        patience: seconds that the server may be silent beyond the time that it holds back an answer.
        observers: who is told.
    """

    def __init__(
        self,
        link: Link,
        cursors: Sequence[Cursor],
        keeper: Keeper,
        attach: Callable[[Channel], Awaitable[None]],
        inbox: Inbox,
        *,
        backoff: Backoff,
        patience: float,
        observers: Observers,
    ) -> None:
        self.cursors = cursors
        self._by_stream = {cursor.stream.encode(): cursor for cursor in cursors}
        self._read = dict.fromkeys(cursors, "")
        self._keeper = keeper
        self._attach = attach
        self.line: Line = Line(
            link,
            cursors[0].stream,
            stream=",".join(cursor.stream for cursor in cursors),
            what="read",
            backoff=backoff,
            patience=patience + BLOCK_MS / 1000,
            observers=observers,
        )
        self._count = FIRST_ENTRIES
        self._most = SHORT_ENTRIES
        self._inbox = inbox
        self._taken = asyncio.Event()

    def _proceed(self, waited: bool) -> None:
        """The batch was taken from the inbox, by somebody who had to wait for it or not: fetch the next."""
        self._most = min(self._most * 2, MOST_ENTRIES) if waited else max(self._most // 2, SHORT_ENTRIES)
        self._taken.set()

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
                    batch = await self._fetch(channel)
                    self.line.worked()
                except TROUBLE as trouble:
                    await self.line.rest(trouble)
                    continue
                if batch:
                    self._taken.clear()
                    self._inbox.put_nowait(Batch(batch, self._proceed))
                    await self._taken.wait()
        except Exception as error:
            self._inbox.put_nowait(error)

    async def _fetch(self, channel: Channel) -> list[Part]:
        positions = [self._read[cursor] or cursor.handled for cursor in self.cursors]
        streams = [cursor.stream for cursor in self.cursors]
        before = channel.received
        asked = command("XREAD", "COUNT", self._count, "BLOCK", BLOCK_MS, "STREAMS", *streams, *positions)
        [reply] = await channel.exchange(asked, 1)
        if isinstance(reply, Refusal):
            raise reply
        if reply is None:
            return []
        assert isinstance(reply, list)
        batch: list[Part] = []
        for stream, entries in reply:
            cursor = self._by_stream[stream]
            self._read[cursor] = entries[-1][0].decode()
            batch.append(Part(cursor, self._keeper, entries))
        most = [len(part.entries) for part in batch]
        self._adapt(sum(most), channel.received - before, max(most))
        return batch

    def _adapt(self, entries: int, size: int, fullest: int) -> None:
        """Ask for as many entries as are expected to fill a batch. XREAD itself knows no bound in bytes.

        More than last time only where there were as many: of a few entries the size of many cannot be told.
        """
        fitting = BATCH_BYTES * entries // (size * len(self.cursors))
        growth = 2 if fullest == self._count else 1
        self._count = max(1, min(fitting, self._count * growth, self._most))
