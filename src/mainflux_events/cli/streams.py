"""`streams`: what streams there are."""

from __future__ import annotations

from typing import Any

from .options import DEFAULT_REDIS, Json, Redis
from .output import make_console, note, print_json, print_table, show_bytes, show_count, time_of_id
from .running import run
from .server import connected, note_the_rest
from .statuses import DONE
from .survey import Stream, cursors_there, streams_there, survey


def streams(redis: Redis = DEFAULT_REDIS, json: Json = False) -> int:
    """List the streams of a server: entries, memory, first and last entry, subscribers and groups.

    \b
    Examples:
      mainflux-events streams
      mainflux-events streams --redis redis://localhost:6379/1 --json
    """
    return run(show_streams(redis, json))


async def show_streams(url: str, as_json: bool) -> int:
    async with connected(url) as server:
        note_the_rest(server)
        found = await survey(server, await streams_there(server), await cursors_there(server))
    if as_json:
        for each in found:
            print_json(json_of(each))
    elif found:
        print_table(make_console(), _COLUMNS, [row_of(each) for each in found])
    else:
        note("there are no streams")
    return DONE


_COLUMNS = ("stream", ">entries", ">memory", "first", "last", "subscribers", "groups")


def row_of(stream: Stream) -> list[str]:
    """The cells of a stream."""
    return [
        stream.stream,
        show_count(stream.entries),
        show_bytes(stream.memory),
        time_of_id(stream.first) or "-",
        time_of_id(stream.last) or "-",
        ", ".join(stream.subscribers) or "-",
        ", ".join(stream.groups) or "-",
    ]


def json_of(stream: Stream) -> dict[str, Any]:
    """A stream as JSON."""
    return {
        "stream": stream.stream,
        "entries": stream.entries,
        "memory": stream.memory,
        "first": stream.first,
        "last": stream.last,
        "first_time": time_of_id(stream.first),
        "last_time": time_of_id(stream.last),
        "added": stream.added,
        "subscribers": stream.subscribers,
        "groups": stream.groups,
    }
