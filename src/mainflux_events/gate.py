"""Until when events may be handed out, where somebody else may come to have the right to."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from time import monotonic


class Gate:
    """Open for ever, unless somebody sets an end.

    Attributes:
        until: until when it is open, by the monotonic clock.
        turn: goes up when what was handed out is not to be handled any further.
    """

    def __init__(self) -> None:
        self.until: float = math.inf
        self.turn: int = 0
        self._opened = math.inf
        self._barred = False
        self._error: Exception | None = None
        self._news = asyncio.Event()

    def open(self, until: float) -> None:
        """It is open until this moment, unless it is barred."""
        self._opened = until
        self.until = 0.0 if self._barred else until
        self._news.set()

    def bar(self, barred: bool) -> None:
        """It is closed, whoever opens it, until it is not barred any more."""
        self._barred = barred
        self.open(self._opened)

    def fail(self, error: Exception) -> None:
        """It stays closed, for this reason."""
        self._error = error
        self.bar(True)

    def end_turn(self) -> None:
        """What was handed out is not to be handled any further."""
        self.turn += 1
        self.wake()

    async def still(self, turn: int, seconds: float) -> bool:
        """Wait so long, and until it is open; or until this turn is over.

        Gives whether what it handed out in this turn may be handled further.
        """
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while self.turn == turn:
                        await self.news()
            while self.turn == turn and monotonic() >= self.until:
                await self.news()
        except Exception:  # it will never be open again, which others have to tell
            return False
        return self.turn == turn

    def wake(self) -> None:
        """Whoever waits shall look again."""
        self._news.set()

    async def news(self) -> None:
        """Wait until something has changed. Raises why that will never be."""
        if self._error is not None:
            raise self._error.with_traceback(None)
        self._news.clear()
        await self._news.wait()
