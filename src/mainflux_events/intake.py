"""What was fetched and is not handed out yet: batches of entries come in, runs of decoded events go out."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Final

from .entries import Entries
from .errors import EventsError
from .events import Event
from .inbox import Batch, Inbox, Part
from .keeper import Keeper, Track
from .notices import Notice
from .sieve import Sieve

# So many bytes are begun of several streams together, as may be of one batch: what is begun is read ahead.
BESIDE_BYTES: Final = 4 * 1024 * 1024


class Run:
    """Entries that follow each other, at first some that were passed over, then decoded ones.

    Attributes:
        track, keeper: of what they are entries, and who is to be told.
        entries: as they came.
        passed: how many of them were passed over at first.
        events: the events of those behind them.
        unreadable: why the one behind them cannot be handed out, where it is to be dead-lettered; then there are no
            events.
        ends: for each of these, how many of the entries are finished when it is, with those that were passed over
            behind it.
    """

    __slots__ = ("ends", "entries", "events", "keeper", "passed", "track", "unreadable")

    def __init__(
        self,
        part: Part | Run,
        entries: Entries,
        passed: int,
        events: list[Event],
        unreadable: EventsError | None,
        ends: Sequence[int],
    ) -> None:
        self.track: Track = part.track
        self.keeper: Keeper = part.keeper
        self.entries: Entries = entries
        self.passed: int = passed
        self.events: list[Event] = events
        self.unreadable: EventsError | None = unreadable
        self.ends: Sequence[int] = ends

    def end(self, handled: int) -> int:
        """How many of the entries are finished when so many of the events are: also the place of the next one's."""
        return self.ends[handled - 1] if handled else self.passed

    def behind(self, finished: int) -> Run:
        """What is left of it, when so many of the entries are finished."""
        handled = bisect_right(self.ends, finished)
        return Run(
            self,
            self.entries[finished:],
            max(0, self.passed - finished),
            self.events[handled:],
            None if handled else self.unreadable,
            [end - finished for end in self.ends[handled:]],
        )

    def up_to(self, events: int) -> Run:
        """The begin of it, with so many of the events."""
        end = self.end(events)
        unreadable = self.unreadable if events else None
        return Run(
            self, self.entries[:end], self.passed, self.events[:events], unreadable, self.ends[:events]
        )

    def forget_passed(self) -> None:
        """Keep only the IDs of entries that were passed over."""
        fields: list[list[bytes] | None] = [None] * len(self.entries)
        for place in [self.passed, *self.ends][: len(self.ends)]:
            fields[place] = self.entries.fields[place]
        self.entries = Entries(self.entries.ids, fields)


class Intake:
    """Between the readers, who put batches into the inbox, and whoever consumes the events.

    Args:
        sieve: what decodes.
    """

    def __init__(self, sieve: Sieve) -> None:
        self.inbox: Inbox = Inbox()
        self._sieve = sieve
        # What is begun. Where nothing is to be told in between, streams take turns.
        self._parts: deque[Part | Notice] = deque()
        self._given_back: deque[Run] = deque()

    def give_back(self, runs: Iterable[Run]) -> None:
        """These were taken and come again, each in one piece, before what follows them."""
        self._given_back.extendleft(reversed([run for run in runs if run.entries]))

    @property
    def at_notice(self) -> bool:
        """Whether all that was taken has to be finished before `next_run` is called."""
        return not self._given_back and bool(self._parts) and isinstance(self._parts[0], Notice)

    def next_run(self, most: int, window: int = 0) -> Run | None:
        """The next entries, as many at most, decoded; None where nothing more has been fetched.

        Where it is `at_notice`, all entries before have to be finished, for what stands between is told. With a window,
        streams take turns, each time with an equal part of the window at most. Where events are handled one after the
        other nothing is gained by that, and what is in memory for longer costs time.

        Raises:
            StreamGap, StreamReset: what stands between, by the policy. The next call goes on behind it.
        """
        if self._given_back:
            return self._given_back.popleft()
        while self._parts and isinstance(notice := self._parts[0], Notice):
            notice.deliver()
            self._parts.popleft()
        if not self._parts:
            return None
        if window:
            self.inbox.let_all_proceed()
            if self.inbox.fresh:
                self._begin_others()
            most = min(most, max(1, window // len(self._parts)))
        part = self._parts[0]
        assert isinstance(part, Part)
        entries = part.entries[: min(most, part.keeper.room())]
        if part.refused is None:
            passed, events, unreadable, ends = self._sieve.sift(part.track.stream, entries)
        else:
            events = []
            passed, unreadable = self._sieve.refuse(part.track.stream, entries, part.refused)
            ends = [] if unreadable is None else [1]
        looked_at = ends[-1] if ends else passed
        if looked_at == len(part.entries.ids):
            self._parts.popleft()
            self.inbox.fresh = True  # what was passed over may be begun now
        else:
            part.entries.take_off(looked_at)
            if window and len(self._parts) > 1 and not self._something_to_tell:
                self._parts.rotate(-1)
        return Run(part, entries[:looked_at], passed, events, unreadable, ends)

    @property
    def _something_to_tell(self) -> bool:
        return any(isinstance(part, Notice) for part in self._parts)

    def _begin_others(self) -> None:
        """Begin with further streams, beside those that are begun, as long as these are not large."""
        self.inbox.fresh = False
        if self._something_to_tell:
            return
        streams = {part.stream for part in self._parts}
        room = BESIDE_BYTES - sum(part.size for part in self._parts if isinstance(part, Part))
        while (batch := self.inbox.get_beside(streams, room)) is not None:
            self._parts.extend(batch.shared_out())
            batch.taken(0.0)
            streams.update(part.stream for part in batch.parts)
            room -= batch.size

    @property
    def waits_since(self) -> float | None:
        """Since when there is something to be taken; None where there is nothing. 0, where some of it was taken."""
        if self._parts or self._given_back:
            return 0.0
        return None if self.inbox.empty() else self.inbox.since

    def clear(self) -> None:
        """Forget all that was fetched."""
        self._given_back.clear()
        self._parts.clear()
        for _ in range(self.inbox.qsize()):
            item = self.inbox.get_nowait()
            if not isinstance(item, Batch):
                self.inbox.put_nowait(item)

    def drop(self, stream: str) -> None:
        """Forget what was fetched of one stream."""
        self._given_back = deque(run for run in self._given_back if run.track.stream != stream)
        self._parts = deque(part for part in self._parts if part.stream != stream)
        for _ in range(self.inbox.qsize()):
            item = self.inbox.get_nowait()
            if isinstance(item, Batch):
                item.parts = [part for part in item.parts if part.stream != stream]
            self.inbox.put_nowait(item)

    async def refill(self) -> bool:
        """Wait for the next batch. Gives whether there is one; there is none when all is over.

        Raises:
            Exception: what no further attempt can mend.
        """
        began = monotonic() if self.inbox.empty() else None
        if began is not None:
            self.inbox.hurry()
        item = await self.inbox.get()
        if isinstance(item, Batch):
            self._parts.extend(item.shared_out())
            item.taken(0.0 if began is None else monotonic() - began)
            return True
        self.inbox.put_nowait(item)  # for whoever asks again
        if item is not None:
            raise item.with_traceback(None)
        return False
