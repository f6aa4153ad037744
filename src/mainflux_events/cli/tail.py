"""`tail`: what happens, as it happens."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Sequence
from json import dumps
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from ..cursor import Start
from ..events import Event, Identity
from .events import event_to_json, fields_of
from .options import DEFAULT_REDIS, PLATFORM, Json, Modules, Redis, Streams, When, import_modules, parse_when
from .output import make_console, note, print_json, shown, time_of_id
from .running import readable, run
from .server import connected
from .statuses import DONE
from .tailing import Filters, Seen, Tail

Several = list[str] | None


def tail(
    stream: Streams = None,
    since: Annotated[
        When,
        typer.Option(
            parser=parse_when,
            metavar="WHEN",
            help="Where to begin: a duration back from now (10m), a time (2026-01-01T00:00Z), behind the entry of an "
            "ID, earliest, new.",
        ),
    ] = "new",
    operation: Annotated[
        Several, typer.Option(metavar="PATTERN", help="Only these, such as 'thing.*'; may be repeated.")
    ] = None,
    org: Annotated[
        Several, typer.Option(metavar="ID", help="Only of this organisation; may be repeated.")
    ] = None,
    group: Annotated[Several, typer.Option(metavar="ID", help="Only of this group; may be repeated.")] = None,
    thing: Annotated[Several, typer.Option(metavar="ID", help="Only of this thing; may be repeated.")] = None,
    json: Json = False,
    modules: Modules = None,
    redis: Redis = DEFAULT_REDIS,
) -> int:
    """Show events as they are appended, until Ctrl-C.

    It only reads: no cursor is stored, no key is made, and whoever consumes is not disturbed. What was removed before
    it was read is told on stderr, and so are outages, which it rides out.

    \b
    Examples:
      mainflux-events tail
      mainflux-events tail --since 10m --operation 'thing.*' --group g1
      mainflux-events tail --json --since earliest --thing t1 | jq .action
      mainflux-events tail --stream orders --import my_app.events
    """
    import_modules(modules or [])
    filters = Filters(operation or [], org or [], group or [], thing or [])
    return run(show_tail(redis, stream or PLATFORM, since, filters, as_json=json))


async def show_tail(
    url: str, streams: Sequence[str], since: Start, filters: Filters, *, as_json: bool
) -> int:
    """Show what comes until cancelled, or until nobody reads what is written.

    Args:
        url: of the server.
        streams: their keys.
        since: where to begin.
        filters: what is wanted.
        as_json: whether JSON is.
    """
    console = make_console()
    async with connected(url) as server, asyncio.TaskGroup() as tasks:
        tasks.create_task(_until_nobody_reads())
        async for came in Tail(server, list(dict.fromkeys(streams)), since, note):
            wanted = [seen for seen in came if filters.match(seen[0])]
            if as_json:
                for event, error in wanted:
                    print_json(event_to_json(event, error))
            else:
                _show(console, wanted)
    return DONE


async def _until_nobody_reads() -> None:
    """Where the output is a pipe, raise BrokenPipeError as soon as its other end is closed: nothing may ever come."""
    try:
        output = sys.stdout.fileno()
    except OSError:
        return  # it is no file at all
    if stat.S_ISFIFO(os.fstat(output).st_mode):
        await readable(output)
        raise BrokenPipeError


def _show(console: Console, came: Sequence[Seen]) -> None:
    lines = [line_of(event, error) for event, error in came]
    if console.is_terminal:
        for line in lines:
            console.print(line, soft_wrap=True)
    elif lines:
        # What it costs to have every line laid out would be the pace.
        sys.stdout.write("".join(f"{line.plain}\n" for line in lines))
        sys.stdout.flush()


_VERBS: Final = {"create": "green", "update": "yellow", "remove": "red"}


def line_of(event: Event, error: str = "") -> Text:
    """An event in one line: when, what, its fields, where, who. Why it does not decode, if it does not."""
    operation = event.action.operation
    verb = operation.rpartition(".")[2]
    style = next((style for name, style in _VERBS.items() if verb.startswith(name)), "cyan")
    when = (
        time_of_id(event.id)
        if event.occurred_at is None
        else f"{event.occurred_at:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
    )
    line = Text()
    line.append(f"{when or '-':<24}  ", "dim")
    line.append(f"{shown(operation) or '(no operation)'}", f"bold {style}")
    for name, value in fields_of(event.action).items():
        line.append(f"  {shown(name)}=", "dim")
        line.append(shown(_text(value)))
    around = {"org": event.org_id, "group": event.group_id, "by": _who(event.identity)}
    for name, value in around.items():
        if value:
            line.append(f"  {name} {shown(value)}", "dim")
    line.append(f"  {shown(event.stream)} {event.id}", "dim")
    if error:
        line.append(f"  {shown(error)}", "bold red")
    return line


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return dumps(value, ensure_ascii=False)


def _who(identity: Identity) -> str:
    return identity.email or identity.id
