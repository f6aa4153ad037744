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


class _Flush:
    """One caller of `flush`: what it covers, and how much of that was lost before and since it began."""

    def __init__(self, until: int, lost_before: int, done: asyncio.Future[None]) -> None:
        self.until = until
        self.lost_before = lost_before
        self.lost_since = 0
        self.done = done


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
        self._flushes: list[_Flush] = []
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

    async def settled(self, oldest: int, until: int) -> None:
        """Wait until everything before position `until` is settled; `oldest` is the first that is not.

        Raises:
            Undelivered: some of it was lost and no flush has said so yet.
        """
        lost = await self.losses(oldest, until)
        if count := self.tell(lost):
            raise Undelivered(count, self.reason)

    async def losses(self, oldest: int, until: int) -> tuple[int, int]:
        """Wait as `settled` does. Gives what was lost up to there, and what flushes had told of when this one began."""
        reported = self._lost_reported
        flush = _Flush(until, self.dropped + self.undelivered, asyncio.get_running_loop().create_future())
        if oldest < until:
            self._flushes.append(flush)
            try:
                await flush.done
            finally:
                self._flushes.remove(flush)
        return flush.lost_before + flush.lost_since, reported

    def tell(self, losses: tuple[int, int]) -> int:
        """A flush tells of its losses. Gives how many of them no flush had told of."""
        lost, reported = losses
        self._lost_reported = max(self._lost_reported, lost)
        return max(0, lost - reported)

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
        for flush in self._flushes:
            if flush.until <= oldest and not flush.done.done():
                flush.done.set_result(None)

    def _note_lost(self, position: int | None, reason: str) -> None:
        self.reason = reason
        if position is None:
            return
        for flush in self._flushes:
            flush.lost_since += position < flush.until
        future = self._sends.get(position)
        if future is not None and not future.done():
            future.set_exception(Undelivered(1, reason))
