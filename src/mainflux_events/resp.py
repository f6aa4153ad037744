"""Commands and their arguments as bytes, in the protocol of Redis (RESP 2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final


def size(octets: int) -> bytes:
    """What stands before a bulk string of so many bytes."""
    return b"$%d\r\n" % octets


# The small ones, for those who count every nanosecond.
SIZES: Final = [size(octets) for octets in range(1024)]


def bulk(octets: bytes) -> bytes:
    """One argument of a command."""
    return b"$%d\r\n%b\r\n" % (len(octets), octets)


def bulks(*arguments: str | bytes | int) -> bytes:
    """Several arguments of a command."""
    return b"".join([bulk(part if isinstance(part, bytes) else str(part).encode()) for part in arguments])


def command(*arguments: str | bytes | int) -> bytes:
    """A whole command."""
    return b"*%d\r\n%b" % (len(arguments), bulks(*arguments))


def bulk_strings(packed: bytes, start: int = 0) -> list[bytes]:
    """The arguments that are packed from `start` on."""
    found = []
    while start < len(packed):
        size_ends = packed.index(b"\r\n", start)
        begins = size_ends + 2
        ends = begins + int(packed[start + 1 : size_ends])
        found.append(packed[begins:ends])
        start = ends + 2
    return found


class _InText(dict[int, str]):
    def __init__(self, heads: Heads) -> None:
        super().__init__()
        self._heads = heads

    def __missing__(self, fields: int) -> str:
        head = self[fields] = self._heads[fields].decode()
        return head


class Heads(dict[int, bytes], ABC):
    """What stands before the fields of a packed event, by their number, names and values counted.

    Attributes:
        in_text: the same in characters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.in_text: dict[int, str] = _InText(self)

    @abstractmethod
    def count(self, packed: bytes) -> int:
        """How many names and values a packed event has."""

    def with_more(self, packed: bytes, parts: list[bytes]) -> bytes:
        """A packed event with more names and values in turn, behind those that it has."""
        count = self.count(packed)
        return b"".join([self[count + len(parts)], packed[len(self[count]) :], *map(bulk, parts)])

    @abstractmethod
    def fields_of(self, packed: bytes) -> list[bytes]:
        """The names and values in turn of a packed event that begins with one of these heads."""

    def exceeds(self, packed: bytes, limit: int) -> bool:
        """Whether a name or a value of a packed event is longer than this many bytes."""
        return len(packed) > limit and max(map(len, self.fields_of(packed))) > limit


class Append(Heads):
    """The XADD of one stream, up to the fields.

    Args:
        stream: the key of the stream.
        max_len: about how many entries the stream is trimmed to; None for not at all.
    """

    def __init__(self, stream: str, max_len: int | None) -> None:
        super().__init__()
        trim: list[str | int] = [] if max_len is None else ["MAXLEN", "~", max_len]
        self._words = [bulk(str(word).encode()) for word in ("XADD", stream, *trim, "*")]

    def __missing__(self, fields: int) -> bytes:
        head = self[fields] = b"*%d\r\n%b" % (len(self._words) + fields, b"".join(self._words))
        return head

    def count(self, packed: bytes) -> int:
        return int(packed[1 : packed.index(b"\r\n")]) - len(self._words)

    def fields_of(self, packed: bytes) -> list[bytes]:
        return bulk_strings(packed, packed.index(b"\r\n") + 2)[len(self._words) :]


def pairs_of(entry: list[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """Names and values in turn, as pairs."""
    parts = iter(entry)
    return tuple(zip(parts, parts, strict=True))
