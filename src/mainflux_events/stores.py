"""Cursors that are kept elsewhere than in Redis: what a store has to do, and what is known of what it holds.

A cursor moves by compare-and-set only: from what this subscriber stored last. So of two readers of one name, the one
that comes second moves nothing. A store whose moves can be part of a transaction has the effects of a handler and the
move of the cursor committed together, or neither: that is how each event takes effect exactly once.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType

from .cursor import Cursor, padded
from .errors import AlreadyHandled, ConfigError, LeaseLost, NotStarted
from .events import Event
from .link import Reply


class Position(Cursor):
    """The cursor of one stream in a store.

    Attributes:
        name: the subscriber's.
        known: the ID that this subscriber stored last, None before it has begun.
        lost: told of what was found instead, where somebody else moved the cursor.
    """

    def __init__(self, name: str, stream: str) -> None:
        super().__init__(name, stream)
        self.name: str = name
        self.known: str | None = None
        self.lost: Callable[[str], None] | None = None
        # What may be stored, for nobody has answered.
        self._doubted: set[str] = set()
        self._goes_back = False

    def attach(self, id: str) -> None:
        super().attach(id)
        self.moved(id)

    def go_back(self, id: str) -> None:
        self._handled = id.encode()
        self._goes_back = True

    def is_behind(self, reply: Reply) -> bool:
        found = reply.decode("ascii", "replace") if isinstance(reply, bytes) else None
        return found is not None and found != self.known and found not in self._doubted

    @property
    def goes_back(self) -> bool:
        return self._goes_back

    @property
    def due(self) -> bool:
        if self.known is None:
            return False
        return self._goes_back or padded(self.known) < padded(self.handled)

    @property
    def settled(self) -> bool:
        return not self.due

    def doubt(self, id: str) -> None:
        """From now on this may be stored."""
        self._doubted.add(id)

    def moved(self, id: str) -> None:
        """This is stored."""
        self.known = id
        if id == self.handled:  # else it was sent before it was to go back
            self._goes_back = False
        self._doubted.clear()  # what arrives late expects what is not there any more

    def refused(self, found: str | None, id: str) -> bool:
        """The cursor did not move to this ID, because this is stored. Gives whether that is what was to be.

        Raises:
            LeaseLost: it is from somebody else.
        """
        if found is None or found not in self._doubted:
            if self.lost is not None:
                self.lost(found or "")
            raise LeaseLost(
                self.name, f"the cursor was moved to {found or 'nothing'} by somebody else; make another one"
            )
        self.known = found
        return found == id


class Move:
    """One move of a cursor, as a part of a transaction.

    Attributes:
        name, stream: which cursor.
        id: what it is moved to.
    """

    def __init__(self, position: Position, id: str) -> None:
        self._position = position
        self.name: str = position.name
        self.stream: str = position.stream
        self.id: str = id

    @property
    def expected(self) -> str:
        """What it is moved from: it must not move, unless this is what is stored."""
        assert self._position.known is not None
        return self._position.known

    def refused(self, found: str | None) -> None:
        """It did not move, because this is stored. Where this returns, it is to be tried again.

        Raises:
            LeaseLost: somebody else has moved it.
            AlreadyHandled: an earlier transaction was committed after all.
        """
        if self._position.refused(found, self.id):
            raise AlreadyHandled(self.stream, self.id)

    def committing(self) -> None:
        """The transaction is about to be committed: from now on, nobody knows, until that is answered."""
        self._position.doubt(self.id)


class CursorStore(ABC):
    """Where a subscriber keeps its cursors, if not in Redis: one object for each `Subscriber(cursors=…)`.

    To write one, subclass it and say how a cursor is loaded and moved. What these raise is taken for an outage, and
    tried again; but for an `EventsError`, which `start` raises.
    """

    _positions: Mapping[str, Position] = MappingProxyType({})
    _lock: asyncio.Lock
    _owner: object = None

    @abstractmethod
    async def load(self, name: str, stream: str) -> str | None:
        """The ID that is stored for this subscriber and stream, None where there is none."""

    @abstractmethod
    async def move(self, name: str, stream: str, expected: str | None, id: str) -> bool:
        """Store this ID, if what is stored is the expected one (None: nothing), as one step.

        Gives whether it was. The ID can be a smaller one: where the stream was replaced.
        """

    @asynccontextmanager
    async def moving(self, event: Event) -> AsyncGenerator[Move, None]:
        """Around a transaction that moves the cursor to this event: what stores offer as `transaction`.

        Nothing else moves cursors of this store meanwhile. That it ends without an error means that it is committed.

        Raises:
            AlreadyHandled: a transaction of this event was committed before.
            ValueError: the event is none of this subscriber.
            RuntimeError: a later one was committed before it.
        """
        async with self.moving_all([event]) as [move]:
            yield move

    @asynccontextmanager
    async def moving_all(self, events: Sequence[Event]) -> AsyncGenerator[list[Move], None]:
        """The same for a batch, which may be of several streams: a move for each, to the last event of it.

        Raises:
            AlreadyHandled: all of this was committed before; or, not about the last event, some of it.
            ValueError, RuntimeError: as `moving`; there are no events.
        """
        last = {event.stream: event for event in events}
        if not last:
            raise ValueError("transaction: an event is wanted, or several")
        # In one order, whatever that of the batch: of two readers, neither waits for what the other has locked.
        positions = [(self._position_of(last[stream]), last[stream].id) for stream in sorted(last)]
        async with self._lock:
            moves = [Move(position, id) for position, id in positions]
            try:
                for position, id in positions:
                    _check_is_next(position, id)
                yield moves
            except AlreadyHandled:
                for position, id in positions:
                    if not await self._is_committed(position, id):
                        raise
                raise AlreadyHandled(events[-1].stream, events[-1].id) from None
            for position, id in positions:
                position.moved(id)

    def _position_of(self, event: Event) -> Position:
        position = self._positions.get(event.stream)
        if position is None or not event.id:
            raise ValueError("transaction: this event was not received by the subscriber of these cursors")
        return position

    async def _is_committed(self, position: Position, id: str) -> bool:
        if position.known == id:
            return True
        found = await self.load(position.name, position.stream)
        return found != position.known and position.refused(found, id)


def _check_is_next(position: Position, id: str) -> None:
    if position.known is None:
        raise NotStarted(f"the subscriber {position.name!r}")
    if id == position.known:
        raise AlreadyHandled(position.stream, id)
    if padded(id) < padded(position.known):
        raise RuntimeError(
            f"transaction: entry {position.known} of {position.stream!r} was committed before {id}, which is done with "
            "by that: handle one event, or batch, at a time"
        )


def bound(store: CursorStore, owner: object, name: str, streams: Iterable[str]) -> dict[str, Position]:
    """Fresh cursors of a subscriber, whose store this is from now on. ConfigError where it is another's already."""
    if not isinstance(store, CursorStore):
        raise ConfigError(f"cursors: a CursorStore is wanted, such as SqlCursors, not {store!r}")
    if store._owner is None:
        store._owner, store._lock = owner, asyncio.Lock()
    elif store._owner is not owner:
        raise ConfigError("cursors: this store is used by another subscriber; make one for each")
    positions = {stream: Position(name, stream) for stream in streams}
    store._positions = positions
    return positions
