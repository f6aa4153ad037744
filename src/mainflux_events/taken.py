"""What one `run` has taken to handle at the same time: which events are at work, and what has become of the others.

All of it may be forgotten, or what is of one stream. What is at work of that goes on, and counts for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container
from operator import itemgetter
from typing import Any, TypeAlias

from .events import Event
from .intake import Run
from .window import Slot, Window

# Has the entry of an event dead-lettered: its run and its place there, why, how often its handler was called, and
# whether all before it is finished. Gives whether it was; None where it could not be.
Bury: TypeAlias = "Callable[[Run, int, BaseException, int, bool], Awaitable[bool | None]]"


class Unburied(Exception):
    """The entry of an event could not be dead-lettered: the subscriber closes, or may pass nothing any more."""


class Taken:
    """The events in the window of one `run`, and the calls of the handler.

    Args:
        size: how many events there may be.
        bury: has the entry of an event dead-lettered.

    Attributes:
        finished: how many events are done with.
        given_up: how many of them were given up.
    """

    def __init__(self, size: int, bury: Bury) -> None:
        self._size = size
        self._bury = bury
        self._window = Window(size)
        # The calls of the handler, by their tasks: when each began, and with what. Who makes them notes them here.
        self._began: dict[asyncio.Task[None], tuple[float, list[Slot]]] = {}
        # Those of them that are for events which were forgotten.
        self._strange = 0
        # Nothing counts any more.
        self._closed = False
        self.finished: int = 0
        self.given_up: int = 0

    @property
    def in_hand(self) -> int:
        """How many events are being handled."""
        return self._window.in_flight

    @property
    def oldest_call(self) -> tuple[float, Event] | None:
        """When the oldest call of the handler began, and with which event; None where there is none."""
        began = min(list(self._began.values()), key=itemgetter(0), default=None)
        return None if began is None else (began[0], began[1][0].event)

    def at_work(self, but: Container[asyncio.Task[Any] | None]) -> set[str]:
        """The streams of the events that are being handled, but for those of these tasks."""
        return {
            slot.run.track.stream
            for task, (_, slots) in self._began.items()
            if task not in but
            for slot in slots
            if slot.window is self._window and not slot.dropped
        }

    @property
    def unfinished(self) -> bool:
        """Whether there are events in the window."""
        return self._window.unfinished

    def lost(self, event: Event) -> bool:
        """Whether an event that is at work was forgotten meanwhile."""
        return self._window.slot_of(event) is None

    def rest(self) -> list[Run]:
        """What is not finished, and what is behind it."""
        return self._window.rest()

    def close(self) -> None:
        """What is being handled still does not count as handled any more."""
        self._closed = True

    def abandon(self) -> None:
        """Forget all events: they come again. What is being handled of them is waited for before that."""
        self._window = Window(self._size)
        self._strange = len(self._began)

    def withdraw(self, stream: str) -> bool:
        """Begin no more of a stream than has to be, so that none of it is finished above an unfinished one.

        Gives whether nothing of it is left, neither at work nor waiting.
        """
        return not self._window.withdraw(stream)

    def drop(self, stream: str) -> None:
        """Forget all of a stream. What is at work of it goes on to its end, and counts for nothing."""
        self._window.drop(stream)

    async def bury(self, event: Event, error: BaseException, attempts: int) -> None:
        """Have the entry of an event dead-lettered, and finish it.

        Raises:
            Unburied: it could not be.
        """
        if self._strange:
            raise Unburied
        if (slot := self._window.slot_of(event)) is not None:  # else its stream was dropped
            await self._bury_slot(slot, error, attempts)

    async def _bury_slot(self, slot: Slot, error: BaseException, attempts: int) -> None:
        first = slot.window.is_first(slot)
        buried = await self._bury(slot.run, slot.place, error, attempts, first)
        if slot.dropped:
            return
        if buried is None or slot.window is not self._window:
            raise Unburied
        self._finish([slot], buried)

    def _finish(self, slots: list[Slot], done: bool) -> None:
        finished = self._window.finish(slots)
        self.finished += finished
        if not done:
            self.given_up += finished
