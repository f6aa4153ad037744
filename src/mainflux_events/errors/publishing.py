"""What publishing raises."""

from __future__ import annotations

from .common import EventsError


class PublisherClosed(EventsError):
    """Used after `aclose()` began, or after the publisher's background task died.

    Attributes:
        stream: the stream that is published to.
        reason: why it is closed.
    """

    def __init__(self, stream: str, reason: str) -> None:
        super().__init__(stream, reason)
        self.stream = stream
        self.reason = reason

    def __str__(self) -> str:
        return f"the publisher of {self.stream!r} {self.reason}: nothing is accepted any more"


class BufferFull(EventsError):
    """The buffer has no room for the event, and `overflow="raise"` says not to accept it.

    Attributes:
        events: how many events are buffered.
        size: how many bytes they take.
    """

    def __init__(self, events: int, size: int) -> None:
        super().__init__(events, size)
        self.events = events
        self.size = size

    def __str__(self) -> str:
        return (
            f"the buffer is full with {self.events} events of {self.size} bytes; "
            "the event was not accepted: try again later, or choose another overflow policy"
        )


class Undelivered(EventsError):
    """Accepted events that were dropped or given up, so that Redis has not acknowledged them.

    Attributes:
        count: how many.
        reason: why.
    """

    def __init__(self, count: int, reason: str) -> None:
        super().__init__(count, reason)
        self.count = count
        self.reason = reason

    def __str__(self) -> str:
        events = "1 event was" if self.count == 1 else f"{self.count} events were"
        return f"{events} not delivered: {self.reason}"
