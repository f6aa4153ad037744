"""Entries of a stream, as they were read: the IDs beside the fields, not one container for each pair.

What a batch holds lives on while others are made, and each container of it is one more for the garbage collector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, overload

import msgspec

# The ID, and names and values in turn.
Entry: TypeAlias = tuple[bytes, list[bytes]]


class Entries(msgspec.Struct):
    """Entries in their order.

    Attributes:
        ids: their IDs.
        fields: of each its names and values in turn; None where only the ID was kept.
    """

    ids: list[bytes]
    fields: list[Any]

    @classmethod
    def of(cls, pairs: Iterable[Iterable[Any]]) -> Entries:
        """Entries out of IDs and fields. Raises ValueError or TypeError where they are no pairs."""
        ids, fields = [], []
        for id, values in pairs:
            ids.append(id)
            fields.append(values)
        return cls(ids, fields)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Entry]:
        return zip(self.ids, self.fields, strict=True)

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> Entries: ...
    def __getitem__(self, place: int | slice) -> Entry | Entries:
        if isinstance(place, slice):
            return Entries(self.ids[place], self.fields[place])
        return self.ids[place], self.fields[place]

    def take_off(self, entries: int) -> None:
        """Remove so many at the front."""
        del self.ids[:entries], self.fields[:entries]

    def keep(self, wanted: Callable[[bytes], bool]) -> None:
        """Remove those whose ID is not wanted."""
        kept = Entries.of([entry for entry in self if wanted(entry[0])])
        self.ids[:], self.fields[:] = kept.ids, kept.fields
