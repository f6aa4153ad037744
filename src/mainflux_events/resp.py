"""Commands and their arguments as bytes, in the protocol of Redis (RESP 2)."""

from __future__ import annotations

from typing import Final


def size(octets: int) -> bytes:
    """What stands before a bulk string of so many bytes."""
    return b"$%d\r\n" % octets


# The small ones, for those who count every nanosecond.
SIZES: Final = [size(octets) for octets in range(1024)]


def bulk(octets: bytes) -> bytes:
    """One argument of a command."""
    return b"$%d\r\n%b\r\n" % (len(octets), octets)


def command(*arguments: str | bytes | int) -> bytes:
    """A whole command."""
    parts = [bulk(part if isinstance(part, bytes) else str(part).encode()) for part in arguments]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


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
    def __init__(self, heads: Append) -> None:
        super().__init__()
        self._heads = heads

    def __missing__(self, fields: int) -> str:
        head = self[fields] = self._heads[fields].decode()
        return head


class Append(dict[int, bytes]):
    """The XADD of one stream, up to the fields: by their number, names and values counted.

    Args:
        stream: the key of the stream.
        max_len: about how many entries the stream is trimmed to; None for not at all.

    Attributes:
        in_text: the same in characters.
    """

    def __init__(self, stream: str, max_len: int | None) -> None:
        super().__init__()
        self.in_text: dict[int, str] = _InText(self)
        trim: list[str | int] = [] if max_len is None else ["MAXLEN", "~", max_len]
        self._words = [bulk(str(word).encode()) for word in ("XADD", stream, *trim, "*")]

    def __missing__(self, fields: int) -> bytes:
        head = self[fields] = b"*%d\r\n%b" % (len(self._words) + fields, b"".join(self._words))
        return head

    def fields_of(self, packed: bytes) -> list[bytes]:
        """The names and values in turn of a command that begins with one of these heads."""
        return bulk_strings(packed, packed.index(b"\r\n") + 2)[len(self._words) :]


def pairs_of(entry: list[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """Names and values in turn, as pairs."""
    parts = iter(entry)
    return tuple(zip(parts, parts, strict=True))
