"""What can be observed. Subclass `Hooks`, override what you want, and pass an instance as `hooks=[…]`."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from .errors import ConfigError
from .events import Event
from .resp import Heads, pairs_of
from .values import text_of
from .wire import decode, operation_of

logger: logging.Logger = logging.getLogger("mainflux_events")


def _name(record: logging.LogRecord) -> bool:
    """Give a record the name of what happened, for those who write the log as JSON."""
    record.event_name = record.getMessage().partition(":")[0]
    return True


logger.addFilter(_name)


class LostDetails(msgspec.Struct, frozen=True, gc=False):
    """An accepted event that will not reach the stream.

    It is taken apart when somebody asks: of the thousands that a full buffer loses, most are only counted.

    Attributes:
        stream: where it was to go.
        reason: why it was lost.
    """

    stream: str
    reason: str
    # The command that would have appended it, and what takes that apart.
    _packed: bytes
    _heads: Heads

    @property
    def operation(self) -> str:
        """The operation of its action."""
        return text_of(operation_of(self._entry()) or b"")

    @property
    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        """What would have been appended, pairs of name and value."""
        return pairs_of(self._entry())

    def event(self) -> Event:
        """The event, decoded."""
        return decode(self._entry())

    def _entry(self) -> list[bytes]:
        return self._heads.fields_of(self._packed)

    def __repr__(self) -> str:
        # An event's content is in nobody's repr but its own.
        return f"{type(self).__name__}(stream={self.stream!r}, operation={self.operation!r}, reason={self.reason!r})"


class DroppedDetails(LostDetails, frozen=True):
    """The buffer was full."""


class UndeliveredDetails(LostDetails, frozen=True):
    """The server refused the event for good, or the publisher closed before it was acknowledged.

    Or nobody knows whether it was appended, and an idempotent publisher may not try again.
    """


class SentDetails(msgspec.Struct, frozen=True):
    """A batch was sent, and answered or not. One that is sent again is another one.

    Attributes:
        stream: where it went.
        events: how many events it had.
        acknowledged: how many of these the server has acknowledged.
        error: the first word of what it said of the next one, "disconnected" where it said nothing; "" where all are
            acknowledged.
        seconds: from the sending to the answer.
    """

    stream: str
    events: int
    acknowledged: int
    error: str
    seconds: float
    # The commands that append them, and what takes these apart.
    _batch: Sequence[bytes]
    _heads: Heads

    def fields(self, most: int) -> list[tuple[tuple[bytes, bytes], ...]]:
        """What was to be appended, pairs of name and value, of so many events at most."""
        return [pairs_of(self._heads.fields_of(packed)) for packed in self._batch[:most]]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(stream={self.stream!r}, events={self.events}, "
            f"acknowledged={self.acknowledged}, error={self.error!r})"
        )


class RetryingDetails(msgspec.Struct, frozen=True):
    """An attempt to speak to the server failed and will be made again.

    Attributes:
        stream: the stream, or several joined by commas.
        what: what was attempted: "append", "read", "commit", "dead_letter" or "lease".
        attempt: how many attempts of this trouble have failed.
        wait: seconds until the next one.
        reason: why it failed.
    """

    stream: str
    what: str
    attempt: int
    wait: float
    reason: str


class ReconnectedDetails(msgspec.Struct, frozen=True):
    """A connection that was lost is there again.

    Attributes:
        stream: the stream, or several joined by commas.
        what: what the connection is for: "append", "read", "commit", "dead_letter" or "lease".
    """

    stream: str
    what: str


class SequenceLostDetails(msgspec.Struct, frozen=True):
    """The server has lost the sequence of an idempotent publisher, or a part of it. Publishing goes on with a new one.

    Attributes:
        stream: the stream.
        key: the sequence's key.
        acknowledged: how many events the server had acknowledged in this sequence.
        found: how many of those it knows of now, so that it has lost the rest; None where the sequence is gone.
        unknown: how many events are undelivered, because nobody can tell whether they were appended.
    """

    stream: str
    key: str
    acknowledged: int
    found: int | None
    unknown: int


class GapDetails(msgspec.Struct, frozen=True):
    """Entries were removed before they were read.

    Attributes:
        stream: the stream.
        after: the ID of the last entry before the gap, or that reading began behind.
        next: the ID of the first entry behind it.
        missed: how many entries are missing, at most; None where the server cannot tell.
        exact: whether it is just so many.
    """

    stream: str
    after: str
    next: str
    missed: int | None
    exact: bool


class ResetDetails(msgspec.Struct, frozen=True):
    """A stream was deleted, recreated or restored to what it once was.

    Attributes:
        stream: the stream.
        after: the ID of the last entry that was read, or that reading began behind.
        last: the last ID that the stream has given now, "0-0" where there is none.
        resume: the ID behind which reading goes on: that of the last entry that was read and is still the same, or
            "0-0" for the beginning.
    """

    stream: str
    after: str
    last: str
    resume: str


class SkippedDetails(msgspec.Struct, frozen=True):
    """An entry was passed over without being handled.

    Attributes:
        stream, id: the entry's.
        operation: its operation.
        reason: why: an operation that no class is known for, fields that do not decode; of a group, that too many
            consumers died with it, or that it was removed from the stream before it was handled.
        fields: the entry as it came; empty where it was removed.
    """

    stream: str
    id: str
    operation: str
    reason: str
    fields: tuple[tuple[bytes, bytes], ...]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(stream={self.stream!r}, id={self.id!r}, operation={self.operation!r}, "
            f"reason={self.reason!r})"
        )


class HandlerFailedDetails(msgspec.Struct, frozen=True):
    """A handler raised, or took longer than its time.

    Attributes:
        event: what it was called with, or one of them.
        attempt: which call it was, from 1; 0 where it was not called, since `key` raised, or gave no key.
        error: what was raised.
        final: whether there will be no further attempt.
    """

    event: Event
    attempt: int
    error: BaseException
    final: bool


class DeadLetteredDetails(msgspec.Struct, frozen=True):
    """An entry was appended to the dead letters.

    Attributes:
        stream, id: the entry's.
        operation: its operation.
        dead_letters: the stream that it was appended to.
        error: why: what the handler raised, or what kept the entry from being decoded.
        attempts: how often the handler was called.
        fields: the entry as it came.
    """

    stream: str
    id: str
    operation: str
    dead_letters: str
    error: BaseException
    attempts: int
    fields: tuple[tuple[bytes, bytes], ...]


class CursorNotSavedDetails(msgspec.Struct, frozen=True):
    """The cursor could not be stored. It will be tried again; a restart before that hands events out again.

    Attributes:
        stream: the stream.
        key: the cursor's key.
        id: the entry that it should say.
        reason: why it was not stored.
    """

    stream: str
    key: str
    id: str
    reason: str


class LeaseLostDetails(msgspec.Struct, frozen=True):
    """Somebody else moved the cursor: two readers of one name, or an operator. Or, exclusive, another one reads now.

    Attributes:
        stream: the stream.
        key: the cursor's key.
        id: the entry that this subscriber has handled.
        found: what is stored; in the first case, instead of what this subscriber stored last.
        stopped: whether this subscriber has stopped to read, which is the second case.
    """

    stream: str
    key: str
    id: str
    found: str
    stopped: bool = False


class Hooks:
    """Base class of observers. The methods are called on the event loop and are not awaited: they must be quick.

    One that raises is logged and does no harm. One that publishes again what was dropped from a full buffer makes that
    buffer drop the next: hand it to something that waits.
    """

    def dropped(self, details: DroppedDetails) -> None:
        """An accepted event was dropped from the full buffer."""

    def undelivered(self, details: UndeliveredDetails) -> None:
        """An accepted event was given up."""

    def sent(self, details: SentDetails) -> None:
        """A batch of events was sent, and answered or not."""

    def retrying(self, details: RetryingDetails) -> None:
        """An attempt failed; the next one comes after a wait."""

    def reconnected(self, details: ReconnectedDetails) -> None:
        """A lost connection was made again."""

    def sequence_lost(self, details: SequenceLostDetails) -> None:
        """The server has lost what an idempotent publisher had appended, or the note of it."""

    def gap(self, details: GapDetails) -> None:
        """Entries were removed before they were read; the next event is the first behind them."""

    def reset(self, details: ResetDetails) -> None:
        """A stream was replaced by another one, or by what it once was."""

    def skipped(self, details: SkippedDetails) -> None:
        """An entry was passed over."""

    def handler_failed(self, details: HandlerFailedDetails) -> None:
        """A call of a handler failed."""

    def dead_lettered(self, details: DeadLetteredDetails) -> None:
        """An entry was appended to the dead letters."""

    def cursor_not_saved(self, details: CursorNotSavedDetails) -> None:
        """A cursor could not be stored."""

    def lease_lost(self, details: LeaseLostDetails) -> None:
        """Somebody else moved the cursor, or reads instead."""


class Occasionally:
    """Lets through the first of many like things, and then one in so many seconds: for lines in the log."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._next = float("-inf")

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


class Observers:
    """Several hooks as one, none of which can do harm.

    Attributes:
        each: the hooks.
    """

    def __init__(self, hooks: Hooks | Iterable[Hooks]) -> None:
        if isinstance(hooks, Hooks) or not isinstance(hooks, Iterable):
            hooks = (hooks,)
        self.each: tuple[Hooks, ...] = tuple(hooks)
        for hook in self.each:
            if not isinstance(hook, Hooks):
                raise ConfigError(f"hooks: an instance of a subclass of Hooks is wanted, not {hook!r}")
            for method in vars(Hooks):
                if inspect.iscoroutinefunction(getattr(hook, method)):
                    raise ConfigError(
                        f"hooks: {type(hook).__name__}.{method} is a coroutine function, which nobody would await"
                    )

    def __bool__(self) -> bool:
        return bool(self.each)

    def notify(self, method: str, details: Any) -> None:
        """Call one method of each."""
        for hook in self.each:
            try:
                getattr(hook, method)(details)
            except (Exception, asyncio.CancelledError):
                # A cancellation would end the background task that calls; no hook awaits, so none can be meant.
                logger.exception("hook_failed: %s.%s raised", type(hook).__name__, method)
