"""`lag`: how far who reads is behind."""

from __future__ import annotations

from typing import Any

import msgspec

from .behind import Behind, look
from .options import DEFAULT_REDIS, AnyStreams, Json, Redis
from .output import make_console, note, print_json, print_table, show_count, show_seconds
from .running import run
from .server import connected, note_the_rest
from .statuses import DONE, PARTLY
from .survey import cursors_there, streams_there


def lag(stream: AnyStreams = None, redis: Redis = DEFAULT_REDIS, json: Json = False) -> int:
    """How far subscribers, consumer groups and their consumers are behind, in entries and in seconds.

    A consumer is behind by what is pending for it. Where the server does not know how many entries are behind a
    place, they are counted, up to 10,000.

    Exit status: 0; 3 if a cursor is corrupt, or ahead of its stream.

    \b
    Examples:
      mainflux-events lag
      mainflux-events lag --stream mainflux.things --json
    """
    return run(show_lag(redis, stream, json))


async def show_lag(url: str, streams: list[str] | None, as_json: bool) -> int:
    async with connected(url) as server:
        note_the_rest(server)
        cursors = await cursors_there(server)
        # A cursor may outlive its stream, and then is behind by nothing, or ahead.
        names = streams or sorted({*await streams_there(server), *(stream for _, stream in cursors)})
        found = await look(server, names, cursors)
    if as_json:
        for each in found:
            print_json(json_of(each))
    elif found:
        print_table(make_console(), COLUMNS, [row_of(each) for each in found])
    else:
        note("nobody reads" + (f" {', '.join(streams)}" if streams else ""))
    troubled = [each for each in found if each.trouble]
    for each in troubled:
        note(f"{each.kind} {each.name} of {each.stream}: {each.trouble}")
    return PARTLY if troubled else DONE


COLUMNS = ("stream", "kind", "name", ">entries", ">behind", ">pending", ">idle", "read up to")


def row_of(behind: Behind) -> list[str]:
    """The cells of one who reads."""
    return [
        behind.stream,
        behind.kind,
        behind.name,
        show_entries(behind),
        show_seconds(behind.seconds),
        show_count(behind.pending),
        show_seconds(behind.idle),
        behind.trouble or behind.position or "-",
    ]


def show_entries(behind: Behind) -> str:
    """How many entries it is behind; where only so many were counted, with a plus."""
    return show_count(behind.entries) if behind.at_least is None else f"{behind.at_least:,}+"


def json_of(behind: Behind) -> dict[str, Any]:
    """One who reads, as JSON."""
    found: dict[str, Any] = msgspec.structs.asdict(behind)
    return found | {"trouble": behind.trouble or None}
