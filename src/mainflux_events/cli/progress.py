"""How many of something are done so far: a line on stderr, where that is a terminal."""

from __future__ import annotations

from time import monotonic
from types import TracebackType
from typing import Final, Self

from rich.live import Live
from rich.text import Text

from .output import make_console

# Seconds between two looks.
_EVERY: Final = 0.2


class Progress:
    """While it is entered, shows a count that grows, and its rate since the beginning.

    Args:
        what: what is counted, such as "published".
    """

    def __init__(self, what: str) -> None:
        self._what = what
        console = make_console(stderr=True)
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )
        self._began = self._due = monotonic()

    def __call__(self, count: int) -> None:
        """So many are done."""
        now = monotonic()
        if self._live is not None and now >= self._due:
            self._due = now + _EVERY
            rate = count / (now - self._began) if now > self._began else 0.0
            self._live.update(Text(f"{self._what} {count:,}, {rate:,.0f} a second"), refresh=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
