"""The ring between the callers of `publish` and the drain: what waits for its turn, and what is in flight.

An `asyncio.Queue` of packed events with a bound in events and one in bytes. Positions number the queued events in
their order, from 0; they tell who waits for which event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Literal, get_args

from .errors import BufferFull, ConfigError

Overflow = Literal["drop_oldest", "drop_newest", "raise", "wait"]

# (position or None where it was never queued, packed event)
Dropped = Callable[[int | None, bytes], None]


class Buffer:
    """Accepts packed events, hands them out in batches, keeps those until they are settled.

    Args:
        size: the most events that may wait.
        size_bytes: the most bytes that they may take.
        overflow: what becomes of an event that has no room.
        dropped: called with each event that is dropped.
    """

    def __init__(self, *, size: int, size_bytes: int, overflow: Overflow, dropped: Dropped) -> None:
        if overflow not in get_args(Overflow):
            raise ConfigError(f"overflow: one of {', '.join(get_args(Overflow))} is wanted, not {overflow!r}")
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._size = size
        self._size_bytes = size_bytes
        self._overflow = overflow
        self._dropped = dropped
        self._held = 0
        # Events whose callers wait for room, in their order; each future gets the event's position.
        self._waiting: deque[tuple[bytes, asyncio.Future[int]]] = deque()
        self.may_wait: bool = overflow == "wait"
        # How many events were ever put into the queue, and how many have left it: the positions of the next event
        # and of the queue's oldest. And how many were never queued, but dropped.
        self.queued: int = 0
        self._left = 0
        self._refused = 0
        self.in_flight: list[bytes] = []
        self.first_in_flight: int = 0
        # What has this position or a later one was accepted after this moment. One or two for each batch.
        self._accepted: deque[tuple[int, float]] = deque()

    def __len__(self) -> int:
        return self.queued - self._left

    @property
    def accepted(self) -> int:
        """How many events were taken in, be it to be dropped."""
        return self.queued + self._refused

    @property
    def unsettled(self) -> int:
        """How many events are buffered or in flight."""
        return self.queued - self._left + len(self.in_flight)

    @property
    def oldest(self) -> int:
        """The position of the oldest event that is not settled; where there is none, that of the next event."""
        return self.first_in_flight if self.in_flight else self._left

    @property
    def oldest_accepted(self) -> float | None:
        """When the oldest event that is not settled was accepted, or a bit before; None where there is none."""
        oldest = self.oldest
        moments = [moment for position, moment in tuple(self._accepted) if position <= oldest]
        return moments[-1] if moments and self.unsettled else None

    @property
    def crowded(self) -> bool:
        """Whether it is over half full, in events or in bytes."""
        return (self.queued - self._left) * 2 > self._size or self._held * 2 > self._size_bytes

    @property
    def nearly_full(self) -> bool:
        """Whether it is over three quarters full."""
        return (self.queued - self._left) * 4 > self._size * 3 or self._held * 4 > self._size_bytes * 3

    def fits(self, size: int) -> bool:
        """Whether an event of this many bytes has room."""
        return self.queued - self._left < self._size and self._held + size <= self._size_bytes

    def put(self, packed: bytes) -> int | None:
        """Accept an event. Gives its position, None where it was dropped at once.

        Raises:
            BufferFull: no room, and nothing may be dropped.
        """
        if self.queued - self._left >= self._size or self._held + len(packed) > self._size_bytes:
            if self._overflow == "drop_oldest":
                while not self.fits(len(packed)):
                    self._drop_oldest()
            elif self._overflow == "drop_newest":
                self._refused += 1
                self._dropped(None, packed)
                return None
            else:
                raise BufferFull(len(self), self._held)
        return self._put(packed)

    async def put_when_room(self, packed: bytes) -> int | None:
        """Accept an event, after waiting for room where the policy is "wait".

        Cancelled while it waits, the event is not accepted, unless that was decided in the same turn of the loop.
        """
        if not self.may_wait or (not self._waiting and self.fits(len(packed))):
            return self.put(packed)
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((packed, turn))
        try:
            return await turn
        except asyncio.CancelledError:
            turn.cancel()
            self._admit()
            raise

    def _put(self, packed: bytes) -> int:
        self._queue.put_nowait(packed)
        self._held += len(packed)
        position = self.queued
        self.queued = position + 1
        return position

    def _drop_oldest(self) -> None:
        packed = self._queue.get_nowait()
        self._held -= len(packed)
        position, self._left = self._left, self._left + 1
        self._dropped(position, packed)

    async def next_batch(self, events: int, size: int) -> None:
        """Wait for an event, and put it in flight with those behind it, up to so many events and bytes.

        Cancelled, it leaves everything where it was.
        """
        comes_now = self._queue.empty() or not self._accepted
        packed = await self._queue.get()
        self.first_in_flight = self._left
        self._left += 1
        self._held -= len(packed)
        if comes_now:
            self._accepted.append((self.first_in_flight, monotonic()))
        self.in_flight = [packed]
        self._take(events - 1, size - len(packed))

    def take_full_batch(self, events: int, size: int) -> int:
        """Put more in flight, where so many events or bytes wait. Gives how many events it put there."""
        if len(self) < events and self._held < size:
            return 0
        return self._take(events, size)

    def _take(self, events: int, size: int) -> int:
        """Put events in flight that wait, up to so many events and bytes."""
        get, append = self._queue.get_nowait, self.in_flight.append
        before = len(self.in_flight)
        taken = 0
        for _ in range(min(len(self), events)):
            if taken >= size:
                break
            packed = get()
            taken += len(packed)
            append(packed)
        count = len(self.in_flight) - before
        self._left += count
        self._held -= taken
        self._accepted.append((self.queued, monotonic()))
        while len(self._accepted) > 1 and self._accepted[1][0] <= self.first_in_flight:
            self._accepted.popleft()
        if self._waiting:
            self._admit()
        return count

    def _admit(self) -> None:
        """Accept the events that have waited for room."""
        while self._waiting:
            packed, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
            elif self.fits(len(packed)):
                self._waiting.popleft()
                turn.set_result(self._put(packed))
            else:
                break

    def settle(self, count: int) -> None:
        """The oldest events in flight need no further attempt: they are acknowledged or given up."""
        del self.in_flight[:count]
        self.first_in_flight += count

    def refuse_waiting(self, error: Callable[[], Exception]) -> None:
        """Raise an error in each who waits for room."""
        while self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error())

    def take_all(self) -> list[tuple[int, bytes]]:
        """Empty the buffer: everything that is in flight or waits for its turn, with its position."""
        rest = list(enumerate(self.in_flight, self.first_in_flight))
        self.settle(len(self.in_flight))
        while len(self):
            rest.append((self._left, self._queue.get_nowait()))
            self._left += 1
        self._held = 0
        return rest
