"""One loop over events. That it is left shows in its end, which a weak reference tells of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from .events import Event


class Iteration(AsyncIterator[Event]):
    """Asks for one event after another.

    Args:
        ask: what gives the next event. A step that is cancelled does not end the loop, as it would a generator.
    """

    __slots__ = ("__weakref__", "_ask")

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, Event]]) -> None:
        self._ask = ask

    def __anext__(self) -> Coroutine[Any, Any, Event]:
        return self._ask()
