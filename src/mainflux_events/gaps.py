"""How far a stream is read, and what is gone that was not: gaps, and streams that are not the same any more.

Pure decisions, by what the server says of a stream right after each read. Retention removes the oldest entries first.
So where an entry at or before the place is still there, nothing behind the place can be missing. Where none is,
entries are counted: from Redis 7.0 on the server tells how many were ever added, and how many of them are gone.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, TypeAlias

import msgspec

from . import answers
from .cursor import FIRST, Cursor, Lag
from .entries import Entries
from .hooks import GapDetails, ResetDetails
from .link import Reply

# IDs compare as pairs of numbers: milliseconds and sequence.
Id: TypeAlias = tuple[int, int]
_ZERO: Final = (0, 0)
_LARGEST: Final = 2**64 - 1

# So many of the entries that were read are remembered at most.
MOST_MARKS: Final = 128


def number(id: bytes | str) -> Id:
    """An ID as two numbers."""
    milliseconds, sequence = id.split(b"-") if isinstance(id, bytes) else id.split("-")
    return int(milliseconds), int(sequence)


class Extent(msgspec.Struct, frozen=True, gc=False):
    """What the server says of a stream at one moment.

    Attributes:
        length: how many entries are there.
        first: the ID of the first of them, None where there is none.
        last: the last ID that the stream has given.
        added: how many entries were ever added; None before Redis 7.0.
        removed: how many of those are gone; None before Redis 7.0.
        deleted: the highest ID that was removed by XDEL. Trimming does not show in it.
    """

    length: int
    first: Id | None
    last: Id
    added: int | None
    removed: int | None
    deleted: Id

    @classmethod
    def of(cls, reply: Reply) -> Extent:
        """The answer to XINFO STREAM. A stream that is not there is an empty one.

        Raises:
            Refusal: the server does not answer.
        """
        said = answers.stream(reply)
        first, added, deleted = said.first_id, said.entries_added, said.max_deleted_entry_id
        return cls(
            said.length,
            None if first is None else number(first),
            number(said.last_generated_id),
            added,
            None if added is None else added - said.length,
            _ZERO if deleted == b"0-0" else number(deleted),
        )

    @property
    def last_id(self) -> str:
        """The last ID as Redis writes it."""
        return f"{self.last[0]}-{self.last[1]}"

    def reaches(self, id: Id) -> bool:
        """Whether an entry with this ID, or a smaller one, is there."""
        return self.first is not None and self.first <= id


class Mark(msgspec.Struct, frozen=True):
    """An entry that was read, to be known again.

    Attributes:
        batch: in which batch it was the last one, from 1.
        id, digest: the entry's, and of its fields.
        passed, exact: what the place had counted up to it.
    """

    batch: int
    id: str
    digest: int
    passed: int
    exact: bool

    @property
    def before(self) -> str:
        """The highest ID below it: what is read behind that begins with this entry, if it is there."""
        milliseconds, sequence = number(self.id)
        return f"{milliseconds}-{sequence - 1}" if sequence else f"{milliseconds - 1}-{_LARGEST}"

    def outlived(self, batch: int) -> bool:
        """Whether it is forgotten by then: of the latest batches each is remembered, the older the fewer.

        So the entries that are read again where the latest ones are lost are about as many as those.
        """
        return batch - self.batch >= 4 * (self.batch & -self.batch)

    def known_again(self, entries: Entries | None) -> bool:
        """Whether this is the first of the entries that are read from before it on."""
        if not entries:
            return False
        id, fields = entries[0]
        return bool(id.decode() == self.id and hash(tuple(fields)) == self.digest)


class Place:
    """How far one stream is read, and what is known of the entries up to there.

    Attributes:
        cursor: how far it is handled.
        id: the ID behind which the next read begins.
        read: how many entries were read.
        marks: entries that were read, the last of them at last.
    """

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.id: str = ""
        self.read: int = 0
        self.marks: list[Mark] = []
        self._batches = 0
        self._at: Id = _ZERO
        # Up to here nothing is missing: the place, or the entry that was next when reading began.
        self._clear: Id = _ZERO
        # How many entries were ever added up to there, or are known to be gone from behind it: so many, or at least.
        self._passed = 0
        self._exact = False
        self._seen = Extent(0, None, _ZERO, None, None, _ZERO)

    # --- where it begins ---

    def begin(self, id: str, extent: Extent) -> None:
        """Reading begins behind this ID, for the first time: what is gone by now is not missing."""
        self._move(id)
        self._seen = extent
        removed = extent.removed
        if self._at >= extent.last:
            self._passed, self._exact = extent.added or 0, self._at == extent.last
        elif not extent.reaches(self._at):
            self._clear = extent.first or extent.last
            self._passed, self._exact = removed or 0, True
        elif removed is not None:
            self._passed = removed + 1

    def resume(self, id: str) -> None:
        """Reading goes on behind a stored ID. What happened since it was stored, nobody knows."""
        self._move(id)
        # Where a time was to begin at, the ID is that of no entry, and may be ahead of the stream.
        reached = _ZERO if self._at[1] == _LARGEST else self._at
        self._seen = Extent(0, None, reached, None, None, _ZERO)

    def _move(self, id: str) -> None:
        self.id = id
        self._at = self._clear = number(id)

    # --- another stream ---

    def broken(self, extent: Extent) -> bool:
        """Whether this cannot be said of the stream that was read until now: IDs or counts ran backwards."""
        seen = self._seen
        if extent.last < seen.last:
            return True
        added, removed = extent.added, extent.removed
        if added is None or removed is None or seen.added is None or seen.removed is None:
            return False
        if added < seen.added or removed < seen.removed:
            return True
        return removed < self._passed and not extent.reaches(self._clear)

    def reset(self, extent: Extent, kept: Mark | None) -> ResetDetails | None:
        """Go on in a stream that was replaced, from behind the last entry that both have, or from the beginning.

        Gives what is to be told; nothing where the last entry that was read is still there.
        """
        after = self.id
        self._seen = extent
        if kept is None:
            self.marks.clear()
            self._move(FIRST)
            self._passed, self._exact = 0, extent.added == 0
        else:
            del self.marks[self.marks.index(kept) + 1 :]
            self._move(kept.id)
            self._passed, self._exact = kept.passed, kept.exact
        if kept is not None and kept.id == after:
            return None
        return ResetDetails(self.cursor.stream, after, extent.last_id, self.id)

    # --- one read ---

    def follow(self, entries: Entries, extent: Extent) -> GapDetails | None:
        """Take what was read from this place on, and what was said of the stream afterwards.

        Gives what is to be told before the first of the entries.
        """
        gap = None
        ids = entries.ids
        reached = extent.reaches(self._clear)
        if ids and not reached:
            gap = self._gap(entries, extent)
        last_read = number(ids[-1]) if ids else self._at
        if extent.removed is not None:
            self._count(entries, last_read, extent, reached)
        self._seen = extent
        if ids:
            self.id = ids[-1].decode()
            self._at = self._clear = last_read
            self.read += len(ids)
            self._remember(entries.fields[-1])
            if extent.removed is not None and not extent.reaches(self._at):
                # All that was read is gone already. What is missing up to what is there now was told in front of it.
                self._clear = extent.first or extent.last
        return gap

    def _remember(self, fields: list[bytes]) -> None:
        self._batches += 1
        self.marks.append(Mark(self._batches, self.id, hash(tuple(fields)), self._passed, self._exact))
        if len(self.marks) == MOST_MARKS:
            self.marks = [mark for mark in self.marks if not mark.outlived(self._batches)]

    def _gap(self, entries: Entries, extent: Extent) -> GapDetails | None:
        stream, after, next = self.cursor.stream, self.id, entries.ids[0].decode()
        if extent.removed is None:
            # All that can be told is that the entry before is gone. At the beginning there is none.
            return None if self._at == _ZERO else GapDetails(stream, after, next, None, False)
        trimmed = _trimmed(entries, extent)
        missed = extent.removed - self._passed - trimmed
        if missed <= 0:
            return None
        behind = number(next)
        if trimmed == len(entries):
            # Others may be gone that are behind what was read, so the gap reaches to what is there now, or will be.
            behind = extent.first or (extent.last[0], extent.last[1] + 1)
        exact = self._exact and extent.deleted < behind
        return GapDetails(stream, after, f"{behind[0]}-{behind[1]}", missed, exact)

    def _count(self, entries: Entries, last_read: Id, extent: Extent, reached: bool) -> None:
        """How many entries were added up to the last of these."""
        added, removed = extent.added, extent.removed
        assert added is not None
        assert removed is not None
        if last_read >= extent.last:
            self._passed, self._exact = added, last_read == extent.last
            return
        if not entries:
            return
        passed = self._passed + len(entries)
        undeleted = extent.deleted <= self._clear
        if reached:
            if not (self._exact and undeleted):
                self._exact = False
                if undeleted:
                    passed = max(passed, removed + 1 + len(entries))
        else:
            # All that is gone is before what is there, unless it was deleted out of the middle.
            self._exact = extent.first is None or extent.deleted < extent.first
            if self._exact:
                passed = removed + len(entries) - _trimmed(entries, extent)
        self._passed = passed

    # --- lag ---

    def lag(self, extent: Extent) -> Lag:
        """How far the handled position is behind the end of the stream."""
        handled, first = number(self.cursor.handled), extent.first
        behind = self._behind(extent)
        entries = None if behind is None else behind + self.read - self.cursor.finished
        if entries == 0 or first is None or handled >= extent.last:
            return Lag(entries, 0.0)
        return Lag(entries, (extent.last[0] - max(handled, first)[0]) / 1000)

    def _behind(self, extent: Extent) -> int | None:
        """How many entries are behind the place. Redis tells that only of places at the ends of a stream."""
        if extent.first is None or self._at >= extent.last:
            return 0
        if not extent.reaches(self._at):
            return extent.length
        if extent.added is None or not self._exact or extent.deleted > self._at:
            return None
        return extent.added - self._passed


def _trimmed(entries: Entries, extent: Extent) -> int:
    """How many of the entries were removed after they were read and before the extent was told."""
    if extent.first is None:
        return len(entries)
    return bisect_left(entries.ids, extent.first, key=number)
