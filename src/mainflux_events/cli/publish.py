"""`publish`: an action from arguments, or events from stdin."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from ..errors import ConfigError, EncodeError, Undelivered
from ..events import Action, Event
from ..hooks import (
    DroppedDetails,
    Hooks,
    LostDetails,
    ReconnectedDetails,
    RetryingDetails,
    UndeliveredDetails,
    logger,
)
from ..link import Server as Place
from ..publisher import Publisher
from .events import NoEvent, class_of, event_of_line, fields_of_arguments, make_event, stream_of
from .options import DEFAULT_REDIS, Modules, Redis, import_modules, parse_when
from .output import make_console, note
from .progress import Progress
from .running import run
from .server import reaching_all
from .statuses import DONE, FAILED, PARTLY
from .stdin import numbered_lines

# Seconds that a signal leaves for what is accepted and not acknowledged yet.
_CLOSE_TIMEOUT: Final = 2.0


def publish(
    operation: Annotated[
        str,
        typer.Argument(help="Such as thing.create; without, events are read from stdin.", show_default=False),
    ] = "",
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="Its fields: text, or JSON where a field is no text."),
    ] = None,
    stream: Annotated[
        str, typer.Option(metavar="KEY", help="The stream.  [default: the platform's for its own actions]")
    ] = "",
    org: Annotated[str, typer.Option(metavar="ID", help="The organisation in which it happened.")] = "",
    group: Annotated[str, typer.Option(metavar="ID", help="The group in which it happened.")] = "",
    user: Annotated[str, typer.Option(metavar="ID", help="The user who acted.")] = "",
    email: Annotated[str, typer.Option(metavar="ADDRESS", help="The user's address.")] = "",
    at: Annotated[str, typer.Option(metavar="TIME", help="When it happened.  [default: now]")] = "",
    modules: Modules = None,
    redis: Redis = DEFAULT_REDIS,
) -> int:
    """Publish an action from the arguments, or events from stdin, one JSON object a line, as tail --json writes them.

    Nothing is trimmed. Each line that is no event, and each event that is not acknowledged, is told on stderr.

    Exit status: 0 if all was acknowledged; 1 if nothing was; 3 if some was.

    \b
    Examples:
      mainflux-events publish thing.create id=t1 group_id=g1 profile_id=p1 name=sensor
      mainflux-events publish group.remove id=g1 'thing_ids=["t1", "t2"]' --org o1 --user u1
      mainflux-events publish < events.jsonl
      mainflux-events publish --stream orders --import my_app.events order.placed order_id=7
    """
    import_modules(modules or [])
    logger.addHandler(logging.NullHandler())  # Reports says it, and in full
    if not operation:
        for name, value in (
            ("--org", org),
            ("--group", group),
            ("--user", user),
            ("--email", email),
            ("--at", at),
        ):
            if value:
                raise typer.BadParameter("events from stdin have their own", param_hint=name)
        return run(publish_lines(redis, stream))
    event = _event(operation, fields or [], org, group, user, email, at)
    stream = stream or stream_of(event.action) or ""
    if not stream:
        raise typer.BadParameter(f"{operation} is not the platform's: name its stream", param_hint="--stream")
    return run(publish_one(redis, stream, event))


def _event(
    operation: str, arguments: Sequence[str], org: str, group: str, user: str, email: str, at: str
) -> Event:
    envelope: dict[str, Any] = {"org_id": org, "group_id": group, "identity": {"id": user, "email": email}}
    if email and not user:
        raise typer.BadParameter("an address goes with a user: say --user", param_hint="--email")
    if at:
        time = parse_when(at)
        if not isinstance(time, datetime):
            raise typer.BadParameter("a time is wanted, such as 2026-01-01T00:00Z", param_hint="--at")
        envelope["occurred_at"] = time.isoformat()
    try:
        action = class_of(operation)
        return make_event(operation, fields_of_arguments(action, arguments), envelope)
    except NoEvent as error:
        raise typer.BadParameter(str(error), param_hint="'[NAME=VALUE]...'") from None


def _publisher(place: Place, stream: str, reports: Reports) -> Publisher:
    try:
        return Publisher(
            place, stream, max_len=None, overflow="wait", close_timeout=_CLOSE_TIMEOUT, hooks=reports
        )
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None


async def publish_one(url: str, stream: str, event: Event) -> int:
    """Publish an event, and print the ID of its entry. Gives the exit status."""
    async with reaching_all(url) as place, _publisher(place, stream, Reports()) as publisher:
        id = await publisher.send(event)
    make_console().out(id, highlight=False)
    return DONE


async def publish_lines(url: str, stream: str) -> int:
    """Publish what stdin has. Gives the exit status.

    Args:
        url: of the server.
        stream: the key of the stream; "" for the platform's.
    """
    reports, tally = Reports(), Tally()
    try:
        async with reaching_all(url) as place, Publishers(place, stream, reports) as publishers:
            with Progress("published") as progress:
                async for number, line in numbered_lines():
                    try:
                        event = event_of_line(line)
                        publisher = await publishers.of(event.action)
                        await publisher.publish(event)
                        tally.accepted += 1
                    except (NoEvent, EncodeError) as error:
                        tally.refused += 1
                        note(f"line {number}: {error}")
                    progress(tally.accepted)
                await publishers.flush()
    finally:
        tally.lost = reports.lost
        note(tally.in_words())
    return tally.status


class Publishers(contextlib.AsyncExitStack):
    """A publisher for each stream that is needed; closed at the end, within a bound.

    Args:
        place: the server, or the cluster.
        stream: the key of the only stream; "" for the platform's.
        reports: who tells of their troubles.
    """

    def __init__(self, place: Place, stream: str, reports: Reports) -> None:
        super().__init__()
        self._place = place
        self._stream = stream
        self._reports = reports
        self._of: dict[str, Publisher] = {}

    async def of(self, action: Action) -> Publisher:
        """The one for an action. NoEvent where it is not known which stream that is for."""
        stream = self._stream or stream_of(action)
        if stream is None:
            raise NoEvent(f"{action.operation} is not the platform's: name its stream by --stream")
        if stream not in self._of:
            publisher = _publisher(self._place, stream, self._reports)
            self._of[stream] = await self.enter_async_context(publisher)
        return self._of[stream]

    async def flush(self) -> None:
        """Wait until all is acknowledged, or given up, which is told then."""
        for publisher in self._of.values():
            with contextlib.suppress(Undelivered):
                await publisher.flush()


class Tally:
    """What became of the lines.

    Attributes:
        accepted: events that were accepted into memory.
        lost: of these, those that were not acknowledged.
        refused: lines that are no events.
    """

    def __init__(self) -> None:
        self.accepted: int = 0
        self.lost: int = 0
        self.refused: int = 0

    @property
    def status(self) -> int:
        """The exit status."""
        wrong = self.lost + self.refused
        return DONE if not wrong else FAILED if self.accepted == self.lost else PARTLY

    def in_words(self) -> str:
        """All of it in a line."""
        parts = [f"{self.accepted - self.lost:,} acknowledged"]
        if self.lost:
            parts.append(f"{self.lost:,} not acknowledged")
        if self.refused:
            parts.append(f"{self.refused:,} lines were no events")
        return ", ".join(parts)


class Reports(Hooks):
    """Says on stderr what is worth knowing while events are published.

    Attributes:
        lost: how many were not acknowledged.
    """

    def __init__(self) -> None:
        self.lost: int = 0

    def dropped(self, details: DroppedDetails) -> None:
        self._lose(details)

    def undelivered(self, details: UndeliveredDetails) -> None:
        self._lose(details)

    def _lose(self, details: LostDetails) -> None:
        self.lost += 1
        note(f"not acknowledged: {details.operation}: {details.reason}")

    def retrying(self, details: RetryingDetails) -> None:
        note(f"tried again in {details.wait:.1f} s: {details.reason}")

    def reconnected(self, details: ReconnectedDetails) -> None:
        note("connected again")
