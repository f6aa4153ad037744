"""What both sides raise, and the base of all errors."""

from __future__ import annotations


class EventsError(Exception):
    """Base of all errors of this package."""


class ConfigError(EventsError, ValueError):
    """An argument, a URL or an action class that can never work."""


class EmptyStream(ConfigError):
    """The name of the stream is empty."""

    def __str__(self) -> str:
        return "stream: the name is empty; give the key of a Redis stream, such as 'mainflux.things'"


class EmptyName(ConfigError):
    """The name of the subscriber is empty."""

    def __str__(self) -> str:
        return "name: it is empty; give the subscriber a name of its own, which its cursor is stored under"


class EncodeError(EventsError):
    """An event that cannot be written. Nothing was enqueued.

    Attributes:
        operation: the operation of the event's action, empty where it has none.
        field: the field that is at fault, empty where it is the event as a whole.
        reason: what is wrong with it, and what to do.
    """

    def __init__(self, operation: str, field: str, reason: str) -> None:
        super().__init__(operation, field, reason)
        self.operation = operation
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        where = ", ".join(
            part for part in (self.operation, f"field {self.field!r}" if self.field else "") if part
        )
        return f"{where}: {self.reason}" if where else self.reason


class DecodeError(EventsError):
    """An entry that cannot be read as the action that its operation names.

    Attributes:
        operation: the operation of the entry.
        field: the field that is at fault.
        reason: what is wrong with it.
        stream, id: the entry's, empty where it came from no stream.
    """

    def __init__(self, operation: str, field: str, reason: str, stream: str = "", id: str = "") -> None:
        super().__init__(operation, field, reason, stream, id)
        self.operation = operation
        self.field = field
        self.reason = reason
        self.stream = stream
        self.id = id

    def __str__(self) -> str:
        entry = f"entry {self.id} of {self.stream!r}, " if self.id else ""
        return f"{entry}{self.operation}, field {self.field!r}: {self.reason}"


class NotStarted(EventsError):
    """Used before `start()`.

    Attributes:
        what: the object that was used.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} is not started: use 'async with', or await start() first"


class AccessRefused(EventsError):
    """The server refuses the credentials, or the user has not the rights that are needed.

    Attributes:
        where: the server, without any credentials.
        reason: what it refused, and what to do.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where = where
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"
