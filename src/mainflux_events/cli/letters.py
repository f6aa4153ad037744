"""Which dead letters a command is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeAlias

import msgspec
import typer

from ..cursor import padded, parse_id
from ..deadletters import DeadLetter
from .options import When, parse_when

Letters: TypeAlias = Annotated[str, typer.Argument(metavar="STREAM", help="The stream of dead letters.")]

# = None
Ids: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--id", metavar="ID", help="Only this dead letter, by its own ID; may be repeated."),
]

# = ""
Operation: TypeAlias = Annotated[str, typer.Option("--operation", help="Only those of this operation.")]
Source: TypeAlias = Annotated[
    str, typer.Option("--source", metavar="KEY", help="Only those that are from this stream.")
]
ErrorText: TypeAlias = Annotated[
    str,
    typer.Option(
        "--error", metavar="TEXT", help="Only those whose error, or the error's class, contains this."
    ),
]
Consumer: TypeAlias = Annotated[
    str, typer.Option("--consumer", metavar="NAME", help="Only those of this subscriber.")
]


def parse_time(text: str | When) -> Any:
    """A time, or a duration back from now, as a time."""
    when = parse_when(text)
    if isinstance(when, str):
        raise typer.BadParameter(f"{text!r} is no time: write 10m or 2026-01-01T00:00Z")
    return datetime.now(UTC) - when if isinstance(when, timedelta) else when


# = None
SinceTime: TypeAlias = Annotated[
    Any,
    typer.Option("--since", parser=parse_time, metavar="TIME", help="Only those that are there since then."),
]
UntilTime: TypeAlias = Annotated[
    Any,
    typer.Option("--until", parser=parse_time, metavar="TIME", help="Only those that were there until then."),
]


class Filters(msgspec.Struct, frozen=True):
    """What a dead letter has to be like; what is empty or None says nothing.

    Attributes:
        ids: one of these.
        last: no later than this ID.
        operation, source, consumer: just this.
        error: contained in the error's text or class.
        since, until: the time.
    """

    ids: list[str] | None = None
    operation: str = ""
    source: str = ""
    error: str = ""
    consumer: str = ""
    since: datetime | None = None
    until: datetime | None = None
    last: str = ""

    def matches(self, letter: DeadLetter) -> bool:
        """Whether a dead letter is like that, its ID aside."""
        if self.last and padded(letter.id) > padded(self.last):
            return False
        if (self.since or self.until) and letter.time is None:
            return False
        return (
            self.operation in ("", letter.operation)
            and self.source in ("", letter.stream)
            and self.consumer in ("", letter.consumer)
            and (self.error in letter.error or self.error in letter.error_type)
            and (self.since is None or letter.time is None or letter.time >= self.since)
            and (self.until is None or letter.time is None or letter.time <= self.until)
        )

    def up_to(self, id: str) -> Filters:
        """The same, and no later than this ID."""
        return msgspec.structs.replace(self, last=id)


def filters_of(
    ids: list[str] | None,
    operation: str = "",
    source: str = "",
    error: str = "",
    consumer: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> Filters:
    """The filters by what was given.

    Raises:
        typer.BadParameter: an ID is none.
    """
    for id in ids or ():
        if parse_id(id) is None:
            raise typer.BadParameter(f"{id!r} is not the ID of an entry", param_hint="--id")
    return Filters(ids or None, operation, source, error, consumer, since, until)
