"""What a dead letter holds, and the command that appends one in the same step that lets its entry be passed.

A dead letter is the entry as it came, and behind that the fields that say where it is from and what was wrong. What
stands before the last `dlq_stream` is the entry again, byte for byte, even if that had been a dead letter itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from .events import Event
from .resp import command, pairs_of
from .values import now_octets, text_of, time_of
from .wire import decode, fields_of, operation_of

_BEGINS: Final = b"dlq_stream"

# So many bytes of what somebody else has written: an operation, an error's text.
MOST_BYTES: Final = 1000

# What a script can hand on to one command: Lua's stack ends at 8,000 values.
MOST_WORDS: Final = 7000


class DeadLetter(msgspec.Struct, frozen=True):
    """An entry of a stream of dead letters.

    Attributes:
        id: its own ID.
        stream, source_id: the stream and the ID of the entry that could not be handled; empty where this is no dead
            letter but something that somebody else has appended.
        operation: the operation of that entry.
        error_type, error: the class of what the handler raised, or of what kept the entry from being decoded, and its
            text; both cut after 1,000 bytes.
        attempts: how often the handler was called; 0 where the entry does not decode.
        consumer: the name of the subscriber.
        time: when it was dead-lettered.
        raw: the fields of that entry, pairs of name and value.
    """

    id: str
    stream: str
    source_id: str
    operation: str
    error_type: str
    error: str
    attempts: int
    consumer: str
    time: datetime | None
    raw: tuple[tuple[bytes, bytes], ...]

    def event(self) -> Event:
        """The event that could not be handled, with the stream and the ID that it came from.

        Raises:
            DecodeError: the entry does not decode.
        """
        return decode([part for pair in self.raw for part in pair], self.stream, self.source_id)


def dead_letter(
    entry: list[bytes], stream: str, id: bytes, error: BaseException, attempts: int, consumer: str
) -> list[bytes]:
    """The fields of the dead letter of an entry, names and values in turn.

    Args:
        entry: its fields.
        stream, id: where it is.
        error: why it could not be handled.
        attempts: how often the handler was called.
        consumer: the name of the subscriber.
    """
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    about = {
        _BEGINS: stream.encode(),
        b"dlq_id": id,
        b"dlq_operation": (operation_of(entry) or b"")[:MOST_BYTES],
        b"dlq_error_type": _octets(f"{module}{kind.__qualname__}"),
        b"dlq_error": _octets(_text_of(error)),
        b"dlq_attempts": b"%d" % attempts,
        b"dlq_consumer": consumer.encode(),
        b"dlq_time": now_octets(),
    }
    return [*entry, *(part for field in about.items() for part in field)]


def opened(id: bytes, fields: list[bytes]) -> DeadLetter:
    """A dead letter out of its entry."""
    names = fields[::2]
    begins = 2 * (len(names) - 1 - names[::-1].index(_BEGINS)) if _BEGINS in names else len(fields)
    about = fields_of(fields[begins:])

    def text(name: bytes) -> str:
        return text_of(about.get(name, b""))

    attempts = about.get(b"dlq_attempts", b"")
    return DeadLetter(
        id.decode(),
        text(_BEGINS),
        text(b"dlq_id"),
        text(b"dlq_operation"),
        text(b"dlq_error_type"),
        text(b"dlq_error"),
        int(attempts) if attempts.isdigit() and len(attempts) < 20 else 0,
        text(b"dlq_consumer"),
        time_of(about.get(b"dlq_time", b"")),
        pairs_of(fields[:begins]),
    )


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as unprintable:
        return f"its text could not be had: {type(unprintable).__name__}"


def _octets(text: str) -> bytes:
    octets = text[:MOST_BYTES].encode("utf-8", "backslashreplace")[:MOST_BYTES]
    return octets.decode("utf-8", "ignore").encode()  # without the half of a character at the cut


# --- appending ------------------------------------------------------------------------------------------------------


class Step(msgspec.Struct, frozen=True):
    """What is done in the same moment in which a dead letter is appended, so that its entry is passed.

    Attributes:
        script: Lua that calls `append()` before it changes anything, as nothing is undone where that fails; or not at
            all, where the entry has been passed already.
        keys: what `KEYS` is to it.
        arguments: what `ARGV` is to it.
        answer: gives the reply to it, or a Refusal in place of what is none.
    """

    script: str
    keys: tuple[str, ...]
    arguments: tuple[str | bytes, ...]
    answer: Callable[[Any], Any]


def append(stream: str, max_len: int | None, fields: list[bytes], step: Step | None = None) -> bytes:
    """The packed command that appends a dead letter, and takes a step with it.

    The reply is that of the step; without one, the ID of the dead letter.

    Args:
        stream: the key of the stream of dead letters.
        max_len: about how many are kept; None for all.
        fields: names and values in turn; with a step, `MOST_WORDS` at most.
        step: what else is done; its keys are in the slot of the stream.
    """
    trim: list[str | bytes | int] = [] if max_len is None else ["MAXLEN", "~", max_len]
    if step is None:
        return command("XADD", stream, *trim, "*", *fields)
    own = len(step.arguments)
    keys = (*step.keys, stream)
    return command(
        "EVAL", _APPEND % (own + 1) + step.script, len(keys), *keys, *step.arguments, *trim, "*", *fields
    )


# Takes the last key away, so that the step finds its own.
_APPEND: Final = """
local stream = table.remove(KEYS)
local function append() redis.call('XADD', stream, unpack(ARGV, %d)) end
"""
