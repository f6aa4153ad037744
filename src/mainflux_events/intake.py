"""What was fetched and is not handed out yet: batches of entries come in, runs of decoded events go out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import msgspec

from .events import Event
from .sieve import Sieve

# As XREAD gives them: ID and fields, the names and values in turn.
Entries: TypeAlias = list[list[Any]]


class Track(Protocol):
    """A stream, and how far it is handled."""

    @property
    def stream(self) -> str:
        """The key of the stream."""


class Keeper(Protocol):
    """Who stores how far a track is handled."""

    turned: bool

    def room(self) -> int:
        """How many more entries may be finished until that has to be told."""

    def begin(self) -> None:
        """Some are about to be handed out."""

    def finished(self, track: Any, entries: Entries) -> None:
        """These are handled or passed over."""

    def look_out(self) -> None:
        """From now on, that the event loop has turned means that a handler has awaited something."""


class Part(msgspec.Struct, gc=False):
    """Entries of one stream, in their order."""

    track: Track
    keeper: Keeper
    entries: Entries


class Run:
    """Entries that follow each other, at first some that were passed over, then decoded ones.

    Attributes:
        track, keeper: of what they are entries, and who is to be told.
        entries: as they came.
        passed: how many of them were passed over.
        events: the events of those behind them.
    """

    __slots__ = ("entries", "events", "keeper", "passed", "track")

    def __init__(self, part: Part, entries: Entries, passed: int, events: list[Event]) -> None:
        self.track = part.track
        self.keeper = part.keeper
        self.entries = entries
        self.passed = passed
        self.events = events


class Batch(msgspec.Struct, gc=False):
    """What one answer of the server held.

    Attributes:
        parts: its entries.
        taken: to be called when they are taken, with whether somebody had to wait for them.
    """

    parts: list[Part]
    taken: Callable[[bool], None]


# Batches; what no further attempt can mend; None for the end.
Inbox: TypeAlias = "asyncio.Queue[Batch | Exception | None]"


class Intake:
    """Between the readers, who put batches into the inbox, and whoever consumes the events.

    Args:
        sieve: what decodes.
    """

    def __init__(self, sieve: Sieve) -> None:
        self.inbox: Inbox = asyncio.Queue()
        self._sieve = sieve
        self._parts: deque[Part] = deque()

    def next_run(self, most: int) -> Run | None:
        """The next entries, as many at most, decoded; None where nothing more has been fetched."""
        if not self._parts:
            return None
        part = self._parts[0]
        entries = part.entries[: min(most, part.keeper.room())]
        passed, events = self._sieve.sift(part.track.stream, entries)
        looked_at = passed + len(events)
        if looked_at == len(part.entries):
            self._parts.popleft()
        else:
            del part.entries[:looked_at]
        return Run(part, entries[:looked_at], passed, events)

    def clear(self) -> None:
        """Forget all that was fetched."""
        self._parts.clear()
        for _ in range(self.inbox.qsize()):
            item = self.inbox.get_nowait()
            if not isinstance(item, Batch):
                self.inbox.put_nowait(item)

    async def refill(self) -> bool:
        """Wait for the next batch. Gives whether there is one; there is none when all is over.

        Raises:
            Exception: what no further attempt can mend.
        """
        waited = self.inbox.empty()
        item = await self.inbox.get()
        if isinstance(item, Batch):
            self._parts.extend(item.parts)
            item.taken(waited)
            return True
        self.inbox.put_nowait(item)  # for whoever asks again
        if item is not None:
            raise item.with_traceback(None)
        return False
