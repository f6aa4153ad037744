"""Turns of the event loop, which handlers that never await anything would keep from others."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

# How many entries may be looked at, and for how long, before the event loop gets a turn.
TURN_EVENTS: Final = 64
TURN_SECONDS: Final = 0.001


class Turns:
    """The turns in which something is finished, by several tasks.

    Attributes:
        count: how many there were.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self._due = 0.0
        self._fresh = asyncio.Event()  # set, where nothing was finished in this turn yet
        self._fresh.set()

    def finished(self) -> bool:
        """Something is finished. Gives whether it is the first in this turn."""
        if not self._fresh.is_set():
            return False
        self._fresh.clear()
        asyncio.get_running_loop().call_soon(self._begin)
        return True

    def _begin(self) -> None:
        self.count += 1
        self._due = monotonic() + TURN_SECONDS
        self._fresh.set()

    async def give(self) -> None:
        """Wait for the next turn, where this one has taken its time."""
        while not self._fresh.is_set() and monotonic() >= self._due:
            await self._fresh.wait()
