"""What subscribing raises, or is why an event was not handled."""

from __future__ import annotations

from .common import EventsError

_NOT_RENEWED = "it did not renew its lease in time; make another one, or have it wait by exclusive='standby'"


class CursorCorrupt(EventsError):
    """What is stored as the subscriber's cursor is not the ID of an entry, so where to go on is unknown.

    Attributes:
        key: the cursor's key.
        reason: what is stored there.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"cursor {self.key!r} {self.reason}: set it to the ID of the last handled entry (such as "
            "'1526919030474-55'), or delete it to begin where `start` says"
        )


class StreamGap(EventsError):
    """Entries were removed from a stream before they were read. Iterating again goes on behind the gap.

    Attributes:
        stream: the stream.
        after: the ID of the last entry before the gap, or that reading began behind.
        next: the ID of the first entry behind it.
        missed: how many entries are missing, at most; None where the server cannot tell.
        exact: whether it is just so many.
    """

    def __init__(self, stream: str, after: str, next: str, missed: int | None, exact: bool) -> None:
        super().__init__(stream, after, next, missed, exact)
        self.stream = stream
        self.after = after
        self.next = next
        self.missed = missed
        self.exact = exact

    def __str__(self) -> str:
        between = f"of {self.stream!r} between {self.after} and {self.next}"
        if self.missed is None:
            return (
                f"entries {between} may have been removed before they were read, which this server cannot tell: "
                "trim later (max_len of the publishers)"
            )
        one = self.missed == 1
        entries = (
            "1 entry was removed before it was"
            if one
            else f"{self.missed} entries were removed before they were"
        )
        return (
            f"{'' if self.exact else 'at most '}{entries} read, {between}: "
            "trim later (max_len of the publishers), or handle faster"
        )


class StreamReset(EventsError):
    """A stream was deleted, recreated or restored to what it once was. Iterating again goes on in what is there now.

    Attributes:
        stream: the stream.
        after: the ID of the last entry that was read, or that reading began behind.
        last: the last ID that the stream has given now, "0-0" where there is none.
        resume: the ID behind which reading goes on: that of the last entry that was read and is still the same, or
            "0-0" for the beginning.
    """

    def __init__(self, stream: str, after: str, last: str, resume: str) -> None:
        super().__init__(stream, after, last, resume)
        self.stream = stream
        self.after = after
        self.last = last
        self.resume = resume

    def __str__(self) -> str:
        return (
            f"the stream {self.stream!r} was deleted, recreated or restored: it was read up to {self.after}, and ends "
            f"at {self.last} now; reading goes on behind {self.resume}"
        )


class SubscriberBusy(EventsError):
    """The name is being read already, so that `exclusive=True` has to refuse.

    Attributes:
        name: the subscriber's.
        stream: the stream that is being read.
    """

    def __init__(self, name: str, stream: str) -> None:
        super().__init__(name, stream)
        self.name = name
        self.stream = stream

    def __str__(self) -> str:
        return (
            f"{self.stream!r} is being read under the name {self.name!r} already: end that subscriber, give this one "
            'a name of its own, or have it wait for its turn with exclusive="standby"'
        )


class LeaseLost(EventsError):
    """This subscriber is not the one that reads its name: it was stopped or cut off for too long, and another does.

    What it had in hand, and what it could not store any more, comes again there.

    Attributes:
        name: the subscriber's.
        reason: what has happened.
    """

    def __init__(self, name: str, reason: str = _NOT_RENEWED) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"another subscriber of the name {self.name!r} reads now, and nothing more can be stored by this one: "
            f"{self.reason}"
        )


class AlreadyHandled(EventsError):
    """A transaction that moved the cursor to this event was committed before: what was done in it is done.

    That was not known, as when the connection ended before the answer came. `run` takes the event for handled.

    Attributes:
        stream, id: the entry's.
    """

    def __init__(self, stream: str, id: str) -> None:
        super().__init__(stream, id)
        self.stream = stream
        self.id = id

    def __str__(self) -> str:
        return f"entry {self.id} of {self.stream!r} was handled in a transaction that is committed: go on to the next"


class DeliveredTooOften(EventsError):
    """An entry of a group that no consumer has finished, however often it was delivered: they died, or fell silent.

    It is not raised: it is why such an entry goes to the dead letters, or is given up.

    Attributes:
        stream, id: the entry's.
        deliveries: how often it was delivered.
    """

    def __init__(self, stream: str, id: str, deliveries: int) -> None:
        super().__init__(stream, id, deliveries)
        self.stream = stream
        self.id = id
        self.deliveries = deliveries

    def __str__(self) -> str:
        times = f"{self.deliveries} times"
        return f"entry {self.id} of {self.stream!r} was delivered {times}, and no consumer has finished it"


class HandlerFailed(EventsError):
    """`run(on_failure="raise")` met an event that no attempt handled; its cursor stays before it.

    The handler's last exception is the `__cause__`.

    Attributes:
        stream, id: the entry's.
        operation: the operation of its action.
        attempts: how often the handler was called; 0 where `key` raised, or gave no key.
        events: how many events it was called with; of a batch, the entry is the first.
    """

    def __init__(self, stream: str, id: str, operation: str, attempts: int, events: int = 1) -> None:
        super().__init__(stream, id, operation, attempts, events)
        self.stream = stream
        self.id = id
        self.operation = operation
        self.attempts = attempts
        self.events = events

    def __str__(self) -> str:
        batch = f", the first of a batch of {self.events}," if self.events > 1 else ""
        failed = f"was not handled in {self.attempts} attempts" if self.attempts else "has no key"
        return f"entry {self.id} of {self.stream!r} ({self.operation}){batch} {failed}; the cursor stays before it"


class DeadLetterLimitReached(EventsError):
    """An entry was not dead-lettered, because so many others were before it; its cursor stays before it.

    Why it could not be handled is the `__cause__`.

    Attributes:
        stream, id: the entry's.
        dead_letters: the stream that it would have gone to.
        count, seconds: the limit.
    """

    def __init__(self, stream: str, id: str, dead_letters: str, count: int, seconds: float) -> None:
        super().__init__(stream, id, dead_letters, count, seconds)
        self.stream = stream
        self.id = id
        self.dead_letters = dead_letters
        self.count = count
        self.seconds = seconds

    def __str__(self) -> str:
        return (
            f"entry {self.id} of {self.stream!r} was not dead-lettered to {self.dead_letters!r}, as {self.count} "
            f"were within {self.seconds:g} s; the cursor stays before it: mend what makes them fail and start "
            "again, or allow more by DeadLetters(limit=…)"
        )
