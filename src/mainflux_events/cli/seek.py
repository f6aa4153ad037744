"""`seek`: a subscriber or a group reads on from somewhere else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import anyio
import typer

from ..cursor import Start, checked_name
from ..errors import ConfigError, EventsError
from .options import DEFAULT_REDIS, PLATFORM, DryRun, Redis, Streams, When, Yes, parse_when
from .output import confirm, make_console, note, shown
from .running import run
from .seeking import apply, busy, plan
from .server import connected
from .statuses import DONE, FAILED, PARTLY

# Seconds between the look and the step, in which a reader that is busy moves its cursor and is noticed.
LOOKED_AT: Final = 1.0

_WARNING: Final = (
    "make sure that no subscriber of this name runs: without a lease it is noticed only while it handles events, goes "
    "on where it is, and stores that"
)


def seek(
    name: Annotated[str, typer.Argument(help="The subscriber's name, or the group's.", show_default=False)],
    to: Annotated[
        When,
        typer.Argument(
            parser=parse_when,
            metavar="TO",
            help="Where to: a duration back from now (10m), a time (2026-01-01T00:00Z), behind the entry of an ID, "
            "earliest, new.",
            show_default=False,
        ),
    ],
    stream: Streams = None,
    group: Annotated[bool, typer.Option("--group", help="It is a consumer group.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    redis: Redis = DEFAULT_REDIS,
) -> int:
    """Have a subscriber or a group read on from somewhere else: back, to handle again, or forward, to leave out.

    It has to be at rest: where a reader is noticed, nothing is moved. What is pending in a group stays so.

    Exit status: 0 if all was moved, or was there already; 1 if nothing was; 3 if some was.

    \b
    Examples:
      mainflux-events seek audit 10m --dry-run
      mainflux-events seek audit 2026-01-01T00:00Z --stream mainflux.things --yes
      mainflux-events seek billing earliest --group --stream orders
    """
    if not group:
        try:
            checked_name(name)
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from None
    return run(show_seek(redis, name, to, stream or PLATFORM, group=group, dry_run=dry_run, yes=yes))


async def show_seek(
    url: str, name: str, to: Start, streams: Sequence[str], *, group: bool, dry_run: bool, yes: bool
) -> int:
    console = make_console()
    async with connected(url) as server:
        found = await plan(server, name, streams, to, datetime.now(UTC), group=group)
        if not found:
            what = "consumer group" if group else "cursor"
            raise EventsError(f"there is no {what} {shown(name)!r} for {', '.join(map(shown, streams))}")
        for each in found:
            console.out(shown(str(each)), highlight=False)
        moves = [each for each in found if each.direction != "nowhere"]
        if dry_run or not moves:
            return DONE
        if not group:
            note(_WARNING)
        if not await confirm("Move?", yes=yes):
            note("nothing was moved")
            return FAILED
        await anyio.sleep(0 if group else LOOKED_AT)
        refused = 0
        for each in moves:
            if why := await apply(server, each):
                refused += 1
                note(busy(each, why))
            else:
                console.out(shown(f"{each.kind} {name} of {each.stream} is at {each.after} now"))
    return DONE if not refused else FAILED if refused == len(moves) else PARTLY
