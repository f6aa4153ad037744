"""What became of every accepted event: the counts, the callers who wait for it, and the reports of losses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from .errors import Undelivered
from .hooks import DroppedDetails, Observers, UndeliveredDetails, logger
from .resp import Heads

# Drops come by the thousand: after a line in the log, the next one comes so many seconds later, with their count.
LOG_DROPS_EVERY: Final = 10.0


class Cover:
    """What one caller of `flush` waits for.

    Attributes:
        until: the position behind it.
        lost: how much of it was lost, before the flush began and since.
        reported: how much of that flushes had told of when it began.
        done: all of it is settled.
    """

    def __init__(self, until: int, lost: int, reported: int) -> None:
        self.until = until
        self.lost = lost
        self.reported = reported
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Ledger:
    """Told of every event that is settled, it counts, reports, and resolves what waits.

    A loss is raised by the next flush, and by every flush that was waiting at the time.

    Args:
        stream: the stream that is published to.
        heads: what the packed events begin with.
        observers: who is told of losses.

    Attributes:
        acknowledged, dropped, undelivered: how many were.
        reason: why the last one was lost.
    """

    def __init__(self, stream: str, heads: Heads, observers: Observers) -> None:
        self._stream = stream
        self._heads = heads
        self._observers = observers
        self.acknowledged: int = 0
        self.dropped: int = 0
        self.undelivered: int = 0
        self._sends: dict[int, asyncio.Future[str]] = {}
        self._covers: list[Cover] = []
        self._lost_reported = 0
        self.reason: str = ""
        self._drops_logged = 0
        self._log_timer: asyncio.TimerHandle | None = None

    async def acknowledgement(self, position: int) -> str:
        """Wait for the ID of the entry that the event at this position becomes. Cancelling withdraws nothing.

        Raises:
            Undelivered: it was dropped or given up.
        """
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._sends[position] = future
        try:
            return await future
        finally:
            del self._sends[position]

    def cover(self, oldest: int, until: int) -> Cover:
        """Begin to wait for everything before position `until`; `oldest` is the first that is not settled."""
        cover = Cover(until, self.dropped + self.undelivered, self._lost_reported)
        self._covers.append(cover)
        self.note_progress(oldest)
        return cover

    def uncover(self, cover: Cover) -> None:
        """Nobody waits for that any more."""
        self._covers.remove(cover)

    def tell(self, cover: Cover) -> int:
        """What it covers is settled: gives how much of that was lost and no flush has told of."""
        self._lost_reported = max(self._lost_reported, cover.lost)
        return max(0, cover.lost - cover.reported)

    def note_acknowledged(self, first: int, ids: Sequence[bytes]) -> None:
        """The events from position `first` on have become these entries."""
        self.acknowledged += len(ids)
        if self._sends:
            for position, id in enumerate(ids, first):
                future = self._sends.get(position)
                if future is not None and not future.done():
                    future.set_result(id.decode("ascii", "replace"))

    def note_dropped(self, position: int | None, packed: bytes) -> None:
        """The event at this position (none, where it never had one) was dropped for want of room."""
        self.dropped += 1
        reason = "the buffer was full"
        self._note_lost(position, reason)
        if self._observers:
            self._observers.notify("dropped", DroppedDetails(self._stream, reason, packed, self._heads))
        if self._log_timer is None:
            self._log_drops()

    def _log_drops(self) -> None:
        """Log the drops that no line of the log has counted yet; those that come soon, together."""
        drops, self._drops_logged = self.dropped - self._drops_logged, self.dropped
        self._log_timer = None
        if drops:
            logger.warning("events_dropped: %d for %r: the buffer was full", drops, self._stream)
            self._log_timer = asyncio.get_running_loop().call_later(LOG_DROPS_EVERY, self._log_drops)

    def close(self) -> None:
        """Nothing more will be dropped: log what was."""
        for _ in range(2):  # logging sets the timer again
            if self._log_timer is not None:
                self._log_timer.cancel()
                self._log_drops()

    def note_undelivered(self, position: int, packed: bytes, reason: str) -> None:
        """The event at this position is given up. The caller logs it: one line for what belongs together."""
        self.undelivered += 1
        self._note_lost(position, reason)
        if self._observers:
            self._observers.notify(
                "undelivered", UndeliveredDetails(self._stream, reason, packed, self._heads)
            )

    def note_progress(self, oldest: int) -> None:
        """Everything before position `oldest` is settled."""
        for cover in self._covers:
            if cover.until <= oldest and not cover.done.done():
                cover.done.set_result(None)

    def _note_lost(self, position: int | None, reason: str) -> None:
        self.reason = reason
        if position is None:
            return
        for cover in self._covers:
            cover.lost += position < cover.until
        future = self._sends.get(position)
        if future is not None and not future.done():
            future.set_exception(Undelivered(1, reason))


async def settled(*asked: tuple[Ledger, int, int]) -> None:
    """Wait, in each ledger, until everything before a position is settled.

    Args:
        asked: ledgers, each with the position of the first event that is not settled, and of that behind the last one.

    Raises:
        Undelivered: some of it was lost and no flush has said so yet.
    """
    covers = [(ledger, ledger.cover(oldest, until)) for ledger, oldest, until in asked]
    try:
        for _, cover in covers:
            await cover.done
    finally:
        for ledger, cover in covers:
            ledger.uncover(cover)
    # Nothing is told before all is settled: where this wait is cut off, the next flush tells it.
    told = [(ledger.tell(cover), ledger.reason) for ledger, cover in covers]
    if count := sum(lost for lost, _ in told):
        raise Undelivered(count, next(reason for lost, reason in told if lost))
