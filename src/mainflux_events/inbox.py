"""What was fetched and is not begun: batches of entries, and which of them are fetched next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container
from time import monotonic
from typing import Final

import msgspec

from .entries import Entries
from .errors import EventsError
from .keeper import Keeper, Track
from .notices import Notice

# So many batches lie ready at least, beside the one at work. Where they were not enough, as at a distance from the
# server, twice as many; and one fewer when so many in a row were ready.
LEAST_READY: Final = 2
MANY_READY: Final = 32


class Part(msgspec.Struct):
    """Entries of one stream, in their order.

    Attributes:
        track, keeper: the stream, and who is to be told how far it is handled.
        entries: as they came. What is handed out is taken off this list.
        refused: why none of them is to be handed out, where so.
        size: how many bytes came of it.
    """

    track: Track
    keeper: Keeper
    entries: Entries
    refused: EventsError | None = None
    size: int = 0

    @property
    def stream(self) -> str:
        """The key of the stream."""
        return self.track.stream


class Batch(msgspec.Struct):
    """What one answer of the server held.

    Attributes:
        parts: its entries, and in front of them what is to be told first.
        taken: to be called when they are taken, with the seconds that somebody had to wait for them.
        size: its bytes; 0 where it may not be taken before those that came earlier.
    """

    parts: list[Part | Notice]
    taken: Callable[[float], None]
    size: int = 0

    def shared_out(self) -> list[Part | Notice]:
        """The parts, each with its share of the bytes."""
        if len(self.parts) == 1 and isinstance(only := self.parts[0], Part):
            only.size = self.size
            return self.parts
        parts = [part for part in self.parts if isinstance(part, Part)]
        entries = sum(len(part.entries) for part in parts)
        for part in parts:
            part.size = self.size * len(part.entries) // entries
        return self.parts


class Inbox(asyncio.Queue[Batch | Exception | None]):
    """Batches; what no further attempt can mend; None for the end.

    Where many streams are read, some wait with their next batch: what was parsed long before it is decoded has left the
    caches of the processor, and each container of it is one more for the garbage collector.

    Attributes:
        since: when something was put into it that was empty.
        fresh: whether something was put into it since that was set to False.
    """

    def __init__(self) -> None:
        super().__init__()
        self.since: float = 0.0
        self.fresh: bool = False
        # So many may lie here when the next is asked for. And how many in a row were here when they were wanted.
        self._enough = LEAST_READY
        self._ready = 0
        self._held_up: deque[Callable[[], None]] = deque()

    def hold_up(self, proceed: Callable[[], None]) -> None:
        """A batch was taken: have the next one fetched, or first that of a stream that waits for longer."""
        self._held_up.append(proceed)
        if self.qsize() < self._enough:
            self._held_up.popleft()()
        self._ready += 1
        if self._ready == MANY_READY:
            self._ready = 0
            self._enough = max(LEAST_READY, self._enough - 1)

    def hurry(self) -> None:
        """Nothing is here, and somebody wants it: have all that is held up fetched, and hold up less from now on."""
        if self._held_up:
            self._ready = 0
            self._enough *= 2
            self.let_all_proceed()

    def let_all_proceed(self) -> None:
        """Hold up nothing."""
        while self._held_up:
            self._held_up.popleft()()

    def _put(self, item: Batch | Exception | None) -> None:
        if self.empty():
            self.since = monotonic()
        self.fresh = True
        super()._put(item)

    def get_beside(self, streams: Container[str], room: int) -> Batch | None:
        """The next batch, if it may be taken beside what is left of these streams, and has so many bytes at most.

        One that is of these streams itself is passed over. What has to be told first is not.
        """
        waiting: deque[Batch | Exception | None] = self._queue  # type: ignore[attr-defined]
        for place, item in enumerate(waiting):
            if not isinstance(item, Batch) or not 0 < item.size <= room:
                return None
            if any(isinstance(part, Notice) for part in item.parts):
                return None
            if not any(part.stream in streams for part in item.parts):
                del waiting[place]
                return item
        return None
