"""What is told of a stream in its place among the events: gaps and resets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

from .errors import ConfigError, StreamGap, StreamReset
from .hooks import GapDetails, Observers, ResetDetails, SkippedDetails, logger

OnGap: TypeAlias = Literal["report", "raise"]


class Notices:
    """Tells of gaps and resets, and counts them.

    Args:
        on_gap: whether they are raised, too.
        observers: who is told.

    Attributes:
        gaps, missed, resets: as in `SubscriberStats`.

    Raises:
        ConfigError: `on_gap` is something else.
    """

    def __init__(self, on_gap: OnGap, observers: Observers) -> None:
        if on_gap not in get_args(OnGap):
            raise ConfigError(f"on_gap: 'report' or 'raise' is wanted, not {on_gap!r}")
        self._raises = on_gap == "raise"
        self._observers = observers
        self.gaps: int = 0
        self.missed: int = 0
        self.resets: int = 0

    def lost(self, stream: str, ids: Sequence[str]) -> None:
        """Count, log and tell the hooks of entries that were removed when they were delivered and not handled."""
        self.missed += len(ids)
        reason = "it was removed from the stream before it was handled"
        logger.warning("pending_lost: %d entries of %r, from %s on: %s", len(ids), stream, ids[0], reason)
        for id in ids:
            self._observers.notify("skipped", SkippedDetails(stream, id, "", reason, ()))

    def tell(self, details: GapDetails | ResetDetails) -> None:
        """Count, log, tell the hooks; and raise, where that is wanted.

        Raises:
            StreamGap, StreamReset: `on_gap="raise"`.
        """
        error: StreamGap | StreamReset
        if isinstance(details, GapDetails):
            self.gaps += 1
            self.missed += details.missed or 0
            error = StreamGap(details.stream, details.after, details.next, details.missed, details.exact)
            name = "gap"
        else:
            self.resets += 1
            error = StreamReset(details.stream, details.after, details.last, details.resume)
            name = "reset"
        logger.warning("stream_%s: %s", name, error)
        self._observers.notify(name, details)
        if self._raises:
            raise error


class Notice:
    """Something to be told between two events.

    Args:
        notices: who tells it.
        details: what.
        go_on: what is to be done when it was told, before the next event.
    """

    def __init__(
        self,
        notices: Notices,
        details: GapDetails | ResetDetails,
        go_on: Callable[[], None] | None = None,
    ) -> None:
        self._notices = notices
        self._details = details
        self._go_on = go_on
        self._told = False

    @property
    def stream(self) -> str:
        """The stream that it is about."""
        return self._details.stream

    def deliver(self) -> None:
        """Tell it, where it is not told yet, and go on. All events before it have to be finished.

        Raises:
            StreamGap, StreamReset: as `Notices.tell`. The next call goes on.
        """
        if not self._told:
            self._told = True
            self._notices.tell(self._details)
        if self._go_on is not None:
            self._go_on()
