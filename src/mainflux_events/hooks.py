"""What can be observed. Subclass `Hooks`, override what you want, and pass an instance as `hooks=[…]`."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from .errors import ConfigError
from .events import Event
from .wire import decode

logger: logging.Logger = logging.getLogger("mainflux_events")


class LostDetails(msgspec.Struct, frozen=True):
    """An accepted event that will not reach the stream.

    Attributes:
        stream: where it was to go.
        operation: the operation of its action.
        fields: what would have been appended, pairs of name and value.
        reason: why it was lost.
    """

    stream: str
    operation: str
    fields: tuple[tuple[bytes, bytes], ...]
    reason: str

    def event(self) -> Event:
        """The event, decoded."""
        return decode([part for pair in self.fields for part in pair])


class DroppedDetails(LostDetails, frozen=True):
    """The buffer was full."""


class UndeliveredDetails(LostDetails, frozen=True):
    """The server refused the event for good, or the publisher closed before it was acknowledged."""


class RetryingDetails(msgspec.Struct, frozen=True):
    """An attempt to speak to the server failed and will be made again.

    Attributes:
        stream: the stream, or several joined by commas.
        what: what was attempted: "append", "read", "commit" or "lease".
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
        what: what the connection is for: "append", "read", "commit" or "lease".
    """

    stream: str
    what: str


class SkippedDetails(msgspec.Struct, frozen=True):
    """An entry was passed over without being handled.

    Attributes:
        stream, id: the entry's.
        operation: its operation.
        reason: why: an operation that no class is known for, or fields that do not decode.
        fields: the entry as it came.
    """

    stream: str
    id: str
    operation: str
    reason: str
    fields: tuple[tuple[bytes, bytes], ...]


class HandlerFailedDetails(msgspec.Struct, frozen=True):
    """A handler raised, or took longer than its time.

    Attributes:
        event: what it was called with.
        attempt: which call it was, from 1.
        error: what it raised.
        final: whether there will be no further attempt.
    """

    event: Event
    attempt: int
    error: BaseException
    final: bool


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

    def retrying(self, details: RetryingDetails) -> None:
        """An attempt failed; the next one comes after a wait."""

    def reconnected(self, details: ReconnectedDetails) -> None:
        """A lost connection was made again."""

    def skipped(self, details: SkippedDetails) -> None:
        """An entry was passed over."""

    def handler_failed(self, details: HandlerFailedDetails) -> None:
        """A call of a handler failed."""

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
    """Several hooks as one, none of which can do harm."""

    def __init__(self, hooks: Hooks | Iterable[Hooks]) -> None:
        if isinstance(hooks, Hooks) or not isinstance(hooks, Iterable):
            hooks = (hooks,)
        self._hooks = tuple(hooks)
        for hook in self._hooks:
            if not isinstance(hook, Hooks):
                raise ConfigError(f"hooks: an instance of a subclass of Hooks is wanted, not {hook!r}")
            for method in vars(Hooks):
                if inspect.iscoroutinefunction(getattr(hook, method)):
                    raise ConfigError(
                        f"hooks: {type(hook).__name__}.{method} is a coroutine function, which nobody would await"
                    )

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def notify(self, method: str, details: Any) -> None:
        """Call one method of each."""
        for hook in self._hooks:
            try:
                getattr(hook, method)(details)
            except (Exception, asyncio.CancelledError):
                # A cancellation would end the background task that calls; no hook awaits, so none can be meant.
                logger.exception("hook_failed: %s.%s raised", type(hook).__name__, method)
