"""Lines from stdin, as they come."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Final

from .running import readable

# Bytes of the longest line, and of one read.
LONGEST: Final = 16 * 1024 * 1024
_CHUNK: Final = 64 * 1024


class Lines:
    """Cuts what is read into lines, and numbers them. What is blank is left out.

    Args:
        longest: bytes that a line may have.
    """

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._number = 0
        self._rest = bytearray()
        self._too_long = False

    def feed(self, chunk: bytes) -> Iterator[tuple[int, str | None]]:
        """The lines that end with this, None for one that is too long. An empty chunk is the end of all."""
        *whole, rest = chunk.split(b"\n")
        for end in whole if chunk else [b"\n"]:
            self._add(end)
            yield from self._line()
        self._add(rest)

    def _add(self, part: bytes) -> None:
        if len(self._rest) + len(part) > self._longest:
            self._too_long = True
            self._rest.clear()
        elif not self._too_long:
            self._rest += part

    def _line(self) -> Iterator[tuple[int, str | None]]:
        self._number += 1
        text = self._rest.decode("utf-8", "surrogateescape").strip()
        if self._too_long:
            yield self._number, None
        elif text:
            yield self._number, text
        self._rest.clear()
        self._too_long = False


async def numbered_lines() -> AsyncIterator[tuple[int, str | None]]:
    """The lines of stdin with their numbers; None for one that is longer than `LONGEST`."""
    lines, file = Lines(), sys.stdin.fileno()
    while True:
        await readable(file)
        chunk = os.read(file, _CHUNK)
        for numbered in lines.feed(chunk):
            yield numbered
        if not chunk:
            return
