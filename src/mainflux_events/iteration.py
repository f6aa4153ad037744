"""One loop over events, and the quick way through it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import monotonic
from typing import Protocol

from .events import Event
from .keeper import Keeper


class Steps(Protocol):
    """What hands events out, one after the other: see `Consumer`."""

    _events: list[Event]
    _place: int
    _stop: int
    _turn_due: float
    _keeper: Keeper

    async def _advance(self) -> Event:
        """Finish the event in hand, and give the next."""
        ...


class Iteration(AsyncIterator[Event]):
    """One loop over events. That it is left shows in its end, which a weak reference tells of.

    A step that is cancelled does not end the loop, as it would end a generator.
    """

    __slots__ = ("__weakref__", "_consumer")

    def __init__(self, consumer: Steps) -> None:
        self._consumer = consumer

    async def __anext__(self) -> Event:
        consumer = self._consumer
        place = consumer._place
        if place < consumer._stop and not consumer._keeper.turned and monotonic() < consumer._turn_due:
            consumer._place = place + 1
            return consumer._events[place]
        del self  # the traceback of an error would keep it, and with it this loop
        return await consumer._advance()
