"""How many entries are asked for at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# One batch: so many entries of a stream at most, and about so many bytes in all. As long as the handlers are the
# slower ones, batches are short: two of them, and one that is being parsed, are fewer containers than the 700 that set
# off a collection of the garbage collector. At a distance from the server they grow, until who wants one waits no
# longer than this part of the time that it is handled in, or these seconds: parsing takes about a third of the one, and
# of a short one less than the other. When so many in a row came in time, half as many may do.
FIRST_ENTRIES: Final = 16
SHORT_ENTRIES: Final = 128
MOST_ENTRIES: Final = 4096
MOST_WAITING: Final = 0.4
SHORT_WAITING: Final = 0.001
MANY_IN_TIME: Final = 16
BATCH_BYTES: Final = 4 * 1024 * 1024


class Sizing:
    """Learns from each batch how long the next may be.

    Args:
        streams: of how many streams a batch is.
        first: how many entries of each to ask for at first.
    """

    def __init__(self, streams: int, first: int) -> None:
        self._streams = streams
        self._fitting = first
        self._most = SHORT_ENTRIES
        self._in_time = 0
        # How many entries of a stream came last, and before that; whether there were as many as asked for.
        self._last = self._last_but_one = 0
        self._full = False

    @property
    def entries(self) -> int:
        """How many entries of a stream to ask for."""
        return min(self._fitting, self._most)

    def came(self, counts: Sequence[int], size: int, shown: int = 0) -> None:
        """Expect of the next entries what these had in bytes. The commands themselves know no bound in bytes.

        More than last time only where there were as many: of a few entries the size of many cannot be told.

        Args:
            counts: how many came of each stream.
            size: how many bytes came.
            shown: how many entries came besides.
        """
        self._last_but_one, self._last = self._last, max(counts)
        self._full = self._last == self.entries
        fitting = BATCH_BYTES * (sum(counts) + shown) // (size * self._streams)
        self._fitting = max(1, min(fitting, self.entries * (2 if self._full else 1)))

    def taken(self, handling: float, waited: float) -> None:
        """The batch is wanted.

        Args:
            handling: the seconds that the one before it was handled in.
            waited: the seconds that whoever wants it had to wait for it.
        """
        if not self._last_but_one:
            return  # nothing was fetched beside that
        fetching = handling + waited
        # Had that batch been as long as one may be.
        handling *= self._most / self._last_but_one
        if waited > SHORT_WAITING and fetching > handling * (1 + MOST_WAITING):
            self._in_time = 0
            if self._full:
                self._most = min(self._most * 2, MOST_ENTRIES)
            return
        self._in_time += 1
        if self._in_time == MANY_IN_TIME:
            self._in_time = 0
            self._most = max(self._most // 2, SHORT_ENTRIES)

    def limit(self, entries: int) -> None:
        """Ask for no more than this of a stream, as long as they are handled as slowly as now."""
        self._most = max(1, min(self._most, entries))
