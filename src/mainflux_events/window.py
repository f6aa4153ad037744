"""Events that are handled at the same time or wait for their turn: which may go next, and up to where all are finished.

Handlers of different keys run at once, those of one key in turn, so events are finished in any order. Who stores how
far a stream is handled hears only of entries before which no other is unfinished.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from operator import sub
from typing import Final

from .events import Event
from .intake import Run
from .keeper import Track

# So many entries may be there, where most are passed over and few are events. Of those only the ID is kept.
MOST_ENTRIES: Final = 50_000


class Lane:
    """The events of one key: those that wait, and whether one before them is being handled."""

    __slots__ = ("busy", "key", "waiting")

    def __init__(self, key: Hashable) -> None:
        self.key: Hashable = key
        self.waiting: deque[Slot] = deque()
        self.busy: bool = False


class Slot:
    """An event in the window: the run that it is of, and its place there."""

    __slots__ = ("lane", "number", "place", "stretch")

    def __init__(self, stretch: Stretch, place: int, number: int) -> None:
        self.stretch: Stretch = stretch
        self.place: int = place
        self.number: int = number
        self.lane: Lane | None = None

    @property
    def run(self) -> Run:
        """The run that it is of."""
        return self.stretch.run

    @property
    def window(self) -> Window:
        """The window that it is in."""
        return self.stretch.window

    @property
    def dropped(self) -> bool:
        """Whether its stream was dropped, since it was added."""
        return self.stretch.dropped

    @property
    def event(self) -> Event:
        """The event itself. There is none where the entry cannot be handed out."""
        return self.stretch.run.events[self.place]


class Stretch:
    """A run in the window: which of its events are finished, and how much of it was told to its keeper."""

    __slots__ = ("dropped", "finished", "kept", "run", "told", "window")

    def __init__(self, window: Window, run: Run) -> None:
        self.window: Window = window
        if len(run.ends) < len(run.entries):
            run.forget_passed()
        self.run: Run = run
        self.finished: bytearray = bytearray(len(run.ends))
        self.kept: int = 0
        self.told: int = 0
        self.dropped: bool = False

    def advance(self) -> tuple[int, int]:
        """Tell the keeper what is finished from the begin on. Gives how many events that were, and entries."""
        run = self.run
        kept = self.finished.find(0, self.kept)
        if kept < 0:
            kept = len(self.finished)
        told = run.end(kept)
        advanced = kept - self.kept, told - self.told
        if advanced[1]:
            run.keeper.finished(run.track, run.entries.ids[self.told : told])
            self.kept, self.told = kept, told
        return advanced

    def cut(self, events: int) -> None:
        """Keep so many of its events, at least those that were told."""
        self.run = self.run.up_to(events)
        del self.finished[events:]

    @property
    def left(self) -> tuple[int, int]:
        """How many of its events, and of its entries, were not told."""
        return len(self.finished) - self.kept, len(self.run.entries) - self.told

    @property
    def over(self) -> bool:
        """Whether all of it is finished."""
        return self.kept == len(self.finished)


class Window:
    """Events in the order in which they were read. Each is queued, taken, finished and released.

    Args:
        size: how many events there may be from the oldest unfinished one on.

    Attributes:
        available: how many events wait for nobody but a free handler.
        in_flight: how many are being handled.
    """

    def __init__(self, size: int) -> None:
        self.available: int = 0
        self.in_flight: int = 0
        self._free = size
        self._free_entries = max(size, MOST_ENTRIES)
        self._numbers = count()
        self._stretches: dict[Track, deque[Stretch]] = {}
        # Events that have no key, as all are handled in turn.
        self._in_turn: deque[Slot] = deque()
        self._lanes: dict[Hashable, Lane] = {}
        # Lanes with an event that may go next, by the number of that event: the oldest goes first.
        self._ready: list[tuple[int, Lane]] = []

    @property
    def room(self) -> int:
        """How many more entries may be added."""
        return min(self._free, self._free_entries)

    @property
    def unfinished(self) -> bool:
        """Whether there are events that are not finished, or that are behind one of those."""
        return any(self._stretches.values())

    def add(self, run: Run) -> list[Slot]:
        """Take the next entries. Each slot has to be queued, or to be finished without being taken."""
        stretch = Stretch(self, run)
        self._free -= len(run.ends)
        self._free_entries -= len(run.entries)
        stretches = self._stretches.setdefault(run.track, deque())
        stretches.append(stretch)
        if len(stretches) == 1:
            self._advance(run.track)
        return [Slot(stretch, place, next(self._numbers)) for place in range(len(run.ends))]

    def queue_in_turn(self, slot: Slot) -> None:
        """An event waits behind all others. In one window it is either this for all of them, or by key."""
        self._in_turn.append(slot)
        self.available += 1

    def queue(self, slot: Slot, key: Hashable) -> None:
        """An event waits behind those of the same key. Raises TypeError for a key that has no hash."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        slot.lane = lane
        lane.waiting.append(slot)
        if not lane.busy:
            self.available += 1
            if len(lane.waiting) == 1:
                heappush(self._ready, (slot.number, lane))

    def take(self, most: int) -> list[Slot]:
        """The next events to be handled, as many at most, in their order. Of one key, all that wait."""
        taken: list[Slot] = []
        while self._in_turn and len(taken) < most:
            taken.append(self._in_turn.popleft())
            self.available -= 1
        while self._ready and len(taken) < most:
            _, lane = heappop(self._ready)
            lane.busy = True
            waiting = lane.waiting
            self.available -= len(waiting)
            while waiting and len(taken) < most:
                taken.append(waiting.popleft())
        if most > 1:
            taken.sort(key=_number)
        self.in_flight += len(taken)
        return taken

    def finish(self, slots: Sequence[Slot]) -> int:
        """These are finished. Gives how many of them were not before: none of a stream that was dropped."""
        count = 0
        tracks: set[Track] = set()
        for slot in slots:
            if slot.dropped:
                continue
            finished = slot.stretch.finished
            count += not finished[slot.place]
            finished[slot.place] = True
            tracks.add(slot.stretch.run.track)
        for track in tracks:
            self._advance(track)
        return count

    def release(self, slots: Sequence[Slot]) -> None:
        """All that were taken together are done with: what waits behind them may go next."""
        self.in_flight -= len(slots)
        for slot in slots:
            lane = slot.lane
            if lane is None or not lane.busy:
                continue
            lane.busy = False
            if lane.waiting:
                self.available += len(lane.waiting)
                heappush(self._ready, (lane.waiting[0].number, lane))
            else:
                del self._lanes[lane.key]

    # --- streams that go ---

    def withdraw(self, stream: str) -> bool:
        """Let no more of a stream begin than what is before an event of it that has. Gives whether any of it is left.

        So all that was finished is told in the end, and nothing of it is handled again by whoever goes on behind it.
        """
        waiting = {(slot.stretch, slot.place) for slot in self._waiting()}
        for track in self._tracks(stream):
            stretches = self._stretches[track]
            while stretches and self._cut(stretches[-1], waiting):
                stretches.pop()
            self._advance(track)
        self._keep(lambda slot: slot.place < len(slot.stretch.finished))
        return any(self._stretches[track] for track in self._tracks(stream))

    def drop(self, stream: str) -> None:
        """Forget all of a stream: nothing more of it begins, and nothing that is finished of it counts any more."""
        for track in self._tracks(stream):
            for stretch in self._stretches.pop(track):
                stretch.dropped = True
                self._free_up(*stretch.left)
        self._keep(lambda slot: not slot.dropped)

    def _tracks(self, stream: str) -> list[Track]:
        return [track for track in self._stretches if track.stream == stream]

    def _waiting(self) -> Iterator[Slot]:
        yield from self._in_turn
        for lane in self._lanes.values():
            yield from lane.waiting

    def _cut(self, stretch: Stretch, waiting: Container[tuple[Stretch, int]]) -> bool:
        """Take those off its end that wait. Gives whether there are no others."""
        before = stretch.left
        events = len(stretch.finished)
        while events and (stretch, events - 1) in waiting:
            events -= 1
        stretch.cut(events)
        self._free_up(*map(sub, before, stretch.left if events else (0, 0)))
        return not events

    def _free_up(self, events: int, entries: int) -> None:
        self._free += events
        self._free_entries += entries

    def _keep(self, wanted: Callable[[Slot], bool]) -> None:
        """Of the events that wait, let all others wait no more."""
        self._in_turn = deque(filter(wanted, self._in_turn))
        for lane in self._lanes.values():
            lane.waiting = deque(filter(wanted, lane.waiting))
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.busy or lane.waiting}
        free = [lane for lane in self._lanes.values() if not lane.busy]
        self._ready = [(lane.waiting[0].number, lane) for lane in free]
        heapify(self._ready)
        self.available = len(self._in_turn) + sum(len(lane.waiting) for lane in free)

    # --- up to where all are finished ---

    def _advance(self, track: Track) -> None:
        stretches = self._stretches[track]
        while stretches:
            self._free_up(*stretches[0].advance())
            if not stretches[0].over:
                break
            stretches.popleft()

    def slot_of(self, event: Event) -> Slot | None:
        """Where an event is; None where it is not here. Takes its time."""
        for stretches in self._stretches.values():
            for stretch in stretches:
                for place, each in enumerate(stretch.run.events):
                    if each is event:
                        return Slot(stretch, place, -1)
        return None

    def is_first(self, slot: Slot) -> bool:
        """Whether all before it, of its stream, are finished."""
        stretch = self._stretches[slot.stretch.run.track][0]
        return stretch is slot.stretch and stretch.kept == slot.place

    def rest(self) -> list[Run]:
        """What was not told to its keeper, by streams, in order."""
        return [
            stretch.run.behind(stretch.told)
            for stretches in self._stretches.values()
            for stretch in stretches
        ]


def _number(slot: Slot) -> int:
    return slot.number
