"""Entries as lines of JSON and back, byte for byte. Pure.

    {"stream":"mainflux.things","id":"1526919030474-55","fields":[["operation","thing.remove"],["id","t1"]]}

Fields are pairs, in their order, so that a name may occur twice. What is not UTF-8 is `{"base64":"/w=="}`: a lone
surrogate, which JSON could hold as well, does not survive most other tools.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import msgspec

from ...cursor import parse_id
from ...errors import EventsError


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An entry of a stream.

    Attributes:
        stream: the key of the stream that it is from.
        id: its ID there.
        fields: names and values in turn.
    """

    stream: str
    id: str
    fields: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return sum(map(len, self.fields)) + 8 * len(self.fields)


class BadLine(EventsError):
    """A line that is no entry. Nothing of the line is in the message.

    Attributes:
        number: which line, from 1.
        reason: what is wrong with it.
    """

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)
        self.number = number
        self.reason = reason

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}; what `dump` writes is wanted"


class _Octets(msgspec.Struct):
    base64: str


_Part: TypeAlias = "str | _Octets"


class _Line(msgspec.Struct):
    stream: str
    id: str
    fields: list[tuple[_Part, _Part]]


_DECODER: Final = msgspec.json.Decoder(_Line)
_ENCODER: Final = msgspec.json.Encoder()


def line_of(entry: Entry) -> bytes:
    """An entry as a line, with its end."""
    parts = list(map(_shown, entry.fields))
    return (
        _ENCODER.encode(_Line(entry.stream, entry.id, list(zip(parts[::2], parts[1::2], strict=True))))
        + b"\n"
    )


def plain_fields(pairs: Iterable[tuple[bytes, bytes]]) -> Any:
    """Names and values as in a line, for JSON of another kind."""
    return msgspec.to_builtins([(_shown(name), _shown(value)) for name, value in pairs])


def entry_of(line: bytes, number: int) -> Entry:
    """The entry of a line.

    Args:
        line: with its end or without.
        number: which line it is, for messages.

    Raises:
        BadLine: it is none.
    """
    try:
        read = _DECODER.decode(line)
        fields = tuple(_octets(part) for pair in read.fields for part in pair)
    except msgspec.ValidationError as error:
        raise BadLine(number, str(error)) from None  # names types and places, no values
    except (ValueError, RecursionError):
        raise BadLine(number, "it is no JSON object in UTF-8, or its base64 is none") from None
    if parse_id(read.id) is None or not fields:
        raise BadLine(number, "the ID is not that of an entry, or there are no fields")
    return Entry(read.stream, read.id, fields)


def _shown(octets: bytes) -> _Part:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return _Octets(b64encode(octets).decode())


def _octets(part: _Part) -> bytes:
    return part.encode() if isinstance(part, str) else b64decode(part.base64, validate=True)
